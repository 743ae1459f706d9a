// The assembly of host pages that are larger than a target page.
#pragma once

#include <cstring>

#include "bitmap.h"
#include "incoming.h"
#include "layout.h"

namespace postcopy {

// The head of the Int32Array: index of the host page (or -1), number of target pages seen. A bit
// for each target page seen follows.
inline constexpr RowLayout kAssembly{"assembly", Fields{"hostPage", "seenPages"}};

class AssembleLoop {
 public:
  enum Stop : uint8_t { kNone = 0, kOtherHostPage = 1, kDuplicate = 2 };
  static size_t Words(size_t host_pages) noexcept { return Head::kStride + (host_pages + 31) / 32; }

  AssembleLoop(Bytes staging, std::span<int32_t> state) noexcept
      : staging_(staging),
        head_(state.data()),
        host_pages_(staging.size() / kTargetPageBytes),
        seen_(Bytes(reinterpret_cast<uint8_t*>(&state[Head::kStride]), (host_pages_ + 7) / 8)) {}

  bool Complete() const noexcept {
    return head_.Get<"seenPages">() >= static_cast<int32_t>(host_pages_);
  }

  // Stops after the record that completes the host page, or before one that does not belong to it.
  Stop Run(Bitmap received, Incoming* in, PageCounts* loaded) noexcept {
    Record record;
    for (size_t length = in->Peek(&record); length != 0; length = in->Peek(&record)) {
      const size_t page = record.offset / kTargetPageBytes;
      const auto host_page = static_cast<int32_t>(page / host_pages_);
      if (received.Test(page)) return kDuplicate;
      if (head_.Get<"hostPage">() < 0) Begin(host_page);
      if (head_.Get<"hostPage">() != host_page) return kOtherHostPage;
      const size_t index = page % host_pages_;
      if (seen_.Test(index)) return kDuplicate;
      seen_.Set(index);
      uint8_t* to = staging_.data() + index * kTargetPageBytes;
      if (record.zero) {
        std::memset(to, 0, kTargetPageBytes);
        ++loaded->zero;
      } else {
        std::memcpy(to, in->bytes.data() + in->at + kRecordHeaderBytes, kTargetPageBytes);
        ++loaded->normal;
      }
      head_.Set<"seenPages">(head_.Get<"seenPages">() + 1);
      in->at += length;
      if (Complete()) break;
    }
    return kNone;
  }

 private:
  using Head = Row<kAssembly, int32_t>;

  void Begin(int32_t host_page) noexcept {
    head_.Set<"hostPage">(host_page);
    head_.Set<"seenPages">(0);
    seen_.ClearRange(0, host_pages_);
  }

  Bytes staging_;
  Head head_;
  size_t host_pages_;
  Bitmap seen_;
};

}  // namespace postcopy
