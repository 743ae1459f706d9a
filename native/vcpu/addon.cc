// The addon of guest machines: registration only.
#include <napi.h>

#include "calls.h"
#include "common/values.h"

namespace postcopy::guest {
namespace {

constexpr Export kExports[] = {
    {"machineCreate", MachineCreate},
    {"machineConfigure", MachineConfigure},
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
    {"vcpuReadStats", VcpuReadStats},
    {"vcpuReadHistogram", VcpuReadHistogram},
    {"checksum", ChecksumOf},
};

}  // namespace

Napi::Object Init(Napi::Env, Napi::Object exports) {
  return AddExports(exports, kExports);
}

NODE_API_MODULE(vcpu, Init)

}  // namespace postcopy::guest
