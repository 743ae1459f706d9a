// Pushes all of RAM from the source to the destination, without page requests.
#pragma once

#include <cstddef>
#include <cstdint>

#include "socket.h"

namespace postcopy::floor {

struct PushOptions {
  bool runs = false;  // one ioctl per run of pages, not per page
  size_t mib = 0;
  uint32_t zero_percent = 0;
};

void PushSource(const Socket& socket, const PushOptions& options);
void PushDestination(const Socket& socket, const PushOptions& options);

}  // namespace postcopy::floor
