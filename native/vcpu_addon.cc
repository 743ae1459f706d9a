// The addon of guest machines as src/guest/native.ts sees it: one function an operation. Nothing
// here waits for a vCPU, but for the bounded time that machineStop() is given.
#include <napi.h>

#include <cerrno>
#include <ctime>
#include <span>

#include "args.h"
#include "machine.h"
#include "region_lease.h"

namespace postcopy::guest {
namespace {

using MachineHandle = std::shared_ptr<Machine>;

constexpr size_t kFindingStride = 6;
constexpr size_t kStateWords = 7;
constexpr size_t kStatsFields = 11;

// A share in another addon's mapping, or nothing with a pending TypeError.
const RegionLease* LeaseOf(const Napi::CallbackInfo& info, size_t index, const char* name) {
  bool tagged = false;
  napi_check_object_type_tag(info.Env(), info[index], &kRegionLeaseTag, &tagged);
  const auto* lease = tagged ? info[index].As<Napi::External<RegionLease>>().Data() : nullptr;
  if (lease != nullptr && lease->version == kRegionLeaseVersion) return lease;
  Napi::TypeError::New(info.Env(), std::string(name) + " must be a lease of a memory region")
      .ThrowAsJavaScriptException();
  return nullptr;
}

std::span<uint64_t> StateWords(const Napi::CallbackInfo& info, size_t index) {
  if (info[index].IsTypedArray()) {
    auto array = info[index].As<Napi::TypedArray>();
    if (array.TypedArrayType() == napi_biguint64_array && array.ElementLength() >= kStateWords) {
      return {array.As<Napi::BigUint64Array>().Data(), kStateWords};
    }
  }
  Napi::TypeError::New(info.Env(), "state must be a BigUint64Array of 7")
      .ThrowAsJavaScriptException();
  return {};
}

// The machine and the index of one of its vCPUs.
struct VcpuArgument {
  VcpuArgument(Args& args, const MachineHandle& machine)
      : index(static_cast<uint32_t>(args.Number(1, "vcpu", UINT32_MAX))) {
    if (args.ok()) args.Require(index < machine->vcpus().size(), "vcpu", "one of the machine");
  }
  uint32_t index;
};

Napi::Value FindingsArray(Napi::Env env, const std::vector<Finding>& findings) {
  auto array = Napi::Float64Array::New(env, findings.size() * kFindingStride);
  size_t at = 0;
  for (const Finding& finding : findings) {
    array[at++] = static_cast<double>(finding.verdict);
    array[at++] = static_cast<double>(finding.block);
    array[at++] = static_cast<double>(finding.offset_bytes);
    array[at++] = static_cast<double>(finding.length_bytes);
    array[at++] = static_cast<double>(finding.got);
    array[at++] = static_cast<double>(finding.expected);
  }
  return array;
}

Napi::Value MachineCreate(const Napi::CallbackInfo& info) {
  const RegionLease* ram = LeaseOf(info, 0, "ram");
  if (ram == nullptr) return {};
  const RegionLease* ledger = LeaseOf(info, 1, "ledger");
  if (ledger == nullptr) return {};
  Args args(info);
  const auto vcpus = static_cast<uint32_t>(args.Number(2, "vcpus", 1024));
  const auto vcpu_pages = static_cast<uint32_t>(args.Number(3, "vcpuPages", UINT32_MAX));
  const size_t ram_pages = ram->length_bytes / kPageBytes;
  args.Require(vcpus > 0, "vcpus", "at least 1");
  args.Require(vcpu_pages >= vcpus && vcpu_pages <= ram_pages, "vcpuPages", "in ram");
  args.Require(ledger->length_bytes >= ram_pages * sizeof(uint32_t), "ledger", "an entry a page");
  if (!args.ok()) return {};
  LeasedRegion ram_share(*ram);
  LeasedRegion ledger_share(*ledger);
  args.Require(ram_share && ledger_share, "ram and ledger", "open");
  if (!args.ok()) return {};
  auto machine = std::make_shared<Machine>(
      GuestMemory(std::move(ram_share), std::move(ledger_share), vcpu_pages), vcpus);
  const int result = machine->StartThreads();
  if (result < 0) {
    machine->Quit();
    return Result(args, result);
  }
  return NewHandle(info.Env(), std::move(machine));
}

Napi::Value MachineConfigure(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  Workload workload;
  workload.pattern =
      static_cast<Pattern>(args.Number(1, "pattern", static_cast<uint64_t>(Pattern::kChase)));
  workload.writes_percent = static_cast<uint32_t>(args.Number(2, "writesPercent", 100));
  workload.fill_percent = static_cast<uint32_t>(args.Number(3, "fillPercent", 100));
  workload.hot_pages = args.Number(4, "hotPages");
  workload.touches_limit = args.Number(5, "touches");
  workload.rate = static_cast<double>(args.Number(6, "rate"));
  workload.seed = args.Number(7, "seed");
  if (!args.ok()) return {};
  return Result(args, machine->Configure(workload));
}

Napi::Value MachineStart(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  return args.ok() ? Result(args, machine->Start()) : Napi::Value();
}

Napi::Value MachineStop(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  const std::chrono::microseconds wait(args.Number(1, "waitUs", 1'000'000));
  if (!args.ok()) return {};
  return Napi::Boolean::New(info.Env(), machine->Stop(wait));
}

Napi::Value MachineQuit(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  if (args.ok()) machine->Quit();
  return {};
}

Napi::Value MachineClose(const Napi::CallbackInfo& info) {
  Args args(info);
  auto* handle = args.HandleOf<Machine>(0, "machine");
  if (handle != nullptr) handle->object.reset();
  return {};
}

Napi::Value MachineGone(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  return args.ok() ? Napi::Boolean::New(info.Env(), machine->Gone()) : Napi::Value();
}

Napi::Value MachineFill(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  return args.ok() ? Result(args, machine->BeginFill()) : Napi::Value();
}

Napi::Value MachineVerify(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  const auto seals = args.Float64s(1, "sealed", 0);
  if (!args.ok()) return {};
  std::vector<SealedPage> sealed;
  for (size_t at = 0; at + 1 < seals.size(); at += 2) {
    const auto page = static_cast<uint32_t>(seals[at]);
    args.Require(page < machine->memory().ram_bytes() / kPageBytes, "sealed", "pages of ram");
    sealed.push_back({page, static_cast<uint32_t>(seals[at + 1])});
  }
  if (!args.ok()) return {};
  return Result(args, machine->BeginVerify(std::move(sealed)));
}

Napi::Value MachineCancelScan(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  if (args.ok()) machine->CancelScan();
  return {};
}

Napi::Value MachineScanRunning(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  return args.ok() ? Napi::Boolean::New(info.Env(), machine->ScanRunning()) : Napi::Value();
}

Napi::Value MachineScannedPages(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  return args.ok() ? Result(args, static_cast<int64_t>(machine->scanned_pages())) : Napi::Value();
}

Napi::Value MachineTakeScanResult(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  if (!args.ok()) return {};
  const ScanResult result = machine->TakeScanResult();
  auto counts = Napi::Array::New(info.Env(), kVerdicts);
  for (uint32_t i = 0; i < kVerdicts; ++i) counts.Set(i, static_cast<double>(result.counts[i]));
  auto object = Napi::Object::New(info.Env());
  object.Set("complete", result.complete);
  object.Set("pages", static_cast<double>(result.pages));
  object.Set("counts", counts);
  object.Set("findings", FindingsArray(info.Env(), result.findings));
  return object;
}

Napi::Value MachineFindings(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  return args.ok() ? FindingsArray(info.Env(), machine->VcpuFindings()) : Napi::Value();
}

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
  if (!args.ok()) return {};
  const auto words = StateWords(info, 2);
  if (words.empty()) return {};
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
  if (!args.ok()) return {};
  const auto words = StateWords(info, 2);
  if (words.empty()) return {};
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

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("machineCreate", MachineCreate);
  add("machineConfigure", MachineConfigure);
  add("machineStart", MachineStart);
  add("machineStop", MachineStop);
  add("machineQuit", MachineQuit);
  add("machineClose", MachineClose);
  add("machineGone", MachineGone);
  add("machineFill", MachineFill);
  add("machineVerify", MachineVerify);
  add("machineCancelScan", MachineCancelScan);
  add("machineScanRunning", MachineScanRunning);
  add("machineScannedPages", MachineScannedPages);
  add("machineTakeScanResult", MachineTakeScanResult);
  add("machineFindings", MachineFindings);
  add("vcpuThreadId", VcpuThreadId);
  add("vcpuSave", VcpuSave);
  add("vcpuLoad", VcpuLoad);
  add("vcpuReadStats", VcpuReadStats);
  add("vcpuReadHistogram", VcpuReadHistogram);
  add("checksum", ChecksumOf);
  return exports;
}

}  // namespace
}  // namespace postcopy::guest

namespace {
Napi::Object InitVcpuAddon(Napi::Env env, Napi::Object exports) {
  return postcopy::guest::Init(env, exports);
}
}  // namespace

NODE_API_MODULE(vcpu, InitVcpuAddon)
