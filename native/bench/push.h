// All of RAM from one end to the other, nobody asking for anything.
#pragma once

#include <cstddef>
#include <cstdint>

#include "socket.h"

namespace postcopy::bench {

struct PushOptions {
  bool runs = false;  // one ioctl a run of pages, not one a page
  size_t mib = 0;
  uint32_t zero_percent = 0;
};

void PushSource(const Socket& socket, const PushOptions& options);
void PushDestination(const Socket& socket, const PushOptions& options);

}  // namespace postcopy::bench
