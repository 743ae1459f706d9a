// All functions that the addon of guest machines exports, typed in src/guest/native.ts, and the
// layouts of their numbers and lists (common/layout.h).
#pragma once

#include <napi.h>

#include "common/layout.h"

namespace postcopy::guest {

// machine_calls.cc
inline constexpr CallLayout kMachineConfigure{
    "machineConfigure",
    Arguments{"pattern", "writesPercent", "fillPercent", "hotPages", "touches", "rate", "seed"},
    Results{}};
inline constexpr RowLayout kFinding{
    "finding", Fields{"verdict", "block", "offsetBytes", "lengthBytes", "got", "expected"}};
inline constexpr RowLayout kSealedPage{"sealedPage", Fields{"page", "checksum"}};
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
inline constexpr CallLayout kVcpuReadStats{
    "vcpuReadStats", Arguments{},
    Results{"activity", "touches", "reads", "writes", "failedChecks", "blocktimeUs", "maxTouchNs",
            "touchedPage", "touchedForUs", "firstPage", "pageCount"}};
// What migrates with the guest, in an array of 64-bit words.
inline constexpr RowLayout kVcpuState{"vcpuState", Fields{"random", "position", "touches", "reads",
                                                          "writes", "failedChecks", "filled"}};
Napi::Value VcpuThreadId(const Napi::CallbackInfo& info);
Napi::Value VcpuSave(const Napi::CallbackInfo& info);
Napi::Value VcpuLoad(const Napi::CallbackInfo& info);
Napi::Value VcpuReadStats(const Napi::CallbackInfo& info);
Napi::Value VcpuReadHistogram(const Napi::CallbackInfo& info);
Napi::Value ChecksumOf(const Napi::CallbackInfo& info);

}  // namespace postcopy::guest
