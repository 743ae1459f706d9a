// State and statistics of single vCPUs.
#include <algorithm>
#include <ctime>

#include "calls.h"
#include "common/args.h"
#include "common/call_numbers.h"
#include "machine.h"

namespace postcopy::guest {
namespace {

using StateRow = Row<kVcpuState, uint64_t>;

// The index of a vCPU of the machine.
struct VcpuArgument {
  VcpuArgument(Args& args, const std::shared_ptr<Machine>& machine)
      : index(static_cast<uint32_t>(args.Number(1, "vcpu", UINT32_MAX))) {
    if (args.ok()) args.Require(index < machine->vcpus().size(), "vcpu", "one of the machine");
  }
  uint32_t index;
};

}  // namespace

Napi::Value VcpuThreadId(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  const VcpuArgument vcpu(args, machine);
  return args.ok() ? Result(args, machine->vcpus()[vcpu.index]->thread_id()) : Napi::Value();
}

Napi::Value VcpuSave(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  const VcpuArgument vcpu(args, machine);
  const auto words = args.Uint64s(2, "state", StateRow::kStride);
  if (!args.ok()) return {};
  const VcpuState state = machine->SaveVcpu(vcpu.index);
  const StateRow row(words.data());
  row.Set<"random">(state.generator.random);
  row.Set<"position">(state.generator.position);
  row.Set<"touches">(state.touches);
  row.Set<"reads">(state.reads);
  row.Set<"writes">(state.writes);
  row.Set<"failedChecks">(state.failed_checks);
  row.Set<"filled">(state.filled);
  return {};
}

Napi::Value VcpuLoad(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  const VcpuArgument vcpu(args, machine);
  const auto words = args.Uint64s(2, "state", StateRow::kStride);
  if (!args.ok()) return {};
  const StateRow row(words.data());
  const VcpuState state{
      .generator = {.random = row.Get<"random">(), .position = row.Get<"position">()},
      .touches = row.Get<"touches">(),
      .reads = row.Get<"reads">(),
      .writes = row.Get<"writes">(),
      .failed_checks = row.Get<"failedChecks">(),
      .filled = row.Get<"filled">()};
  return Result(args, machine->LoadVcpu(vcpu.index, state));
}

// (machine, vcpu, numbers)
Napi::Value VcpuReadStats(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  const VcpuArgument vcpu(args, machine);
  CallNumbers<kVcpuReadStats> numbers(args, 2);
  if (!args.ok()) return {};
  const VcpuStats& stats = machine->vcpus()[vcpu.index]->stats();
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const double now_ns = static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
  numbers.Set<"activity">(machine->ActivityOf(vcpu.index));
  numbers.Set<"touches">(stats.touches.Get());
  numbers.Set<"reads">(stats.reads.Get());
  numbers.Set<"writes">(stats.writes.Get());
  numbers.Set<"failedChecks">(stats.failed_checks.Get());
  numbers.Set<"blocktimeUs">(static_cast<double>(stats.blocktime_ns.Get()) / 1000);
  numbers.Set<"maxTouchNs">(stats.max_touch_ns.Get());
  const uint64_t since_ns = stats.touching_since_ns.Get();
  const uint64_t touching = stats.touching.Get();
  numbers.Set<"touchedPage">(static_cast<double>(touching) - 1);
  numbers.Set<"touchedForUs">(
      touching == 0 ? 0 : std::max(0.0, (now_ns - static_cast<double>(since_ns)) / 1000));
  numbers.Set<"firstPage">(machine->vcpus()[vcpu.index]->slice().first);
  numbers.Set<"pageCount">(machine->vcpus()[vcpu.index]->slice().count);
  return {};
}

Napi::Value VcpuReadHistogram(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  const VcpuArgument vcpu(args, machine);
  const auto out = args.Float64s(2, "out", TouchHistogram::kBuckets);
  if (!args.ok()) return {};
  const TouchHistogram& histogram = machine->vcpus()[vcpu.index]->stats().histogram;
  for (size_t i = 0; i < TouchHistogram::kBuckets; ++i) {
    out[i] = static_cast<double>(histogram.Get(i));
  }
  return {};
}

Napi::Value ChecksumOf(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto bytes = args.Uint8s(0, "bytes");
  return args.ok() ? Result(args, Checksum(bytes.data(), bytes.size())) : Napi::Value();
}

}  // namespace postcopy::guest
