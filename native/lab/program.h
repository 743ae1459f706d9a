// Programs of raw memory accesses and system calls that the lab runs on native threads.
//
// An experiment observes what a single load, store or system call does to its thread: block it,
// kill it, or return an errno. So a thread gets a list of steps, and writes the outcome of each one
// to shared memory. That can be read while the thread is blocked and after its child has died.
#pragma once

#include <node_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace postcopy::lab {

struct SignalGuard;

enum class StepKind : uint8_t {
  kLoad = 1,   // address
  kStore = 2,  // address, value
  kSweep = 3,  // address, stride, count, write, order (step of the walk, prime to count), sampleAt
  kSyscall = 4,  // number, six arguments
  kFork = 5,     // count of the following steps, which only the child runs
  kFill = 6,     // fd, request, dst, src, bytes a call, bytes in all, mode
  kSleep = 7,    // milliseconds
  kAwait = 8,    // index of a flag, value: waits until the flag is at least that
  kRaise = 9,    // index of a flag, value to store
  kMemcpy = 10,  // dst, src, bytes
};

struct Step {
  StepKind kind;
  int64_t args[7];
};

// Whether the step can run with `following` steps after it. Addresses are not checked, because an
// experiment may use a bad one on purpose.
bool IsValid(const Step& step, size_t following) noexcept;

// The outcome of one step.
struct Outcome {
  std::atomic<uint32_t> state;  // 0 not begun, 1 begun, 2 done
  int32_t signal;               // 0, SIGSEGV or SIGBUS
  int32_t code;                 // si_code
  int64_t value;                // byte read, count or -errno
  uint64_t address;             // si_addr
  uint64_t nanoseconds;
};

struct Shared {
  static constexpr size_t kFlags = 16;
  std::atomic<int32_t> thread_id;
  std::atomic<uint32_t> finished;
  std::atomic<uint32_t> fault_signals;  // that the signal policy resolved
  std::atomic<int64_t> flags[kFlags];
};

// The effect of a SIGBUS or SIGSEGV inside a step.
enum class SignalPolicy : uint8_t {
  kRecord = 0,     // ends the step and is its outcome
  kCopy = 1,       // UFFDIO_COPY of one page inside the handler; the access is repeated
  kUnprotect = 2,  // mprotect(PROT_READ | PROT_WRITE) of one page; the access is repeated
};

struct ProgramOptions {
  SignalPolicy policy = SignalPolicy::kRecord;
  int fd = -1;          // for kCopy
  uint64_t source = 0;  // for kCopy: the page's content
  int cpu = -1;         // -1: any
  bool take_signals = false;
};

class Program {
 public:
  static constexpr napi_type_tag kTag = {0x706f7374636f7079, 0x6c61620000000001};

  // Its thread continues, and keeps a reference to the program.
  static void Collect(const std::shared_ptr<Program>&) noexcept {}

  static std::shared_ptr<Program> Create(std::span<const Step> steps, size_t samples,
                                         const ProgramOptions& options) noexcept;
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();

  // Runs the steps on the calling thread.
  void Run() noexcept;

  size_t size() const noexcept { return count_; }
  Shared& shared() noexcept { return *shared_; }
  std::span<Outcome> outcomes() noexcept { return {outcomes_, count_}; }
  // Nanoseconds of single accesses, filled by kSweep.
  std::span<uint64_t> samples() noexcept { return {samples_, sample_count_}; }

 private:
  Program() noexcept = default;
  void RunSteps(size_t from, size_t to) noexcept;
  // Returns false if a signal ended the step.
  bool Attempt(const Step& step, size_t index, SignalGuard& guard, int64_t* value) noexcept;
  int64_t Do(const Step& step, size_t index) noexcept;
  int64_t Sweep(const Step& step) noexcept;

  std::unique_ptr<Step[]> steps_;
  ProgramOptions options_;
  size_t count_ = 0;
  size_t sample_count_ = 0;
  size_t mapped_bytes_ = 0;
  Shared* shared_ = nullptr;
  Outcome* outcomes_ = nullptr;
  uint64_t* samples_ = nullptr;
};

}  // namespace postcopy::lab
