// A machine: its memory, its vCPUs, and their run state.
#pragma once

#include <node_api.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "common/content.h"
#include "common/workload.h"
#include "guest_memory.h"
#include "scan.h"
#include "vcpu.h"

namespace postcopy::guest {

// Shared by the JavaScript handle and every thread; see thread.h.
class Machine : public std::enable_shared_from_this<Machine> {
 public:
  static constexpr napi_type_tag kTag = {0x706f7374636f7079, 0x6d616368696e6501};

  // Called when the JavaScript handle was collected, or its environment ended, without Quit().
  static void Collect(const std::shared_ptr<Machine>& machine) { machine->Quit(); }

  Machine(GuestMemory memory, uint32_t vcpus);

  // Starts the threads, which wait for Start(); 0 or -errno. Afterwards the thread ids are known.
  int StartThreads();

  // Resets all state of the vCPUs. -EBUSY while a vCPU or a scan runs.
  int Configure(const Workload& workload);
  int Start();
  // Asks all vCPUs to leave guest RAM, and waits up to `wait`. Returns whether they have.
  bool Stop(std::chrono::microseconds wait);
  // Makes every thread end once it has left guest RAM. Returns at once.
  void Quit();
  bool Gone() const;

  // -EBUSY while vCPUs run; -EINVAL for a state that is impossible with this workload.
  int LoadVcpu(uint32_t index, const VcpuState& state);
  VcpuState SaveVcpu(uint32_t index) const;
  Activity ActivityOf(uint32_t index) const;

  // Both run on a new thread, because they may block on missing pages. 0 or -errno.
  int BeginFill();
  int BeginVerify(std::vector<SealedPage> sealed);
  // Ends the scan at its next page; its result is then not complete.
  void CancelScan() noexcept;
  bool ScanRunning() const;
  uint64_t scanned_pages() const noexcept { return scan_.pages.Get(); }
  ScanResult TakeScanResult();

  // The first few failed checks of running vCPUs.
  std::vector<Finding> VcpuFindings() const;

  const GuestMemory& memory() const noexcept { return memory_; }
  const std::vector<std::unique_ptr<Vcpu>>& vcpus() const noexcept { return vcpus_; }

  // For vCPU threads.
  bool keep_running() const noexcept { return keep_running_.load(std::memory_order_relaxed); }
  void PauseUntil(uint64_t monotonic_ns);
  void Report(const Finding& finding);

 private:
  friend class Vcpu;
  int BeginScan(const char* name, std::function<ScanResult()> scan);
  ScanResult Fill();
  ScanResult Verify(const std::vector<SealedPage>& sealed);
  void FinishScan(ScanResult result);
  bool QuietLocked() const { return active_ == 0 && !scanning_; }

  GuestMemory memory_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  Workload workload_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;   // vCPUs wait for it to run or quit
  std::condition_variable quiet_;  // threads have started, or vCPUs have left guest RAM
  std::atomic<bool> keep_running_{false};
  bool quitting_ = false;
  uint32_t alive_ = 0;   // threads
  uint32_t active_ = 0;  // vCPUs that may be in guest RAM
  std::vector<Finding> findings_;

  bool scanning_ = false;
  ScanControl scan_;
  ScanResult scan_result_;
};

}  // namespace postcopy::guest
