// Threads of the lab: programs (program.h) and responders (responder.h). They are detached,
// see thread.h. A process of the lab ends with exit_group, which does not wait for blocked threads.
#include <sched.h>

#include <cstddef>
#include <iterator>
#include <memory>
#include <span>
#include <vector>

#include "calls.h"
#include "common/args.h"
#include "common/call_numbers.h"
#include "common/thread.h"
#include "common/values.h"
#include "program.h"
#include "responder.h"
#include "signals.h"

namespace postcopy::lab {
namespace {

constexpr size_t kStepStride = Row<kSweepStep>::kStride;
static_assert(kStepStride == 1 + std::size(Step{}.args));
constexpr double kLargest = 0x1p63;

// Decodes the steps in `numbers`; a RangeError for an invalid one.
std::vector<Step> StepsOf(Args& args, std::span<const double> numbers) {
  std::vector<Step> steps(numbers.size() / kStepStride);
  for (size_t i = 0; i < steps.size(); ++i) {
    const std::span<const double> from = numbers.subspan(i * kStepStride, kStepStride);
    bool valid = ToInteger(from[0], 1, static_cast<double>(StepKind::kMemcpy), &steps[i].kind);
    for (size_t k = 0; k + 1 < kStepStride; ++k) {
      valid = valid && from[k + 1] < kLargest &&
              ToInteger(from[k + 1], -kLargest, kLargest, &steps[i].args[k]);
    }
    args.Require(valid && IsValid(steps[i], steps.size() - i - 1), "steps", "valid steps");
    if (!args.ok()) return {};
  }
  return steps;
}

}  // namespace

// programStart(steps, numbers): a handle or -errno.
Napi::Value ProgramStart(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto encoded = args.Float64s(0, "steps", kStepStride);
  CallNumbers<kProgramStart> numbers(args, 1);
  const auto samples = static_cast<size_t>(numbers.Number<"samples">(1U << 26));
  ProgramOptions options;
  options.policy = static_cast<SignalPolicy>(
      numbers.Number<"policy">(static_cast<uint64_t>(SignalPolicy::kUnprotect)));
  options.fd = numbers.Int<"fd">();
  options.source = numbers.Number<"source">();
  options.cpu = numbers.Int<"cpu">();
  options.take_signals = numbers.Flag<"takeSignals">();
  args.Require(options.cpu < CPU_SETSIZE, "cpu", "less than 1024");
  const std::vector<Step> steps = StepsOf(args, encoded);
  if (!args.ok()) return {};
  auto program = Program::Create(steps, samples, options);
  if (program == nullptr) return Result(args, -ENOMEM);
  const int error = StartDetachedThread("lab", [program] { program->Run(); });
  if (error != 0) return Result(args, error);
  return NewHandle(info.Env(), std::move(program));
}

// The thread id is 0 before the program begins.
Napi::Value ProgramInfo(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto program = args.Object<Program>(0, "program");
  if (!args.ok()) return {};
  const Shared& shared = program->shared();
  return ObjectValue(args.env())
      .Number("threadId", shared.thread_id.load())
      .Flag("finished", shared.finished.load() != 0)
      .Number("faultSignals", shared.fault_signals.load())
      .value();
}

// A row for each step.
Napi::Value ProgramOutcomes(const Napi::CallbackInfo& info) {
  using OutcomeRow = Row<kOutcome>;
  Args args(info);
  const auto program = args.Object<Program>(0, "program");
  if (!args.ok()) return {};
  const std::span<Outcome> outcomes = program->outcomes();
  std::vector<double> out(outcomes.size() * OutcomeRow::kStride);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const Outcome& outcome = outcomes[i];
    const OutcomeRow row(&out[i * OutcomeRow::kStride]);
    row.Set<"state">(outcome.state.load());
    row.Set<"value">(outcome.value);
    row.Set<"signal">(outcome.signal);
    row.Set<"code">(outcome.code);
    row.Set<"address">(outcome.address);
    row.Set<"nanoseconds">(outcome.nanoseconds);
  }
  return Float64ArrayValue(args.env(), out);
}

Napi::Value ProgramSamples(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto program = args.Object<Program>(0, "program");
  if (!args.ok()) return {};
  const auto samples = program->samples();
  const std::vector<double> out(samples.begin(), samples.end());
  return Float64ArrayValue(args.env(), out);
}

// programRaise(program, flag, value): lets a step that waits for the flag continue.
Napi::Value ProgramRaise(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto program = args.Object<Program>(0, "program");
  const uint64_t flag = args.Number(1, "flag", Shared::kFlags - 1);
  const uint64_t value = args.Number(2, "value");
  if (args.ok()) program->shared().flags[flag].store(static_cast<int64_t>(value));
  return {};
}

Napi::Value UserSignals(const Napi::CallbackInfo& info) {
  return NumberValue(info.Env(), UserSignalCount());
}

// responderStart(fd, numbers): a handle or -errno.
Napi::Value ResponderStart(const Napi::CallbackInfo& info) {
  Args args(info);
  ResponderOptions options;
  options.fd = args.Fd(0, "fd");
  CallNumbers<kResponderStart> numbers(args, 1);
  options.waiting =
      static_cast<Waiting>(numbers.Number<"waiting">(static_cast<uint64_t>(Waiting::kBusy)));
  options.cpu = numbers.Int<"cpu">();
  options.batch = static_cast<uint32_t>(numbers.Number<"batch">(UINT32_MAX));
  options.page_bytes = numbers.Number<"pageBytes">();
  options.source = numbers.Number<"source">();
  args.Require(options.page_bytes > 0, "pageBytes", "more than 0");
  args.Require(options.cpu < CPU_SETSIZE, "cpu", "less than 1024");
  if (!args.ok()) return {};
  auto responder = std::make_shared<Responder>(options);
  const int error = StartDetachedThread("lab-responder", [responder] { responder->Run(); });
  if (error != 0) return Result(args, error);
  return NewHandle(info.Env(), std::move(responder));
}

Napi::Value ResponderStop(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto responder = args.Object<Responder>(0, "responder");
  if (responder != nullptr) responder->Stop();
  return {};
}

Napi::Value ResponderInfo(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto responder = args.Object<Responder>(0, "responder");
  if (!args.ok()) return {};
  return ObjectValue(args.env())
      .Number("threadId", responder->thread_id.load())
      .Number("messages", static_cast<double>(responder->messages.load()))
      .Number("reads", static_cast<double>(responder->reads.load()))
      .Number("refusals", static_cast<double>(responder->refusals.load()))
      .Number("lastError", static_cast<double>(responder->last_error.load()))
      .value();
}

}  // namespace postcopy::lab
