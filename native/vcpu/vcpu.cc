#include "vcpu.h"

#include <sched.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>

#include "machine.h"

namespace postcopy::guest {
namespace {

// The longest delay, in a fault for example, that a paced vCPU makes up for with a burst.
constexpr uint64_t kMaxBacklogNs = 100'000'000;

// The shortest pause of a paced vCPU. At a high rate a pause between every two touches would take
// more of the processor than the touches do.
constexpr uint64_t kMinPauseNs = 1'000'000;

uint64_t MonotonicNs() noexcept {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

int64_t VoluntarySwitches() noexcept {
  rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

// The nice value that a vCPU adds to that of the thread that made it. Together, the vCPUs of a
// processor then weigh as much as one other thread. So the threads that migrate or stop the guest
// get to run, however many vCPUs there are. Each step of nice takes a fifth of a thread's weight.
int NicenessOf(size_t vcpus) noexcept {
  constexpr int kLowest = 19;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int processors =
      sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
  int niceness = 0;
  for (double load = static_cast<double>(vcpus) / processors; load > 1 && niceness < kLowest;
       load /= 1.25) {
    ++niceness;
  }
  return niceness;
}

// On Linux the nice value belongs to the thread. Lowering the priority needs no privilege.
void LowerPriority(int niceness) noexcept {
  if (niceness > 0) setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + niceness);
}

}  // namespace

Vcpu::Vcpu(Machine& machine, uint32_t index) noexcept : machine_(machine), index_(index) {}

void Vcpu::Run() noexcept {
  LowerPriority(NicenessOf(machine_.vcpus().size()));
  std::unique_lock lock(machine_.mutex_);
  thread_id_ = gettid();
  ++machine_.alive_;
  machine_.quiet_.notify_all();
  for (;;) {
    machine_.wake_.wait(
        lock, [&] { return machine_.quitting_ || (machine_.keep_running() && CanRun()); });
    if (machine_.quitting_) break;
    active_ = true;
    ++machine_.active_;
    lock.unlock();
    Execute();
    lock.lock();
    active_ = false;
    if (--machine_.active_ == 0) machine_.quiet_.notify_all();
  }
  --machine_.alive_;
}

void Vcpu::Configure(const Workload& workload) noexcept {
  workload_ = workload;
  slice_ = Slice::Of(workload, machine_.memory().vcpu_pages(),
                     static_cast<uint32_t>(machine_.vcpus().size()), index_);
  key_ = ContentKey(workload.seed, Block::kRam);
  generator_ = Generator(workload, slice_, index_);
  Load({generator_.state(), 0, 0, 0, 0, 0});
}

VcpuState Vcpu::Save() const noexcept {
  return {generator_.state(),  stats_.touches.Get(),       stats_.reads.Get(),
          stats_.writes.Get(), stats_.failed_checks.Get(), filled_};
}

bool Vcpu::Load(const VcpuState& state) noexcept {
  if (!generator_.Restore(state.generator)) return false;
  stats_.touches.Set(state.touches);
  stats_.reads.Set(state.reads);
  stats_.writes.Set(state.writes);
  stats_.failed_checks.Set(state.failed_checks);
  stats_.blocktime_ns.Set(0);
  stats_.max_touch_ns.Set(0);
  stats_.histogram.Reset();
  filled_ = state.filled;
  return true;
}

bool Vcpu::CanRun() const noexcept {
  return workload_.pattern != Pattern::kIdle && stats_.failed_checks.Get() == 0 &&
         (workload_.touches_limit == 0 || stats_.touches.Get() < workload_.touches_limit);
}

Activity Vcpu::activity() const noexcept {
  if (stats_.failed_checks.Get() > 0) return Activity::kFailed;
  if (active_) return Activity::kRunning;
  if (workload_.pattern != Pattern::kIdle && !CanRun()) return Activity::kFinished;
  if (!machine_.keep_running()) return Activity::kStopped;
  return workload_.pattern == Pattern::kIdle ? Activity::kIdle : Activity::kRunning;
}

void Vcpu::Execute() noexcept {
  const double interval = workload_.rate > 0 ? 1e9 / workload_.rate : 0;
  uint64_t now = MonotonicNs();
  double due = static_cast<double>(now);
  sleeps_ = VoluntarySwitches();
  while (machine_.keep_running() && CanRun()) {
    if (interval > 0) {
      if (static_cast<double>(now) < due) {
        machine_.PauseUntil(std::max(static_cast<uint64_t>(due), now + kMinPauseNs));
        if (!machine_.keep_running()) break;
        now = MonotonicNs();
        sleeps_ = VoluntarySwitches();
      }
      due = std::max(due, static_cast<double>(now) - kMaxBacklogNs) + interval;
    }
    const Touch touch = generator_.Next();
    stats_.touching_since_ns.Set(now);
    stats_.touching.Set(uint64_t{touch.page} + 1);
    const bool good = TouchPage(touch);
    const uint64_t after = MonotonicNs();
    Account(after - now);
    now = after;
    if (!good) break;
  }
  stats_.touching.Set(0);
}

bool Vcpu::TouchPage(const Touch& touch) noexcept {
  const GuestMemory& memory = machine_.memory();
  const uint32_t version = memory.Version(touch.page);
  uint64_t* words = memory.Page(touch.page);
  PageIdentity identity{key_, touch.page, version, slice_.LinkOf(touch.page)};
  // Loaded once, because another thread may write the page between two loads, and an unchecked link
  // may lead out of the slice.
  const uint32_t link = version == 0 ? identity.link : LinkIn(words);
  if (link != identity.link || !PageMatches(words, identity)) {
    stats_.failed_checks.Add(1);
    machine_.Report(Diagnose(words, identity, memory.vcpu_pages()));
    return false;
  }
  generator_.Follow(link);
  stats_.touches.Add(1);
  if (touch.write && version < kMaxVersion) {  // a version never wraps around
    ++identity.version;
    WritePage(words, identity);
    memory.SetVersion(touch.page, identity.version);
    stats_.writes.Add(1);
  } else {
    stats_.reads.Add(1);
  }
  return true;
}

void Vcpu::Account(uint64_t elapsed_ns) noexcept {
  stats_.histogram.Record(elapsed_ns);
  if (elapsed_ns < kSlowNs) return;
  if (elapsed_ns > stats_.max_touch_ns.Get()) stats_.max_touch_ns.Set(elapsed_ns);
  const int64_t sleeps = VoluntarySwitches();
  if (sleeps != sleeps_) stats_.blocktime_ns.Add(elapsed_ns);
  sleeps_ = sleeps;
}

}  // namespace postcopy::guest
