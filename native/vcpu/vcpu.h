// One vCPU: a thread that touches pages according to its workload, and checks each one.
#pragma once

#include <cstdint>
#include <optional>

#include "common/content.h"
#include "common/workload.h"
#include "guest_memory.h"
#include "stats.h"

namespace postcopy::guest {

class Machine;

// The state of a vCPU between two touches, sufficient to continue on another host.
struct VcpuState {
  GeneratorState generator;
  uint64_t touches;
  uint64_t reads;
  uint64_t writes;
  uint64_t failed_checks;
  uint64_t filled;  // pages of the slice that were written before the start
};

enum class Activity : uint32_t { kStopped, kRunning, kIdle, kFinished, kFailed };

class Vcpu {
 public:
  // Blocktime is the time of touches in which the thread slept, which it does only in page faults.
  // A touch that was only preempted does not count. Asking the kernel whether the thread slept
  // takes a system call, so touches shorter than this are assumed not to have slept.
  static constexpr uint64_t kSlowNs = 2'000;

  Vcpu(Machine& machine, uint32_t index) noexcept;

  // The body of the thread; returns when the machine quits.
  void Run() noexcept;

  // Other threads need the machine's lock or a stopped vCPU for the methods below. Those that
  // change state need both.
  void Configure(const Workload& workload) noexcept;
  VcpuState Save() const noexcept;
  bool Load(const VcpuState& state) noexcept;
  void set_filled(uint64_t filled) noexcept { filled_ = filled; }
  bool CanRun() const noexcept;
  Activity activity() const noexcept;

  const Slice& slice() const noexcept { return slice_; }
  uint64_t key() const noexcept { return key_; }
  // May be called by any thread at any time.
  const VcpuStats& stats() const noexcept { return stats_; }
  int thread_id() const noexcept { return thread_id_; }

 private:
  void Execute() noexcept;
  bool TouchPage(const Touch& touch) noexcept;
  void Account(uint64_t elapsed_ns) noexcept;

  Machine& machine_;
  const uint32_t index_;
  int thread_id_ = 0;  // set before the machine's constructor returns
  bool active_ = false;
  Workload workload_;
  Slice slice_{0, 1, 1, 0};
  uint64_t key_ = 0;
  Generator generator_;
  uint64_t filled_ = 0;
  int64_t sleeps_ = 0;  // voluntary context switches seen so far
  VcpuStats stats_;
};

}  // namespace postcopy::guest
