// All functions that the lab's addon exports, typed in src/host/native.ts, and the layouts of their
// numbers and lists (common/layout.h).
#pragma once

#include <napi.h>

#include "common/layout.h"

namespace postcopy::lab {

// syscall_calls.cc
Napi::Value SyscallNumbers(const Napi::CallbackInfo& info);
Napi::Value Syscall(const Napi::CallbackInfo& info);
Napi::Value AddressOf(const Napi::CallbackInfo& info);
Napi::Value Peek(const Napi::CallbackInfo& info);
Napi::Value Poke(const Napi::CallbackInfo& info);

// thread_calls.cc
inline constexpr CallLayout kProgramStart{
    "programStart", Arguments{"samples", "policy", "fd", "source", "cpu", "takeSignals"},
    Results{}};
inline constexpr CallLayout kResponderStart{
    "responderStart", Arguments{"waiting", "cpu", "batch", "pageBytes", "source"}, Results{}};
// A step of a program: its arguments depend on the kind (program.h), here those of a sweep.
inline constexpr RowLayout kSweepStep{"sweepStep", Fields{"kind", "address", "strideBytes", "count",
                                                          "write", "order", "sampleAt", "unused"}};
inline constexpr RowLayout kOutcome{
    "outcome", Fields{"state", "value", "signal", "code", "address", "nanoseconds"}};
Napi::Value ProgramStart(const Napi::CallbackInfo& info);
Napi::Value ProgramInfo(const Napi::CallbackInfo& info);
Napi::Value ProgramOutcomes(const Napi::CallbackInfo& info);
Napi::Value ProgramSamples(const Napi::CallbackInfo& info);
Napi::Value ProgramRaise(const Napi::CallbackInfo& info);
Napi::Value UserSignals(const Napi::CallbackInfo& info);
Napi::Value ResponderStart(const Napi::CallbackInfo& info);
Napi::Value ResponderStop(const Napi::CallbackInfo& info);
Napi::Value ResponderInfo(const Napi::CallbackInfo& info);

// receive_calls.cc
inline constexpr CallLayout kReceiveAndPlace{
    "receiveAndPlace", Arguments{"dst", "alias", "bounce", "runBytes", "totalBytes"}, Results{}};
Napi::Value ReceiveAndPlace(const Napi::CallbackInfo& info);

}  // namespace postcopy::lab
