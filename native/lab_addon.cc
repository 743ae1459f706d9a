// The addon of the kernel lab: raw system calls, programs on threads, native responders. A target
// of its own, since nothing that a migration needs may be able to do this.
#include <napi.h>

#include "lab_calls.h"
#include "lab_signals.h"

namespace {

Napi::Object InitLabAddon(Napi::Env env, Napi::Object exports) {
  using namespace postcopy::lab;
  static const bool installed = [] {
    InstallSignalHandlers();
    return true;
  }();
  static_cast<void>(installed);
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("syscallNumbers", SyscallNumbers);
  add("syscall", Syscall);
  add("addressOf", AddressOf);
  add("peek", Peek);
  add("poke", Poke);
  add("programStart", ProgramStart);
  add("programInfo", ProgramInfo);
  add("programOutcomes", ProgramOutcomes);
  add("programSamples", ProgramSamples);
  add("programRaise", ProgramRaise);
  add("userSignals", UserSignals);
  add("responderStart", ResponderStart);
  add("responderStop", ResponderStop);
  add("responderInfo", ResponderInfo);
  add("receiveAndPlace", ReceiveAndPlace);
  return exports;
}

}  // namespace

NODE_API_MODULE(lab, InitLabAddon)
