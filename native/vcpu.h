// One vCPU: a thread that touches its pages as its workload says, and checks each.
#pragma once

#include <cstdint>
#include <optional>

#include "content.h"
#include "guest_memory.h"
#include "vcpu_stats.h"
#include "workload.h"

namespace postcopy::guest {

class Machine;

// A vCPU between two touches: all that is needed to go on elsewhere.
struct VcpuState {
  GeneratorState generator;
  uint64_t touches;
  uint64_t reads;
  uint64_t writes;
  uint64_t failed_checks;
  uint64_t filled;  // pages of the slice that were written before the start
};

// In the order of ACTIVITIES in src/guest/vcpu-stats.ts.
enum class Activity : uint32_t { kStopped, kRunning, kIdle, kFinished, kFailed };

class Vcpu {
 public:
  // Blocktime is the time of touches in which the thread slept, which it does in page faults only;
  // a touch that merely lost its CPU to another thread does not count. Asking the kernel whether it
  // slept takes a system call, so shorter touches than this are taken not to have.
  static constexpr uint64_t kSlowNs = 2'000;

  Vcpu(Machine& machine, uint32_t index) noexcept;

  // Body of the thread; returns when the machine quits.
  void Run() noexcept;

  // All below: while stopped, under the machine's lock.
  void Configure(const Workload& workload) noexcept;
  VcpuState Save() const noexcept;
  bool Load(const VcpuState& state) noexcept;
  void set_filled(uint64_t filled) noexcept { filled_ = filled; }
  bool CanRun() const noexcept;
  Activity activity() const noexcept;

  const Slice& slice() const noexcept { return slice_; }
  uint64_t key() const noexcept { return key_; }
  // Any thread, any time.
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
