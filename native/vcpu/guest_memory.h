// The two RAM blocks of a machine, for its threads.
#pragma once

#include <cstdint>
#include <utility>

#include "common/content.h"
#include "leased_region.h"

namespace postcopy::guest {

// `ram` begins with the pages of the vCPUs; pages of devices follow. `ledger` holds the version of
// each page of `ram`. Reading either may block the thread.
class GuestMemory {
 public:
  GuestMemory(LeasedRegion ram, LeasedRegion ledger, uint32_t vcpu_pages) noexcept
      : ram_(std::move(ram)), ledger_(std::move(ledger)), vcpu_pages_(vcpu_pages) {}

  uint32_t vcpu_pages() const noexcept { return vcpu_pages_; }
  size_t ram_bytes() const noexcept { return ram_.length_bytes(); }
  size_t ledger_entries() const noexcept { return ledger_.length_bytes() / sizeof(uint32_t); }

  uint64_t* Page(uint32_t page) const noexcept {
    return reinterpret_cast<uint64_t*>(ram_.address() + uint64_t{page} * kPageBytes);
  }
  POSTCOPY_GUEST_RACE uint32_t Version(uint32_t page) const noexcept { return Ledger()[page]; }
  POSTCOPY_GUEST_RACE void SetVersion(uint32_t page, uint32_t version) const noexcept {
    Ledger()[page] = version;
  }

 private:
  uint32_t* Ledger() const noexcept { return reinterpret_cast<uint32_t*>(ledger_.address()); }

  LeasedRegion ram_;
  LeasedRegion ledger_;
  uint32_t vcpu_pages_;
};

}  // namespace postcopy::guest
