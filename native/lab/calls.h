// All functions that the lab's addon exports, typed in src/host/native.ts.
#pragma once

#include <napi.h>

namespace postcopy::lab {

// syscall_calls.cc
Napi::Value SyscallNumbers(const Napi::CallbackInfo& info);
Napi::Value Syscall(const Napi::CallbackInfo& info);
Napi::Value AddressOf(const Napi::CallbackInfo& info);
Napi::Value Peek(const Napi::CallbackInfo& info);
Napi::Value Poke(const Napi::CallbackInfo& info);

// thread_calls.cc
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
Napi::Value ReceiveAndPlace(const Napi::CallbackInfo& info);

}  // namespace postcopy::lab
