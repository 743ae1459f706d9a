// Threads of the addons: each with a small stack, and with every signal blocked. Signals are for
// the main thread: one delivered to a parked thread would only repeat its fault.
#pragma once

#include <pthread.h>

#include <functional>
#include <string>

namespace postcopy {

// Runs `body` on a new detached thread; 0 or -errno.
//
// Detached, since a thread parked on a missing page ends only when somebody else serves that page:
// who joined it might wait for ever, and exit would hang. So each thread owns a share of what it
// uses, and the last one to leave frees it; a parked one keeps its mapping until the process ends.
int StartDetachedThread(const std::string& name, std::function<void()> body) noexcept;

// The same on a thread that must be joined, and that never touches guest memory.
int StartJoinableThread(const std::string& name, std::function<void()> body,
                        pthread_t* thread) noexcept;

}  // namespace postcopy
