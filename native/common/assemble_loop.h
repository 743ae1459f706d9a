// The assembly of host pages that are larger than a target page.
#pragma once

#include <cstring>

#include "bitmap.h"
#include "incoming.h"

namespace postcopy {

// The Int32Array has: index of the host page (or -1), number of target pages seen, number of those
// that are not zero, then a bit for each target page seen.
class AssembleLoop {
 public:
  enum Stop : uint8_t { kNone = 0, kOtherHostPage = 1, kDuplicate = 2 };
  static constexpr size_t kHeaderWords = 3;

  static size_t Words(size_t host_pages) noexcept { return kHeaderWords + (host_pages + 31) / 32; }

  AssembleLoop(Bytes staging, std::span<int32_t> state) noexcept
      : staging_(staging),
        state_(state),
        host_pages_(staging.size() / kTargetPageBytes),
        seen_(Bytes(reinterpret_cast<uint8_t*>(&state[kHeaderWords]), (host_pages_ + 7) / 8)) {}

  bool Complete() const noexcept { return state_[1] >= static_cast<int32_t>(host_pages_); }

  // Stops after the record that completes the host page, or before one that does not belong to it.
  Stop Run(Bitmap received, Incoming* in, PageCounts* loaded) noexcept {
    Record record;
    for (size_t length = in->Peek(&record); length != 0; length = in->Peek(&record)) {
      const size_t page = record.offset / kTargetPageBytes;
      const auto host_page = static_cast<int32_t>(page / host_pages_);
      if (received.Test(page)) return kDuplicate;
      if (state_[0] < 0) Begin(host_page);
      if (state_[0] != host_page) return kOtherHostPage;
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
        ++state_[2];
      }
      ++state_[1];
      in->at += length;
      if (Complete()) break;
    }
    return kNone;
  }

 private:
  void Begin(int32_t host_page) noexcept {
    state_[0] = host_page;
    state_[1] = state_[2] = 0;
    seen_.ClearRange(0, host_pages_);
  }

  Bytes staging_;
  std::span<int32_t> state_;
  size_t host_pages_;
  Bitmap seen_;
};

}  // namespace postcopy
