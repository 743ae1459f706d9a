// CLOCK_MONOTONIC, which is the same for all processes of the host.
#pragma once

#include <cstdint>
#include <ctime>

namespace postcopy::floor {

inline uint64_t NowNs() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace postcopy::floor
