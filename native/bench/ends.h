// Two processes joined by TCP over loopback, and this one, which only waits for them.
#pragma once

#include <functional>

#include "socket.h"

namespace postcopy::bench {

using End = std::function<void(const Socket&)>;

// The exit status for this process. Neither child outlives it, nor the other one's failure.
int RunEnds(const End& source, const End& destination);

}  // namespace postcopy::bench
