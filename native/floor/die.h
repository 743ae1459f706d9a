// Ends a process of the floor after an error: one sentence on stderr, and no destructor that could
// wait for a thread that is blocked in a fault.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace postcopy::floor {

inline constexpr int kExitFailed = 1;
// The peer has closed the connection, and has printed the reason itself.
inline constexpr int kExitPeerGone = 2;

[[noreturn]] inline void Die(const char* sentence) noexcept {
  // An error is ignored, because stderr may be closed.
  static_cast<void>(std::fprintf(stderr, "%s\n", sentence));
  ::_exit(kExitFailed);
}

[[noreturn]] inline void Die(const char* what, long error) noexcept {
  static_cast<void>(
      std::fprintf(stderr, "%s: %s.\n", what, std::strerror(static_cast<int>(error))));
  ::_exit(kExitFailed);
}

}  // namespace postcopy::floor
