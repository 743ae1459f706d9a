// The receiving side before the switchover.
#pragma once

#include <cstring>

#include "bitmap.h"
#include "incoming.h"

namespace postcopy {

// With `emptied`, a page that was not received is zero already: a zero record does not touch it, so
// an idle guest's free memory costs nothing. `zeroed`: pages that were received and are known to be
// zeros, over which no zeros are written.
class LoadLoop {
 public:
  LoadLoop(uint8_t* memory, bool emptied, Bitmap received, Bitmap zeroed, Incoming* in) noexcept
      : memory_(memory), emptied_(emptied), received_(received), zeroed_(zeroed), in_(*in) {}

  PageCounts Run() noexcept {
    PageCounts loaded;
    Record record;
    for (size_t length = in_.Peek(&record); length != 0; length = in_.Peek(&record)) {
      const size_t page = record.offset / kTargetPageBytes;
      if (record.zero) {
        if ((received_.Test(page) || !emptied_) && !zeroed_.Test(page))
          std::memset(memory_ + record.offset, 0, kTargetPageBytes);
        zeroed_.Set(page);
        ++loaded.zero;
      } else {
        std::memcpy(memory_ + record.offset, in_.bytes.data() + in_.at + kRecordHeaderBytes,
                    kTargetPageBytes);
        zeroed_.Clear(page);
        ++loaded.normal;
      }
      received_.Set(page);
      in_.at += length;
    }
    return loaded;
  }

 private:
  uint8_t* memory_;
  bool emptied_;
  Bitmap received_;
  Bitmap zeroed_;
  Incoming& in_;
};

}  // namespace postcopy
