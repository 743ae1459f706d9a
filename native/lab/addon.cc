// The addon of the kernel lab: raw system calls, programs on threads, native responders. It is a
// separate target, so that the addon of migrations has none of these functions.
#include <napi.h>

#include "calls.h"
#include "common/values.h"
#include "signals.h"

namespace postcopy::lab {
namespace {

constexpr Export kExports[] = {
    {"syscallNumbers", SyscallNumbers},
    {"syscall", Syscall},
    {"addressOf", AddressOf},
    {"peek", Peek},
    {"poke", Poke},
    {"programStart", ProgramStart},
    {"programInfo", ProgramInfo},
    {"programOutcomes", ProgramOutcomes},
    {"programSamples", ProgramSamples},
    {"programRaise", ProgramRaise},
    {"userSignals", UserSignals},
    {"responderStart", ResponderStart},
    {"responderStop", ResponderStop},
    {"responderInfo", ResponderInfo},
    {"receiveAndPlace", ReceiveAndPlace},
};

}  // namespace

Napi::Object Init(Napi::Env, Napi::Object exports) {
  static const bool installed = [] {
    InstallSignalHandlers();
    return true;
  }();
  static_cast<void>(installed);
  return AddExports(exports, kExports);
}

NODE_API_MODULE(lab, Init)

}  // namespace postcopy::lab
