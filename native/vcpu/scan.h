// Scans over all of guest RAM: the first fill, and the check that no page was lost or damaged.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "common/content.h"
#include "common/workload.h"
#include "guest_memory.h"
#include "vcpu.h"

namespace postcopy::guest {

// A page of `ram` that a device owns, with the checksum that it must have.
struct SealedPage {
  uint32_t page;
  uint32_t checksum;
};

struct ScanControl {
  Counter pages;  // done so far
  std::atomic<bool> cancelled{false};

  // Counts a page; returns false if the scan must stop.
  bool Step() noexcept {
    pages.Add(1);
    return !cancelled.load(std::memory_order_relaxed);
  }
};

struct ScanResult {
  bool complete = false;
  uint64_t pages = 0;
  std::array<uint64_t, kVerdicts> counts{};
  std::vector<Finding> findings;  // the first few

  void Add(const Finding& finding);
};

inline constexpr size_t kMaxFindings = 64;

// Arguments for the scan of one vCPU's pages.
struct ScanSlice {
  Slice slice;
  uint64_t key;
  uint64_t writes;  // since the first fill, including it: the sum of the pages' versions
};

// Writes version 1 of every page that the workload fills; returns their number.
uint64_t FillSlice(const GuestMemory& memory, const Workload& workload, const ScanSlice& slice,
                   ScanControl& control) noexcept;

void VerifySlice(const GuestMemory& memory, const ScanSlice& slice, ScanControl& control,
                 ScanResult& result);
// Verifies pages of devices, and ledger entries that belong to no vCPU.
void VerifyRest(const GuestMemory& memory, const std::vector<SealedPage>& sealed,
                ScanControl& control, ScanResult& result);

}  // namespace postcopy::guest
