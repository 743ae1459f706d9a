// The addon of guest machines: registration only.
#include <napi.h>

#include "calls.h"
#include "common/content.h"
#include "common/exports.h"
#include "common/workload.h"
#include "vcpu.h"

namespace postcopy::guest {
namespace {

constexpr Export kFunctions[] = {
    {"machineCreate", MachineCreate},
    {kMachineConfigure, MachineConfigure},
    {"machineStart", MachineStart},
    {"machineStop", MachineStop},
    {"machineQuit", MachineQuit},
    {"machineClose", MachineClose},
    {"machineGone", MachineGone},
    {"machineFill", MachineFill},
    {"machineVerify", MachineVerify},
    {"machineCancelScan", MachineCancelScan},
    {"machineScanRunning", MachineScanRunning},
    {"machineScannedPages", MachineScannedPages},
    {"machineTakeScanResult", MachineTakeScanResult},
    {"machineFindings", MachineFindings},
    {"vcpuThreadId", VcpuThreadId},
    {"vcpuSave", VcpuSave},
    {"vcpuLoad", VcpuLoad},
    {kVcpuReadStats, VcpuReadStats},
    {"vcpuReadHistogram", VcpuReadHistogram},
    {"checksum", ChecksumOf},
};

constexpr RowExport kRows[] = {kFinding, kSealedPage, kVcpuState};

constexpr ConstantExport kConstants[] = {
    {"pattern.idle", Pattern::kIdle},           {"pattern.sweep", Pattern::kSweep},
    {"pattern.random", Pattern::kRandom},       {"pattern.zipf", Pattern::kZipf},
    {"pattern.chase", Pattern::kChase},         {"activity.stopped", Activity::kStopped},
    {"activity.running", Activity::kRunning},   {"activity.idle", Activity::kIdle},
    {"activity.finished", Activity::kFinished}, {"activity.failed", Activity::kFailed},
    {"verdict.lost", Verdict::kLost},           {"verdict.misplaced", Verdict::kMisplaced},
    {"verdict.stale", Verdict::kStale},         {"verdict.torn", Verdict::kTorn},
    {"verdict.corrupt", Verdict::kCorrupt},     {"block.ram", Block::kRam},
    {"block.ledger", Block::kLedger},           {"histogram.buckets", TouchHistogram::kBuckets},
};

constexpr Interface kInterface{kFunctions, kRows, kConstants};

}  // namespace

Napi::Object Init(Napi::Env, Napi::Object exports) {
  return AddExports(exports, kInterface);
}

NODE_API_MODULE(vcpu, Init)

}  // namespace postcopy::guest
