// Receiving side before the switch, and the assembly of host pages that are larger than a target
// page.
#include <cstring>

#include "callbacks.h"
#include "receive.h"
#include "region.h"

namespace postcopy {

namespace {

struct Loaded {
  size_t normal = 0;
  size_t zero = 0;
};

// A page that never held anything is zero already, and stays untouched: an idle guest's free memory
// costs nothing. `zeroed` says "received, and known to be zeros", so that zeros are not written
// over zeros.
Loaded LoadRecords(uint8_t* memory, Bitmap received, Bitmap zeroed, Incoming* in) noexcept {
  Loaded loaded;
  Record record;
  for (size_t length = in->Peek(&record); length != 0; length = in->Peek(&record)) {
    const size_t page = record.offset / kTargetPageBytes;
    if (record.zero) {
      if (received.Test(page) && !zeroed.Test(page))
        std::memset(memory + record.offset, 0, kTargetPageBytes);
      zeroed.Set(page);
      ++loaded.zero;
    } else {
      std::memcpy(memory + record.offset, in->bytes.data() + in->at + kRecordHeaderBytes,
                  kTargetPageBytes);
      zeroed.Clear(page);
      ++loaded.normal;
    }
    received.Set(page);
    in->at += length;
  }
  return loaded;
}

// Int32Array: host page (or -1), target pages seen, of these not zero, then a bit for each target
// page seen.
class Assembly {
 public:
  enum Stop { kNone = 0, kOtherHostPage = 1, kDuplicate = 2 };
  static constexpr size_t kHeaderWords = 3;

  static size_t Words(size_t host_pages) noexcept { return kHeaderWords + (host_pages + 31) / 32; }

  Assembly(Bytes staging, std::span<int32_t> state) noexcept
      : staging_(staging),
        state_(state),
        host_pages_(staging.size() / kTargetPageBytes),
        seen_(Bytes(reinterpret_cast<uint8_t*>(&state[kHeaderWords]), (host_pages_ + 7) / 8)) {}

  bool Complete() const noexcept { return state_[1] >= static_cast<int32_t>(host_pages_); }

  // Stops behind the record that completes the host page, or before one that does not belong to it.
  Stop Run(Bitmap received, Incoming* in, Loaded* loaded) noexcept {
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

void Report(std::span<double> result, const Loaded& loaded) noexcept {
  result[0] = static_cast<double>(loaded.normal);
  result[1] = static_cast<double>(loaded.zero);
}

}  // namespace

// (region, usedLength, received, zeroed, bytes, start, end, result): bytes consumed, or -errno.
Napi::Value LoadRecords(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto region = args.Object<Region>(0, "region");
  const uint64_t used_length = UsedLengthOf(args, 1, args.ok() ? region->length() : 0);
  const Bitmap received = BitmapOf(args, 2, "received", used_length);
  const Bitmap zeroed = BitmapOf(args, 3, "zeroed", used_length);
  Incoming in = IncomingOf(args, 4, used_length);
  const std::span<double> result = args.Float64s(7, "result", 2);
  if (!args.ok()) return {};
  if (!region->writable()) return Result(args, -EACCES);
  const size_t start = in.at;
  Report(result, LoadRecords(region->address(), received, zeroed, &in));
  return Result(args, static_cast<int64_t>(in.at - start));
}

// (staging, state, usedLength, received, bytes, start, end, result): bytes consumed.
Napi::Value AssembleRecords(const Napi::CallbackInfo& info) {
  Args args(info);
  const Bytes staging = args.Uint8s(0, "staging");
  args.Require(!staging.empty() && staging.size() % kTargetPageBytes == 0, "staging",
               "one host page long");
  const auto state = args.Int32s(1, "state", Assembly::Words(staging.size() / kTargetPageBytes));
  const uint64_t used_length = UsedLengthOf(args, 2, uint64_t{INT32_MAX} * kTargetPageBytes);
  const Bitmap received = BitmapOf(args, 3, "received", used_length);
  Incoming in = IncomingOf(args, 4, used_length);
  const std::span<double> result = args.Float64s(7, "result", 3);
  if (!args.ok()) return {};
  args.Require(used_length % staging.size() == 0, "usedLength", "whole host pages");
  if (!args.ok()) return {};
  const size_t start = in.at;
  Loaded loaded;
  result[2] = Assembly(staging, state).Run(received, &in, &loaded);
  Report(result, loaded);
  return Result(args, static_cast<int64_t>(in.at - start));
}

}  // namespace postcopy
