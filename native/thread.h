// Threads that nobody joins.
#pragma once

#include <functional>
#include <string>

namespace postcopy::guest {

// Runs `body` on a new detached thread with every signal blocked; 0 or -errno.
//
// Detached, since a thread parked on a missing page ends only when somebody else serves that page:
// who joined it might wait for ever, and exit would hang. So each thread owns a share of what it
// uses, and the last one to leave frees it; a parked one keeps its mapping until the process ends.
//
// Signals are for the main thread: one delivered to a parked thread would only repeat its fault.
int StartDetachedThread(const std::string& name, std::function<void()> body) noexcept;

}  // namespace postcopy::guest
