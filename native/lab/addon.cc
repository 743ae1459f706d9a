// The addon of the kernel lab: raw system calls, programs on threads, native responders. It is a
// separate target, so that the addon of migrations has none of these functions.
#include <napi.h>

#include "calls.h"
#include "common/exports.h"
#include "program.h"
#include "responder.h"
#include "signals.h"

namespace postcopy::lab {
namespace {

constexpr Export kFunctions[] = {
    {"syscallNumbers", SyscallNumbers},
    {"syscall", Syscall},
    {"addressOf", AddressOf},
    {"peek", Peek},
    {"poke", Poke},
    {kProgramStart, ProgramStart},
    {"programInfo", ProgramInfo},
    {"programOutcomes", ProgramOutcomes},
    {"programSamples", ProgramSamples},
    {"programRaise", ProgramRaise},
    {"userSignals", UserSignals},
    {kResponderStart, ResponderStart},
    {"responderStop", ResponderStop},
    {"responderInfo", ResponderInfo},
    {kReceiveAndPlace, ReceiveAndPlace},
};

constexpr RowExport kRows[] = {kSweepStep, kOutcome};

constexpr ConstantExport kConstants[] = {
    {"step.load", StepKind::kLoad},
    {"step.store", StepKind::kStore},
    {"step.sweep", StepKind::kSweep},
    {"step.syscall", StepKind::kSyscall},
    {"step.fork", StepKind::kFork},
    {"step.fill", StepKind::kFill},
    {"step.sleep", StepKind::kSleep},
    {"step.awaitFlag", StepKind::kAwait},
    {"step.raiseFlag", StepKind::kRaise},
    {"step.memcpy", StepKind::kMemcpy},
    {"policy.record", SignalPolicy::kRecord},
    {"policy.copy", SignalPolicy::kCopy},
    {"policy.unprotect", SignalPolicy::kUnprotect},
    {"waiting.blocking", Waiting::kBlocking},
    {"waiting.poll", Waiting::kPoll},
    {"waiting.epoll", Waiting::kEpoll},
    {"waiting.busy", Waiting::kBusy},
};

constexpr Interface kInterface{kFunctions, kRows, kConstants};

}  // namespace

Napi::Object Init(Napi::Env, Napi::Object exports) {
  static const bool installed = [] {
    InstallSignalHandlers();
    return true;
  }();
  static_cast<void>(installed);
  return AddExports(exports, kInterface);
}

NODE_API_MODULE(lab, Init)

}  // namespace postcopy::lab
