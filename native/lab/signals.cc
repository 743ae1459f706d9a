#include "signals.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

#include "common/uapi.h"
#include "program.h"

namespace postcopy::lab {
namespace {

constexpr uintptr_t kPageBytes = 4096;

thread_local SignalGuard* current = nullptr;
thread_local bool takes_user_signals = false;
struct sigaction old_segv;
struct sigaction old_bus;
struct sigaction old_user;
std::atomic<uint32_t> user_signals{0};

// V8 uses SIGSEGV for WebAssembly, and Node's default action is to die: both must keep working.
void Forward(const struct sigaction& old, int signal, siginfo_t* info, void* context) noexcept {
  if ((old.sa_flags & SA_SIGINFO) != 0 && old.sa_sigaction != nullptr) {
    old.sa_sigaction(signal, info, context);
  } else if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) {
    old.sa_handler(signal);
  } else if (old.sa_handler == SIG_DFL) {
    sigaction(signal, &old, nullptr);  // the access is repeated, and now kills the process
  }
}

void OnFault(int signal, siginfo_t* info, void* context) noexcept {
  SignalGuard* guard = current;
  if (guard == nullptr || !guard->armed) {
    Forward(signal == SIGBUS ? old_bus : old_segv, signal, info, context);
    return;
  }
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  const uintptr_t page = address & ~(kPageBytes - 1);
  const ProgramOptions& options = guard->options;
  if (options.policy == SignalPolicy::kCopy) {
    uapi::UffdioTransfer call{page, options.source, kPageBytes, 0, 0};
    if (ioctl(options.fd, uapi::kUffdioCopy, &call) == 0) {
      guard->shared.fault_signals.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  } else if (options.policy == SignalPolicy::kUnprotect) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel gave the address
    if (mprotect(reinterpret_cast<void*>(page), kPageBytes, PROT_READ | PROT_WRITE) == 0) {
      guard->shared.fault_signals.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  }
  guard->signal = signal;
  guard->code = info->si_code;
  guard->address = address;
  siglongjmp(guard->jump, 1);
}

void OnUser(int signal, siginfo_t* info, void* context) noexcept {
  if (takes_user_signals) {
    user_signals.fetch_add(1);
  } else {
    Forward(old_user, signal, info, context);
  }
}

}  // namespace

SignalGuard::SignalGuard(const ProgramOptions& given, Shared& where) noexcept
    : options(given), shared(where), outer_(current) {
  current = this;
}

SignalGuard::~SignalGuard() {
  current = outer_;
}

void InstallSignalHandlers() noexcept {
  struct sigaction action {};
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  action.sa_sigaction = OnFault;
  sigaction(SIGSEGV, &action, &old_segv);
  sigaction(SIGBUS, &action, &old_bus);
  action.sa_sigaction = OnUser;
  sigaction(SIGUSR1, &action, &old_user);
}

void SetUpThreadSignals(bool take_signals) noexcept {
  takes_user_signals = take_signals;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGSEGV);
  sigaddset(&set, SIGBUS);
  if (take_signals) sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

uint32_t UserSignalCount() noexcept {
  return user_signals.load();
}

}  // namespace postcopy::lab
