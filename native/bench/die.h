// How an end of the floor gives up: one sentence on stderr, and no destructor that could wait for a
// thread that is parked on a fault.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace postcopy::bench {

inline constexpr int kExitFailed = 1;
// The other end has closed the connection: it has said why itself.
inline constexpr int kExitPeerGone = 2;

[[noreturn]] inline void Die(const char* sentence) noexcept {
  // Nothing is left to do where stderr is closed.
  static_cast<void>(std::fprintf(stderr, "%s\n", sentence));
  ::_exit(kExitFailed);
}

[[noreturn]] inline void Die(const char* what, long error) noexcept {
  static_cast<void>(
      std::fprintf(stderr, "%s: %s.\n", what, std::strerror(static_cast<int>(error))));
  ::_exit(kExitFailed);
}

}  // namespace postcopy::bench
