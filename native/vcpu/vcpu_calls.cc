// State and statistics of single vCPUs.
#include <algorithm>
#include <ctime>

#include "calls.h"
#include "common/args.h"
#include "machine.h"

namespace postcopy::guest {
namespace {

constexpr size_t kStateWords = 7;
constexpr size_t kStatsFields = 11;

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
  const auto words = args.Uint64s(2, "state", kStateWords);
  if (!args.ok()) return {};
  const VcpuState state = machine->SaveVcpu(vcpu.index);
  words[0] = state.generator.random;
  words[1] = state.generator.position;
  words[2] = state.touches;
  words[3] = state.reads;
  words[4] = state.writes;
  words[5] = state.failed_checks;
  words[6] = state.filled;
  return {};
}

Napi::Value VcpuLoad(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  const VcpuArgument vcpu(args, machine);
  const auto words = args.Uint64s(2, "state", kStateWords);
  if (!args.ok()) return {};
  const VcpuState state{{words[0], words[1]}, words[2], words[3], words[4], words[5], words[6]};
  return Result(args, machine->LoadVcpu(vcpu.index, state));
}

// In the order of `readVcpuStats` in src/guest/vcpu-stats.ts.
Napi::Value VcpuReadStats(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  const VcpuArgument vcpu(args, machine);
  const auto out = args.Float64s(2, "out", kStatsFields);
  if (!args.ok()) return {};
  const VcpuStats& stats = machine->vcpus()[vcpu.index]->stats();
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const double now_ns = static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
  out[0] = static_cast<double>(machine->ActivityOf(vcpu.index));
  out[1] = static_cast<double>(stats.touches.Get());
  out[2] = static_cast<double>(stats.reads.Get());
  out[3] = static_cast<double>(stats.writes.Get());
  out[4] = static_cast<double>(stats.failed_checks.Get());
  out[5] = static_cast<double>(stats.blocktime_ns.Get()) / 1000;
  out[6] = static_cast<double>(stats.max_touch_ns.Get());
  const uint64_t since_ns = stats.touching_since_ns.Get();
  const uint64_t touching = stats.touching.Get();
  out[7] = static_cast<double>(touching) - 1;
  out[8] = touching == 0 ? 0 : std::max(0.0, (now_ns - static_cast<double>(since_ns)) / 1000);
  out[9] = machine->vcpus()[vcpu.index]->slice().first;
  out[10] = machine->vcpus()[vcpu.index]->slice().count;
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
