#include "program.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "common/sys.h"
#include "common/uapi.h"
#include "signals.h"

namespace postcopy::lab {
namespace {

uint64_t NowNs() noexcept {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

volatile uint8_t* At(int64_t address) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): addresses come from JavaScript as numbers
  return reinterpret_cast<volatile uint8_t*>(static_cast<uintptr_t>(address));
}

void SleepNs(long nanoseconds) noexcept {
  const timespec span{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
  nanosleep(&span, nullptr);
}

// Calls a filling ioctl repeatedly, as the destination of a migration does.
int64_t Fill(const int64_t* args) noexcept {
  const int fd = static_cast<int>(args[0]);
  const auto request = static_cast<unsigned long>(args[1]);
  const auto run = static_cast<uint64_t>(args[4]);
  const auto total = static_cast<uint64_t>(args[5]);
  const auto mode = static_cast<uint64_t>(args[6]);
  const bool transfer = request == uapi::kUffdioCopy || request == uapi::kUffdioMove;
  const bool ranged = request == uapi::kUffdioWriteProtect;
  for (uint64_t done = 0; done < total; done += run) {
    const auto dst = static_cast<uint64_t>(args[2]) + done;
    const uint64_t length = std::min(run, total - done);
    long result = 0;
    if (transfer) {
      // COPY reads the same run each time (source in cache); MOVE needs new pages each time.
      const uint64_t src =
          static_cast<uint64_t>(args[3]) + (request == uapi::kUffdioMove ? done : 0);
      uapi::UffdioTransfer call{dst, src, length, mode, 0};
      result = ioctl(fd, request, &call);
    } else if (ranged) {
      uapi::UffdioWriteProtect call{{dst, length}, mode};
      result = ioctl(fd, request, &call);
    } else {
      uapi::UffdioFill call{{dst, length}, mode, 0};
      result = ioctl(fd, request, &call);
    }
    if (result < 0) return CountOrErrno(result);
  }
  return static_cast<int64_t>(total);
}

// Limits values so that a product of two, and its sum with an address, fit in 64 bits.
constexpr int64_t kMostPlaces = int64_t{1} << 30;
constexpr int64_t kMostMilliseconds = 24 * 60 * 60 * 1000;

bool IsBetween(int64_t value, int64_t least, int64_t most) noexcept {
  return value >= least && value <= most;
}

}  // namespace

bool IsValid(const Step& step, size_t following) noexcept {
  const int64_t* a = step.args;
  switch (step.kind) {
    case StepKind::kSweep:
      return IsBetween(a[0], 0, INT64_MAX / 2) && IsBetween(a[1], -kMostPlaces, kMostPlaces) &&
             IsBetween(a[2], 0, kMostPlaces) && IsBetween(a[4], 0, kMostPlaces);
    case StepKind::kFork:
      return IsBetween(a[0], 0, static_cast<int64_t>(following));
    case StepKind::kFill:
      return IsBetween(a[4], 1, INT64_MAX / 2) && IsBetween(a[5], 0, INT64_MAX / 2);
    case StepKind::kSleep:
      return IsBetween(a[0], 0, kMostMilliseconds);
    case StepKind::kAwait:
    case StepKind::kRaise:
      return IsBetween(a[0], 0, Shared::kFlags - 1);
    case StepKind::kLoad:
    case StepKind::kStore:
    case StepKind::kSyscall:
    case StepKind::kMemcpy:
      return true;
  }
  return false;
}

std::shared_ptr<Program> Program::Create(std::span<const Step> steps, size_t samples,
                                         const ProgramOptions& options) noexcept {
  const size_t outcomes_at = (sizeof(Shared) + 63) / 64 * 64;
  const size_t samples_at = outcomes_at + steps.size() * sizeof(Outcome);
  const size_t bytes = samples_at + samples * sizeof(uint64_t);
  // MAP_SHARED, so that the outcomes of a forked child are visible. MAP_POPULATE, so that storing a
  // sample causes no page fault.
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  std::shared_ptr<Program> program(new Program);
  auto* base = static_cast<uint8_t*>(memory);
  program->steps_ = std::make_unique<Step[]>(steps.size());
  std::copy(steps.begin(), steps.end(), program->steps_.get());
  program->options_ = options;
  program->count_ = steps.size();
  program->sample_count_ = samples;
  program->mapped_bytes_ = bytes;
  program->shared_ = new (base) Shared{};
  program->outcomes_ = reinterpret_cast<Outcome*>(base + outcomes_at);
  program->samples_ = reinterpret_cast<uint64_t*>(base + samples_at);
  return program;
}

Program::~Program() {
  if (shared_ != nullptr) munmap(shared_, mapped_bytes_);
}

void Program::Run() noexcept {
  shared_->thread_id.store(static_cast<int32_t>(syscall(SYS_gettid)));
  if (options_.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(options_.cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
  }
  SetUpThreadSignals(options_.take_signals);
  RunSteps(0, count_);
  shared_->finished.store(1);
}

void Program::RunSteps(size_t from, size_t to) noexcept {
  SignalGuard guard(options_, *shared_);
  for (size_t i = from; i < to; ++i) {
    const Step& step = steps_[i];
    Outcome& outcome = outcomes_[i];
    outcome.state.store(1);
    const uint64_t start = NowNs();
    if (!Attempt(step, i, guard, &outcome.value)) {
      outcome.signal = guard.signal;
      outcome.code = guard.code;
      outcome.address = guard.address;
    }
    guard.armed = false;
    outcome.nanoseconds = NowNs() - start;
    outcome.state.store(2);
    if (step.kind == StepKind::kFork) i += static_cast<size_t>(step.args[0]);
  }
}

// A separate function, so that no local variable of a caller lives across the jump. No object
// between here and a fault has a destructor.
[[gnu::noinline]] bool Program::Attempt(const Step& step, size_t index, SignalGuard& guard,
                                        int64_t* value) noexcept {
  if (sigsetjmp(guard.jump, 1) != 0) return false;
  guard.armed = true;
  *value = Do(step, index);
  return true;
}

int64_t Program::Sweep(const Step& step) noexcept {
  const auto [address, stride, count, write, order, sample_at, unused] = step.args;
  static_cast<void>(unused);
  const size_t room =
      sample_at < 0 ? 0 : sample_count_ - std::min(sample_count_, static_cast<size_t>(sample_at));
  for (int64_t i = 0; i < count; ++i) {
    volatile uint8_t* target = At(address + i * order % count * stride);
    const uint64_t start = NowNs();
    if (write != 0) {
      *target = static_cast<uint8_t>(i + 1);
    } else {
      static_cast<void>(*target);
    }
    if (static_cast<size_t>(i) < room) samples_[sample_at + i] = NowNs() - start;
  }
  return count;
}

int64_t Program::Do(const Step& step, size_t index) noexcept {
  const int64_t* a = step.args;
  switch (step.kind) {
    case StepKind::kLoad:
      return *At(a[0]);
    case StepKind::kStore:
      *At(a[0]) = static_cast<uint8_t>(a[1]);
      return 0;
    case StepKind::kSweep:
      return Sweep(step);
    case StepKind::kSyscall:
      return CountOrErrno(syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]));
    case StepKind::kFork: {
      // Not fork(3), because glibc's fork handlers take the locks of malloc. With EVENT_FORK this
      // thread sleeps here until another thread reads the message, and that one may need malloc.
      const long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
      if (child != 0) return CountOrErrno(child);
      RunSteps(index + 1, std::min(index + 1 + static_cast<size_t>(a[0]), count_));
      syscall(SYS_exit_group, 0);
      return 0;
    }
    case StepKind::kFill:
      return Fill(a);
    case StepKind::kSleep:
      SleepNs(a[0] * 1'000'000);
      return 0;
    case StepKind::kAwait:
      while (shared_->flags[a[0]].load() < a[1]) SleepNs(50'000);
      return 0;
    case StepKind::kRaise:
      shared_->flags[a[0]].store(a[1]);
      return 0;
    case StepKind::kMemcpy:
      std::memcpy(const_cast<uint8_t*>(At(a[0])), const_cast<const uint8_t*>(At(a[1])),
                  static_cast<size_t>(a[2]));
      return a[2];
  }
  return -EINVAL;
}

}  // namespace postcopy::lab
