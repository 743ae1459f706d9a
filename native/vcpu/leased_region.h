// A share of another addon's mapping, which stays mapped until the last share is released.
#pragma once

#include <utility>

#include "common/region_lease.h"

namespace postcopy::guest {

class LeasedRegion {
 public:
  explicit LeasedRegion(const RegionLease& lease) noexcept
      : address_(lease.address),
        length_bytes_(lease.length_bytes),
        retained_(lease.retain(lease.owner)),
        release_(lease.release) {}
  LeasedRegion(LeasedRegion&& other) noexcept
      : address_(other.address_),
        length_bytes_(other.length_bytes_),
        retained_(std::exchange(other.retained_, nullptr)),
        release_(other.release_) {}
  LeasedRegion(const LeasedRegion&) = delete;
  LeasedRegion& operator=(const LeasedRegion&) = delete;
  LeasedRegion& operator=(LeasedRegion&&) = delete;
  ~LeasedRegion() {
    if (retained_ != nullptr) release_(retained_);
  }

  // False if the region was closed: there is no mapping.
  explicit operator bool() const noexcept { return retained_ != nullptr; }
  uint8_t* address() const noexcept { return address_; }
  size_t length_bytes() const noexcept { return length_bytes_; }

 private:
  uint8_t* address_;
  size_t length_bytes_;
  void* retained_;
  void (*release_)(void* retained);
};

}  // namespace postcopy::guest
