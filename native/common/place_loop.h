// The receiving side after the switchover: places records as pages, for which threads may wait.
#pragma once

#include <cerrno>
#include <cstring>

#include "bitmap.h"
#include "incoming.h"

namespace postcopy {

enum class PlaceStop : uint8_t { kNone = 0, kDuplicate = 1, kIoctl = 2 };

struct Placed {
  size_t normal = 0;
  size_t zero = 0;
  size_t ioctls = 0;
  long error = 0;
  uint64_t offset = 0;
  PlaceStop stop = PlaceStop::kNone;
};

// `Pager` has Copy and Zeropage as Userfaultfd has.
template <typename Pager>
class PlaceLoop {
 public:
  PlaceLoop(const Pager& uffd, uint64_t address, Bitmap received, Incoming* in) noexcept
      : uffd_(uffd), address_(address), received_(received), in_(*in) {}

  // Stops before a record that cannot be placed. That record and all later ones keep their bytes.
  Placed Run() noexcept {
    while (placed_.stop == PlaceStop::kNone) {
      Record first;
      if (in_.Peek(&first) == 0) break;
      if (received_.Test(first.offset / kTargetPageBytes)) {
        Fail(PlaceStop::kDuplicate, 0, first.offset);
      } else if (first.zero) {
        PlaceZeros(first.offset);
      } else {
        PlacePages(first.offset);
      }
    }
    return placed_;
  }

 private:
  void Fail(PlaceStop stop, long error, uint64_t offset) noexcept {
    placed_.stop = stop;
    placed_.error = error;
    placed_.offset = offset;
  }

  // The number of records from the cursor on that continue the run at `offset`. With `gather`,
  // moves their payloads next to each other, so that one UFFDIO_COPY places them.
  size_t MeasureRun(uint64_t offset, bool zero, bool gather) noexcept {
    const size_t start = in_.at;
    const size_t step = zero ? kZeroRecordBytes : kPageRecordBytes;
    uint8_t* base = in_.bytes.data() + start + kRecordHeaderBytes;
    size_t count = 0;
    Record record;
    for (; in_.Peek(&record) != 0; in_.at += step, ++count) {
      const uint64_t expected = offset + count * kTargetPageBytes;
      if (record.zero != zero || record.offset != expected) break;
      if (received_.Test(expected / kTargetPageBytes)) break;
      if (gather && count > 0)
        std::memmove(base + count * kTargetPageBytes, base + count * step, kTargetPageBytes);
    }
    in_.at = start;
    return count;
  }

  // Undoes the gathering of records [from, count), from the last to the first, because each one
  // moves towards the end.
  void Scatter(uint64_t offset, size_t from, size_t count) noexcept {
    uint8_t* base = in_.bytes.data() + in_.at + kRecordHeaderBytes;
    for (size_t i = count; i-- > from;) {
      uint8_t* payload = base + i * kPageRecordBytes;
      std::memmove(payload, base + i * kTargetPageBytes, kTargetPageBytes);
      StoreBigEndian(payload - kRecordHeaderBytes,
                     (offset + i * kTargetPageBytes) | kFlagPage | kFlagContinue);
    }
  }

  // Calls fill(done) until `length` bytes are placed or it fails. Returns the bytes placed.
  template <typename FillFrom>
  uint64_t Fill(uint64_t offset, uint64_t length, FillFrom fill) noexcept {
    uint64_t done = 0;
    while (done < length) {
      const long result = fill(done);
      ++placed_.ioctls;
      if (result <= 0) {
        // 0 bytes and no error: an event is pending, and must be read before the next ioctl.
        Fail(PlaceStop::kIoctl, result == 0 ? EAGAIN : -result, offset + done);
        break;
      }
      done += static_cast<uint64_t>(result);
    }
    received_.SetRange(offset / kTargetPageBytes, (offset + done) / kTargetPageBytes);
    return done;
  }

  void PlacePages(uint64_t offset) noexcept {
    const size_t count = MeasureRun(offset, false, true);
    const uint64_t source =
        reinterpret_cast<uintptr_t>(in_.bytes.data() + in_.at + kRecordHeaderBytes);
    const uint64_t done = Fill(offset, count * kTargetPageBytes, [&](uint64_t from) noexcept {
      return uffd_.Copy(address_ + offset + from, source + from, count * kTargetPageBytes - from,
                        0);
    });
    const size_t pages = done / kTargetPageBytes;
    if (pages < count) Scatter(offset, pages, count);
    placed_.normal += pages;
    in_.at += pages * kPageRecordBytes;
  }

  void PlaceZeros(uint64_t offset) noexcept {
    const size_t count = MeasureRun(offset, true, false);
    const uint64_t done = Fill(offset, count * kTargetPageBytes, [&](uint64_t from) noexcept {
      return uffd_.Zeropage(address_ + offset + from, count * kTargetPageBytes - from, 0);
    });
    const size_t pages = done / kTargetPageBytes;
    placed_.zero += pages;
    in_.at += pages * kZeroRecordBytes;
  }

  const Pager& uffd_;
  uint64_t address_;
  Bitmap received_;
  Incoming& in_;
  Placed placed_;
};

}  // namespace postcopy
