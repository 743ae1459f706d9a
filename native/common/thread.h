// Threads of the addons, each with a small stack and all signals blocked. The main thread handles
// signals: one delivered to a thread blocked in a fault would only repeat the fault.
#pragma once

#include <pthread.h>

#include <functional>
#include <string>

namespace postcopy {

// Runs `body` on a new detached thread; 0 or -errno.
//
// Detached, because a thread blocked on a missing page ends only when another thread serves that
// page: a join might never return, and exit would hang. So each thread shares ownership of what it
// uses, and the last one frees it. A blocked thread keeps its mapping until the process ends.
int StartDetachedThread(const std::string& name, std::function<void()> body) noexcept;

// The same for a thread that must be joined, and never accesses guest memory.
int StartJoinableThread(const std::string& name, std::function<void()> body,
                        pthread_t* thread) noexcept;

}  // namespace postcopy
