// Two processes connected by TCP over loopback, and this one, which only waits for them.
#pragma once

#include <functional>

#include "socket.h"

namespace postcopy::floor {

using End = std::function<void(const Socket&)>;

// Returns the exit status for this process. Both children end if it ends or if one of them fails.
int RunEnds(const End& source, const End& destination);

}  // namespace postcopy::floor
