// The received records of one call, and a cursor in them.
#pragma once

#include "records.h"

namespace postcopy {

using Bytes = std::span<uint8_t>;

// Pages that a loop took out of records.
struct PageCounts {
  size_t normal = 0;
  size_t zero = 0;
};

struct Incoming {
  Bytes bytes;  // up to the end that the caller gave
  size_t at = 0;
  uint64_t used_length = 0;

  // The length of the next record; 0 if the loop must stop, see ParseRecord.
  size_t Peek(Record* record) const noexcept {
    return ParseRecord(bytes.subspan(at), used_length, record);
  }
};

}  // namespace postcopy
