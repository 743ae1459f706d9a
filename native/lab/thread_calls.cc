// Threads of the lab: programs (program.h) and responders (responder.h). They are detached,
// see thread.h. A process of the lab ends with exit_group, which does not wait for blocked threads.
#include <sched.h>

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "calls.h"
#include "common/args.h"
#include "common/thread.h"
#include "common/values.h"
#include "program.h"
#include "responder.h"
#include "signals.h"

namespace postcopy::lab {
namespace {

constexpr size_t kStepStride = 8;
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

// programStart(steps, samples, policy, fd, source, cpu, takeSignals): a handle or -errno.
Napi::Value ProgramStart(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto numbers = args.Float64s(0, "steps", kStepStride);
  const auto samples = static_cast<size_t>(args.Number(1, "samples", 1U << 26));
  ProgramOptions options;
  options.policy = static_cast<SignalPolicy>(args.Number(2, "policy", 2));
  options.fd = args.Int(3, "fd");
  options.source = args.Number(4, "source");
  options.cpu = args.Int(5, "cpu");
  options.take_signals = args.Flag(6, "takeSignals");
  args.Require(options.cpu < CPU_SETSIZE, "cpu", "less than 1024");
  const std::vector<Step> steps = StepsOf(args, numbers);
  if (!args.ok()) return {};
  auto program = Program::Create(steps, samples, options);
  if (program == nullptr) return Result(args, -ENOMEM);
  const int error = StartDetachedThread("lab", [program] { program->Run(); });
  if (error != 0) return Result(args, error);
  return NewHandle(info.Env(), std::move(program));
}

// [thread id (0: not begun), finished, faults that the signal policy resolved]
Napi::Value ProgramInfo(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto program = args.Object<Program>(0, "program");
  if (!args.ok()) return {};
  const Shared& shared = program->shared();
  return ListValue(args.env(),
                   {Result(args, shared.thread_id.load()), Result(args, shared.finished.load()),
                    Result(args, shared.fault_signals.load())});
}

// Per step: state, value, signal, code, address, nanoseconds.
Napi::Value ProgramOutcomes(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto program = args.Object<Program>(0, "program");
  if (!args.ok()) return {};
  std::vector<double> out;
  for (const Outcome& outcome : program->outcomes()) {
    out.insert(out.end(),
               {static_cast<double>(outcome.state.load()), static_cast<double>(outcome.value),
                static_cast<double>(outcome.signal), static_cast<double>(outcome.code),
                static_cast<double>(outcome.address), static_cast<double>(outcome.nanoseconds)});
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

// responderStart(fd, waiting, cpu, batch, pageBytes, source): a handle or -errno.
Napi::Value ResponderStart(const Napi::CallbackInfo& info) {
  Args args(info);
  ResponderOptions options;
  options.fd = args.Fd(0, "fd");
  options.waiting = static_cast<Waiting>(args.Number(1, "waiting", 3));
  options.cpu = args.Int(2, "cpu");
  options.batch = static_cast<uint32_t>(args.Number(3, "batch", UINT32_MAX));
  options.page_bytes = args.Number(4, "pageBytes");
  options.source = args.Number(5, "source");
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

// [thread id, messages, reads, refusals, last error]
Napi::Value ResponderInfo(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto responder = args.Object<Responder>(0, "responder");
  if (!args.ok()) return {};
  const std::array<double, 5> out{static_cast<double>(responder->thread_id.load()),
                                  static_cast<double>(responder->messages.load()),
                                  static_cast<double>(responder->reads.load()),
                                  static_cast<double>(responder->refusals.load()),
                                  static_cast<double>(responder->last_error.load())};
  return NumbersValue(args.env(), out);
}

}  // namespace postcopy::lab
