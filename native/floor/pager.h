// A userfaultfd for one range, with the two ioctls that place pages. The class Userfaultfd of the
// addon does the same, but depends on Node-API, which this program does not have.
#pragma once

#include <cstdint>

#include "common/sys.h"
#include "common/uapi.h"

namespace postcopy::floor {

class Pager {
 public:
  // Registers for missing faults.
  Pager(uint64_t start, uint64_t length) noexcept;

  int fd() const noexcept { return fd_.get(); }

  // Bytes done, which may be fewer than requested, or -errno.
  long Copy(uint64_t dst, uint64_t src, uint64_t length, uint64_t mode) const noexcept;
  long Zeropage(uint64_t start, uint64_t length, uint64_t mode) const noexcept;

 private:
  UniqueFd fd_;
};

}  // namespace postcopy::floor
