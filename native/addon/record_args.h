// The common arguments of the four loops over received records: load, place, store, assemble.
#pragma once

#include "common/args.h"
#include "common/bitmap.h"
#include "common/call_numbers.h"

namespace postcopy {

// The numbers of such a call: (..., bytes, numbers).
template <const auto& kLayout>
class RecordNumbers : public CallNumbers<kLayout> {
 public:
  using CallNumbers<kLayout>::CallNumbers;

  // Whole pages.
  uint64_t UsedLength(uint64_t most) {
    const uint64_t used_length = this->template Number<"usedLength">();
    this->args_.Require(used_length % kTargetPageBytes == 0 && used_length <= most, "usedLength",
                        "a multiple of 4096 and inside the memory");
    return used_length;
  }

  Incoming Records(size_t bytes_index, uint64_t used_length) {
    const Bytes bytes = this->args_.Uint8s(bytes_index, "bytes");
    const uint64_t start = this->template Number<"start">();
    const uint64_t end = this->template Number<"end">();
    this->args_.Require(start <= end && end <= bytes.size(), "start and end",
                        "ascending and inside bytes");
    if (!this->args_.ok()) return {};
    return {.bytes = bytes.first(end), .at = start, .used_length = used_length};
  }

  void SetCounts(size_t normal, size_t zero) {
    this->template Set<"normalPages">(normal);
    this->template Set<"zeroPages">(zero);
  }
};

// A bit for each page of the block.
inline Bitmap BitmapOf(Args& args, size_t index, const char* name, uint64_t used_length) {
  const Bytes bits = args.Uint8s(index, name);
  args.Require(bits.size() * 8 >= used_length / kTargetPageBytes, name, "a bit per target page");
  return Bitmap(bits);
}

}  // namespace postcopy
