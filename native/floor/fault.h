// Missing pages, one at a time: measures how long a thread waits for each.
#pragma once

#include <cstddef>

#include "socket.h"

namespace postcopy::floor {

struct FaultOptions {
  size_t count = 0;
  size_t mib = 0;
};

void FaultSource(const Socket& socket, const FaultOptions& options);
void FaultDestination(const Socket& socket, const FaultOptions& options);

}  // namespace postcopy::floor
