// Threads of the lab: programs (lab_program.h) and responders (lab_responder.h). They are detached,
// see thread.h; a lab's process ends with exit_group, which no parked thread holds up.
#include <cstddef>
#include <memory>
#include <vector>

#include "args.h"
#include "lab_calls.h"
#include "lab_program.h"
#include "lab_responder.h"
#include "lab_signals.h"
#include "thread.h"

namespace postcopy::lab {
namespace {

constexpr size_t kStepStride = 8;
constexpr size_t kOutcomeStride = 6;
constexpr napi_type_tag kProgramTag = {0x706f7374636f7079, 0x6c61620000000001};
constexpr napi_type_tag kResponderTag = {0x706f7374636f7079, 0x6c61620000000002};

template <typename T>
Napi::Value Wrap(Napi::Env env, std::shared_ptr<T> object, const napi_type_tag& tag) {
  auto external = Napi::External<std::shared_ptr<T>>::New(
      env, new std::shared_ptr<T>(std::move(object)),
      [](Napi::Env, std::shared_ptr<T>* own) { delete own; });
  external.TypeTag(&tag);
  return external;
}

template <typename T>
std::shared_ptr<T> Unwrap(const Napi::CallbackInfo& info, const napi_type_tag& tag) {
  bool tagged = false;
  napi_check_object_type_tag(info.Env(), info[0], &tag, &tagged);
  if (tagged) return *info[0].As<Napi::External<std::shared_ptr<T>>>().Data();
  Napi::TypeError::New(info.Env(), "not a handle of this addon").ThrowAsJavaScriptException();
  return nullptr;
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
  if (!args.ok()) return {};
  std::vector<Step> steps(numbers.size() / kStepStride);
  for (size_t i = 0; i < steps.size(); ++i) {
    const double* from = &numbers[i * kStepStride];
    steps[i].kind = static_cast<StepKind>(from[0]);
    for (size_t k = 0; k + 1 < kStepStride; ++k) {
      steps[i].args[k] = static_cast<int64_t>(from[k + 1]);
    }
  }
  auto program = Program::Create(steps, samples, options);
  if (program == nullptr) return Result(args, -ENOMEM);
  const int error = guest::StartDetachedThread("lab", [program] { program->Run(); });
  if (error != 0) return Result(args, error);
  return Wrap(info.Env(), std::move(program), kProgramTag);
}

// [thread id (0: not begun), finished, faults that the signal policy handled]
Napi::Value ProgramInfo(const Napi::CallbackInfo& info) {
  const auto program = Unwrap<Program>(info, kProgramTag);
  if (program == nullptr) return {};
  auto out = Napi::Array::New(info.Env(), 3);
  out[0U] = program->shared().thread_id.load();
  out[1U] = program->shared().finished.load();
  out[2U] = program->shared().fault_signals.load();
  return out;
}

// Per step: state, value, signal, code, address, nanoseconds.
Napi::Value ProgramOutcomes(const Napi::CallbackInfo& info) {
  const auto program = Unwrap<Program>(info, kProgramTag);
  if (program == nullptr) return {};
  auto out = Napi::Float64Array::New(info.Env(), program->size() * kOutcomeStride);
  size_t at = 0;
  for (const Outcome& outcome : program->outcomes()) {
    out[at++] = outcome.state.load();
    out[at++] = static_cast<double>(outcome.value);
    out[at++] = outcome.signal;
    out[at++] = outcome.code;
    out[at++] = static_cast<double>(outcome.address);
    out[at++] = static_cast<double>(outcome.nanoseconds);
  }
  return out;
}

Napi::Value ProgramSamples(const Napi::CallbackInfo& info) {
  const auto program = Unwrap<Program>(info, kProgramTag);
  if (program == nullptr) return {};
  const auto samples = program->samples();
  auto out = Napi::Float64Array::New(info.Env(), samples.size());
  for (size_t i = 0; i < samples.size(); ++i) out[i] = static_cast<double>(samples[i]);
  return out;
}

// programRaise(program, flag, value): lets a step that awaits the flag go on.
Napi::Value ProgramRaise(const Napi::CallbackInfo& info) {
  const auto program = Unwrap<Program>(info, kProgramTag);
  if (program == nullptr) return {};
  Args args(info);
  const uint64_t flag = args.Number(1, "flag", Shared::kFlags - 1);
  const uint64_t value = args.Number(2, "value");
  if (args.ok()) program->shared().flags[flag].store(static_cast<int64_t>(value));
  return {};
}

Napi::Value UserSignals(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), UserSignalCount());
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
  if (!args.ok()) return {};
  auto responder = std::make_shared<Responder>(options);
  const int error = guest::StartDetachedThread("lab-responder", [responder] { responder->Run(); });
  if (error != 0) return Result(args, error);
  return Wrap(info.Env(), std::move(responder), kResponderTag);
}

Napi::Value ResponderStop(const Napi::CallbackInfo& info) {
  const auto responder = Unwrap<Responder>(info, kResponderTag);
  if (responder != nullptr) responder->Stop();
  return {};
}

// [thread id, messages, reads, refusals, last error]
Napi::Value ResponderInfo(const Napi::CallbackInfo& info) {
  const auto responder = Unwrap<Responder>(info, kResponderTag);
  if (responder == nullptr) return {};
  auto out = Napi::Array::New(info.Env(), 5);
  out[0U] = responder->thread_id.load();
  out[1U] = static_cast<double>(responder->messages.load());
  out[2U] = static_cast<double>(responder->reads.load());
  out[3U] = static_cast<double>(responder->refusals.load());
  out[4U] = static_cast<double>(responder->last_error.load());
  return out;
}

}  // namespace postcopy::lab
