// Writes received records to a sparse file instead of memory.
#pragma once

#include <fcntl.h>
#include <sys/uio.h>

#include <array>

#include "bitmap.h"
#include "incoming.h"
#include "sys.h"

namespace postcopy {

struct Stored {
  size_t normal = 0;
  size_t zero = 0;
  long error = 0;
  uint64_t offset = 0;
};

inline constexpr std::array<uint8_t, kTargetPageBytes> kZeroPage{};

class StoreLoop {
 public:
  StoreLoop(int fd, Bitmap received, Bitmap zeroed, Incoming* in) noexcept
      : fd_(fd), received_(received), zeroed_(zeroed), in_(*in) {}

  Stored Run() noexcept {
    Record record;
    while (stored_.error == 0 && in_.Peek(&record) != 0) {
      if (record.zero) {
        StoreZero(record.offset);
      } else {
        StoreRun(record.offset);
      }
    }
    return stored_;
  }

 private:
  static constexpr size_t kMostPages = 256;

  void Fail(long error, uint64_t offset) noexcept {
    stored_.error = error;
    stored_.offset = offset;
  }

  // An unwritten page is a hole, which reads as zeros. A written page becomes a hole again.
  void StoreZero(uint64_t offset) noexcept {
    const size_t page = offset / kTargetPageBytes;
    if (received_.Test(page) && !zeroed_.Test(page)) {
      long result = CountOrErrnoUninterrupted([&]() noexcept {
        return ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           static_cast<off_t>(offset), kTargetPageBytes);
      });
      // Not every file system supports holes.
      if (result == -EOPNOTSUPP) result = Write(offset, kZeroPage.data());
      if (result < 0) return Fail(-result, offset);
    }
    zeroed_.Set(page);
    received_.Set(page);
    ++stored_.zero;
    in_.at += kZeroRecordBytes;
  }

  // Writes a whole page. Returns 0, or -errno.
  long Write(uint64_t offset, const uint8_t* page) const noexcept {
    for (size_t done = 0; done < kTargetPageBytes;) {
      const long written = CountOrErrnoUninterrupted([&]() noexcept {
        return ::pwrite(fd_, page + done, kTargetPageBytes - done,
                        static_cast<off_t>(offset + done));
      });
      if (written <= 0) return written < 0 ? written : -ENOSPC;
      done += static_cast<size_t>(written);
    }
    return 0;
  }

  // Writes records of consecutive pages with one call, directly from the receive buffer.
  void StoreRun(uint64_t offset) noexcept {
    std::array<iovec, kMostPages> parts;
    size_t count = 0;
    const size_t start = in_.at;
    Record record;
    for (; count < kMostPages && in_.Peek(&record) != 0; in_.at += kPageRecordBytes, ++count) {
      if (record.zero || record.offset != offset + count * kTargetPageBytes) break;
      parts[count] = {.iov_base = in_.bytes.data() + in_.at + kRecordHeaderBytes,
                      .iov_len = kTargetPageBytes};
    }
    in_.at = start;
    const long written = CountOrErrnoUninterrupted([&]() noexcept {
      return ::pwritev(fd_, parts.data(), static_cast<int>(count), static_cast<off_t>(offset));
    });
    // A short write is no error: the next call will return the reason. If only a part of the first
    // page was written, its rest is written here.
    size_t pages = written < 0 ? 0 : static_cast<size_t>(written) / kTargetPageBytes;
    if (pages == 0) {
      const long result =
          written < 0 ? written : Write(offset, static_cast<uint8_t*>(parts[0].iov_base));
      if (result < 0) return Fail(-result, offset);
      pages = 1;
    }
    received_.SetRange(offset / kTargetPageBytes, offset / kTargetPageBytes + pages);
    zeroed_.ClearRange(offset / kTargetPageBytes, offset / kTargetPageBytes + pages);
    stored_.normal += pages;
    in_.at += pages * kPageRecordBytes;
  }

  int fd_;
  Bitmap received_;
  Bitmap zeroed_;
  Incoming& in_;
  Stored stored_;
};

}  // namespace postcopy
