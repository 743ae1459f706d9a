// All functions that the addon of guest machines exports, typed in src/guest/native.ts.
#pragma once

#include <napi.h>

namespace postcopy::guest {

// machine_calls.cc
Napi::Value MachineCreate(const Napi::CallbackInfo& info);
Napi::Value MachineConfigure(const Napi::CallbackInfo& info);
Napi::Value MachineStart(const Napi::CallbackInfo& info);
Napi::Value MachineStop(const Napi::CallbackInfo& info);
Napi::Value MachineQuit(const Napi::CallbackInfo& info);
Napi::Value MachineClose(const Napi::CallbackInfo& info);
Napi::Value MachineGone(const Napi::CallbackInfo& info);
Napi::Value MachineFill(const Napi::CallbackInfo& info);
Napi::Value MachineVerify(const Napi::CallbackInfo& info);
Napi::Value MachineCancelScan(const Napi::CallbackInfo& info);
Napi::Value MachineScanRunning(const Napi::CallbackInfo& info);
Napi::Value MachineScannedPages(const Napi::CallbackInfo& info);
Napi::Value MachineTakeScanResult(const Napi::CallbackInfo& info);
Napi::Value MachineFindings(const Napi::CallbackInfo& info);

// vcpu_calls.cc
Napi::Value VcpuThreadId(const Napi::CallbackInfo& info);
Napi::Value VcpuSave(const Napi::CallbackInfo& info);
Napi::Value VcpuLoad(const Napi::CallbackInfo& info);
Napi::Value VcpuReadStats(const Napi::CallbackInfo& info);
Napi::Value VcpuReadHistogram(const Napi::CallbackInfo& info);
Napi::Value ChecksumOf(const Napi::CallbackInfo& info);

}  // namespace postcopy::guest
