// Guest RAM of one end: anonymous memory, with the content of the guest that our own benchmark
// migrates.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "common/content.h"
#include "common/records.h"
#include "common/uapi.h"
#include "common/workload.h"
#include "die.h"

namespace postcopy::floor {

class Ram {
 public:
  Ram(size_t mib, uint32_t zero_percent) noexcept
      : length_(mib << 20), workload_{.fill_percent = 100 - zero_percent} {
    void* address =
        ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) Die("There is no memory for the guest", errno);
    address_ = static_cast<uint8_t*>(address);
  }
  Ram(const Ram&) = delete;
  Ram& operator=(const Ram&) = delete;
  ~Ram() { ::munmap(address_, length_); }

  size_t length() const noexcept { return length_; }
  uint32_t pages() const noexcept { return static_cast<uint32_t>(length_ / kTargetPageBytes); }
  uint64_t address() const noexcept { return reinterpret_cast<uintptr_t>(address_); }
  const uint8_t* Page(uint32_t page) const noexcept {
    return address_ + size_t{page} * kTargetPageBytes;
  }

  // Reads the pages that stay zero, so that they are mapped as in a guest that never wrote them.
  void Fill() noexcept {
    for (uint32_t page = 0; page < pages(); ++page) {
      if (guest::FilledAtStart(workload_, page)) {
        guest::WritePage(Words(page), IdentityOf(page));
      } else {
        Touch(page);
      }
    }
  }

  // Warms the memory up: the first access to memory that an idle virtual machine has returned to
  // its host is slow.
  void Populate() noexcept {
    if (::madvise(address_, length_, uapi::kMadvPopulateWrite) == 0) return;
    // Before Linux 5.14. Slower if the hypervisor takes part in each fault.
    for (size_t at = 0; at < length_; at += kTargetPageBytes) {
      static_cast<volatile uint8_t*>(address_)[at] = 0;
    }
  }

  // Call it right before the measurement, because free memory does not stay warm for long.
  void Discard() noexcept {
    if (::madvise(address_, length_, uapi::kMadvDontneed) != 0) Die("MADV_DONTNEED", errno);
  }

  // Blocks the thread if the page is missing.
  void Touch(uint32_t page) const noexcept {
    static_cast<void>(*static_cast<const volatile uint8_t*>(Page(page)));
  }

  // The received page must be the one that was sent: a floor that loses pages would prove nothing.
  void Verify(uint32_t page) const noexcept {
    if (!guest::PageMatches(Words(page), IdentityOf(page))) {
      Die("A page at the destination is not what the source sent: this is a bug.");
    }
  }

 private:
  uint64_t* Words(uint32_t page) const noexcept {
    return reinterpret_cast<uint64_t*>(address_ + size_t{page} * kTargetPageBytes);
  }

  guest::PageIdentity IdentityOf(uint32_t page) const noexcept {
    return {.key = key_,
            .page = page,
            .version = guest::FilledAtStart(workload_, page) ? 1U : 0U,
            .link = page};
  }

  size_t length_;
  guest::Workload workload_;
  uint64_t key_ = guest::ContentKey(0, guest::Block::kRam);
  uint8_t* address_ = nullptr;
};

}  // namespace postcopy::floor
