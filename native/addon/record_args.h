// The common arguments of the four loops over received records: load, place, store, assemble.
#pragma once

#include "common/args.h"
#include "common/bitmap.h"

namespace postcopy {

// (..., usedLength, ...): whole pages, and a bitmap with a bit for each of them.
inline uint64_t UsedLengthOf(Args& args, size_t index, uint64_t most) {
  const uint64_t used_length = args.Number(index, "usedLength");
  args.Require(used_length % kTargetPageBytes == 0 && used_length <= most, "usedLength",
               "a multiple of 4096 and inside the memory");
  return used_length;
}

inline Bitmap BitmapOf(Args& args, size_t index, const char* name, uint64_t used_length) {
  const Bytes bits = args.Uint8s(index, name);
  args.Require(bits.size() * 8 >= used_length / kTargetPageBytes, name, "a bit per target page");
  return Bitmap(bits);
}

// (..., bytes, start, end, ...)
inline Incoming IncomingOf(Args& args, size_t index, uint64_t used_length) {
  const Bytes bytes = args.Uint8s(index, "bytes");
  const uint64_t start = args.Number(index + 1, "start");
  const uint64_t end = args.Number(index + 2, "end");
  args.Require(start <= end && end <= bytes.size(), "start and end", "ascending and inside bytes");
  if (!args.ok()) return {};
  return {.bytes = bytes.first(end), .at = start, .used_length = used_length};
}

}  // namespace postcopy
