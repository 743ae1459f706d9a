// Handlers of SIGBUS, SIGSEGV and SIGUSR1 for the lab's threads. Signals of other threads go to the
// earlier handlers.
#pragma once

#include <setjmp.h>

#include <cstdint>

namespace postcopy::lab {

struct ProgramOptions;
struct Shared;

// During its lifetime, faults of its thread are handled according to its options.
struct SignalGuard {
  SignalGuard(const ProgramOptions& options, Shared& shared) noexcept;
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;
  ~SignalGuard();

  sigjmp_buf jump;
  const ProgramOptions& options;
  Shared& shared;
  volatile bool armed = false;
  int signal = 0;
  int code = 0;
  uint64_t address = 0;

 private:
  SignalGuard* const outer_;
};

// Installs the handlers. Called once, when the addon is loaded.
void InstallSignalHandlers() noexcept;
// Unblocks SIGSEGV and SIGBUS in the calling thread, and SIGUSR1 if `take_signals`.
void SetUpThreadSignals(bool take_signals) noexcept;
// How often a thread of the lab ran the handler of SIGUSR1.
uint32_t UserSignalCount() noexcept;

}  // namespace postcopy::lab
