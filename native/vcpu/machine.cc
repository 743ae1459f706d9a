#include "machine.h"

#include <cerrno>
#include <string>
#include <utility>

#include "common/thread.h"

namespace postcopy::guest {

Machine::Machine(GuestMemory memory, uint32_t vcpus) : memory_(std::move(memory)) {
  for (uint32_t index = 0; index < vcpus; ++index) {
    vcpus_.push_back(std::make_unique<Vcpu>(*this, index));
  }
  for (const auto& vcpu : vcpus_) vcpu->Configure(workload_);
}

int Machine::StartThreads() {
  uint32_t started = 0;
  int result = 0;
  for (const auto& vcpu : vcpus_) {
    result = StartDetachedThread("vcpu/" + std::to_string(started),
                                 [self = shared_from_this(), &vcpu = *vcpu] { vcpu.Run(); });
    if (result < 0) break;
    ++started;
  }
  std::unique_lock lock(mutex_);
  quiet_.wait(lock, [&] { return alive_ == started; });
  return result;
}

int Machine::Configure(const Workload& workload) {
  const std::lock_guard lock(mutex_);
  if (!QuietLocked()) return -EBUSY;
  workload_ = workload;
  for (const auto& vcpu : vcpus_) vcpu->Configure(workload);
  findings_.clear();
  return 0;
}

int Machine::Start() {
  const std::lock_guard lock(mutex_);
  if (scanning_) return -EBUSY;
  keep_running_.store(true, std::memory_order_relaxed);
  wake_.notify_all();
  return 0;
}

bool Machine::Stop(std::chrono::microseconds wait) {
  std::unique_lock lock(mutex_);
  keep_running_.store(false, std::memory_order_relaxed);
  wake_.notify_all();  // vCPUs that pause between two touches
  return quiet_.wait_for(lock, wait, [&] { return active_ == 0; });
}

void Machine::Quit() {
  const std::lock_guard lock(mutex_);
  keep_running_.store(false, std::memory_order_relaxed);
  quitting_ = true;
  CancelScan();
  wake_.notify_all();
}

bool Machine::Gone() const {
  const std::lock_guard lock(mutex_);
  return alive_ == 0 && !scanning_;
}

int Machine::LoadVcpu(uint32_t index, const VcpuState& state) {
  const std::lock_guard lock(mutex_);
  if (!QuietLocked()) return -EBUSY;
  return vcpus_[index]->Load(state) ? 0 : -EINVAL;
}

VcpuState Machine::SaveVcpu(uint32_t index) const {
  const std::lock_guard lock(mutex_);
  return vcpus_[index]->Save();
}

Activity Machine::ActivityOf(uint32_t index) const {
  const std::lock_guard lock(mutex_);
  return vcpus_[index]->activity();
}

int Machine::BeginFill() {
  return BeginScan("fill", [this] { return Fill(); });
}

int Machine::BeginVerify(std::vector<SealedPage> sealed) {
  return BeginScan("verify", [this, sealed = std::move(sealed)] { return Verify(sealed); });
}

int Machine::BeginScan(const char* name, std::function<ScanResult()> scan) {
  {
    const std::lock_guard lock(mutex_);
    if (!QuietLocked() || keep_running() || quitting_) return -EBUSY;
    scanning_ = true;
    scan_.pages.Set(0);
    scan_.cancelled.store(false, std::memory_order_relaxed);
  }
  const int result = StartDetachedThread(name, [self = shared_from_this(), scan = std::move(scan)] {
    ScanResult result = scan();
    result.complete = !self->scan_.cancelled.load(std::memory_order_relaxed);
    self->FinishScan(std::move(result));
  });
  if (result < 0) FinishScan({});
  return result;
}

ScanResult Machine::Fill() {
  for (const auto& vcpu : vcpus_) {
    const ScanSlice slice{vcpu->slice(), vcpu->key(), 0};
    const uint64_t filled = FillSlice(memory_, workload_, slice, scan_);
    const std::lock_guard lock(mutex_);
    vcpu->set_filled(filled);
  }
  return {};
}

ScanResult Machine::Verify(const std::vector<SealedPage>& sealed) {
  ScanResult result;
  for (const auto& vcpu : vcpus_) {
    const VcpuState state = vcpu->Save();
    const ScanSlice slice{vcpu->slice(), vcpu->key(), state.filled + state.writes};
    VerifySlice(memory_, slice, scan_, result);
  }
  VerifyRest(memory_, sealed, scan_, result);
  return result;
}

void Machine::FinishScan(ScanResult result) {
  const std::lock_guard lock(mutex_);
  scanning_ = false;
  scan_result_ = std::move(result);
}

void Machine::CancelScan() noexcept {
  scan_.cancelled.store(true, std::memory_order_relaxed);
}

bool Machine::ScanRunning() const {
  const std::lock_guard lock(mutex_);
  return scanning_;
}

ScanResult Machine::TakeScanResult() {
  const std::lock_guard lock(mutex_);
  return std::exchange(scan_result_, {});
}

std::vector<Finding> Machine::VcpuFindings() const {
  const std::lock_guard lock(mutex_);
  return findings_;
}

void Machine::PauseUntil(uint64_t monotonic_ns) {
  const std::chrono::steady_clock::time_point until{std::chrono::nanoseconds(monotonic_ns)};
  std::unique_lock lock(mutex_);
  wake_.wait_until(lock, until, [&] { return !keep_running(); });
}

void Machine::Report(const Finding& finding) {
  const std::lock_guard lock(mutex_);
  if (findings_.size() < kMaxFindings) findings_.push_back(finding);
}

}  // namespace postcopy::guest
