// Statistics of a vCPU. Only its thread writes them; any thread can read them while it runs.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

namespace postcopy::guest {

// There is one writer, so no atomic read-modify-write is needed.
class Counter {
 public:
  uint64_t Get() const noexcept { return value_.load(std::memory_order_relaxed); }
  void Set(uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
  void Add(uint64_t more) noexcept { Set(Get() + more); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Durations of touches in ns: 16 buckets for each power of two, so 6 % wide, up to 2^40 (18 min).
class TouchHistogram {
 public:
  static constexpr size_t kBuckets = 38 * 16;

  static constexpr size_t BucketOf(uint64_t ns) noexcept {
    if (ns < 16) return ns;
    const auto shift = static_cast<size_t>(std::bit_width(ns)) - 5;
    return std::min(kBuckets - 1, shift * 16 + (ns >> shift));
  }

  void Record(uint64_t ns) noexcept { buckets_[BucketOf(ns)].Add(1); }
  uint64_t Get(size_t bucket) const noexcept { return buckets_[bucket].Get(); }
  void Reset() noexcept {
    for (Counter& bucket : buckets_) bucket.Set(0);
  }

 private:
  std::array<Counter, kBuckets> buckets_;
};

struct VcpuStats {
  // Migrate with the guest.
  Counter touches;
  Counter reads;
  Counter writes;
  Counter failed_checks;
  // Valid for this host only.
  Counter blocktime_ns;
  Counter max_touch_ns;
  TouchHistogram histogram;
  // The current touch: page + 1, or 0 for none, and when it began (CLOCK_MONOTONIC).
  Counter touching;
  Counter touching_since_ns;
};

}  // namespace postcopy::guest
