// SIGBUS, SIGSEGV and SIGUSR1 of the lab's threads; anybody else's go where they went before.
#pragma once

#include <setjmp.h>

#include <cstdint>

namespace postcopy::lab {

struct ProgramOptions;
struct Shared;

// While one lives, faults of its thread are handled as its options say.
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

// Installs the handlers; once, when the addon is loaded.
void InstallSignalHandlers() noexcept;
// Lets the calling thread have the faults' signals, and SIGUSR1 if it asks for it.
void SetUpThreadSignals(bool take_signals) noexcept;
// How often a thread of the lab ran the handler of SIGUSR1.
uint32_t UserSignalCount() noexcept;

}  // namespace postcopy::lab
