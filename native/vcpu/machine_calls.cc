// Makes machines, and starts, stops, fills and verifies them. No function waits for a vCPU, except
// machineStop() for the given time.
#include <array>

#include "calls.h"
#include "common/args.h"
#include "common/call_numbers.h"
#include "common/region_lease.h"
#include "common/values.h"
#include "machine.h"

namespace postcopy::guest {
namespace {

// The lease of another addon's mapping; null after a failure.
const RegionLease* LeaseOf(Args& args, size_t index, const char* name) {
  const auto* lease = static_cast<const RegionLease*>(
      args.Tagged(index, name, kRegionLeaseTag, "a lease of a memory region"));
  if (lease == nullptr) return nullptr;
  args.Require(lease->version == kRegionLeaseVersion, name, "of this version of the package");
  return lease;
}

Napi::Value FindingsArray(napi_env env, const std::vector<Finding>& findings) {
  using FindingRow = Row<kFinding>;
  std::vector<double> numbers(findings.size() * FindingRow::kStride);
  for (size_t i = 0; i < findings.size(); ++i) {
    const Finding& finding = findings[i];
    const FindingRow row(&numbers[i * FindingRow::kStride]);
    row.Set<"verdict">(finding.verdict);
    row.Set<"block">(finding.block);
    row.Set<"offsetBytes">(finding.offset_bytes);
    row.Set<"lengthBytes">(finding.length_bytes);
    row.Set<"got">(finding.got);
    row.Set<"expected">(finding.expected);
  }
  return Float64ArrayValue(env, numbers);
}

}  // namespace

Napi::Value MachineCreate(const Napi::CallbackInfo& info) {
  Args args(info);
  const RegionLease* ram = LeaseOf(args, 0, "ram");
  const RegionLease* ledger = LeaseOf(args, 1, "ledger");
  const auto vcpus = static_cast<uint32_t>(args.Number(2, "vcpus", 1024));
  const auto vcpu_pages = static_cast<uint32_t>(args.Number(3, "vcpuPages", UINT32_MAX));
  if (!args.ok()) return {};
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
  CallNumbers<kMachineConfigure> numbers(args, 1);
  Workload workload;
  workload.pattern =
      static_cast<Pattern>(numbers.Number<"pattern">(static_cast<uint64_t>(Pattern::kChase)));
  workload.writes_percent = static_cast<uint32_t>(numbers.Number<"writesPercent">(100));
  workload.fill_percent = static_cast<uint32_t>(numbers.Number<"fillPercent">(100));
  workload.hot_pages = numbers.Number<"hotPages">();
  workload.touches_limit = numbers.Number<"touches">();
  workload.rate = static_cast<double>(numbers.Number<"rate">());
  workload.seed = numbers.Number<"seed">();
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
  return FlagValue(info.Env(), machine->Stop(wait));
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
  return args.ok() ? FlagValue(info.Env(), machine->Gone()) : Napi::Value();
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
  using SealRow = Row<kSealedPage>;
  std::vector<SealedPage> sealed;
  for (size_t at = 0; at + SealRow::kStride <= seals.size(); at += SealRow::kStride) {
    const SealRow row(&seals[at]);
    SealedPage seal{};
    args.Require(ToInteger(row.Get<"page">(), 0, UINT32_MAX, &seal.page) &&
                     ToInteger(row.Get<"checksum">(), 0, UINT32_MAX, &seal.checksum) &&
                     seal.page < machine->memory().ram_bytes() / kPageBytes,
                 "sealed", "pages of ram with their checksums");
    sealed.push_back(seal);
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
  return args.ok() ? FlagValue(info.Env(), machine->ScanRunning()) : Napi::Value();
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
  std::array<double, kVerdicts> counts{};
  for (size_t i = 0; i < kVerdicts; ++i) counts[i] = static_cast<double>(result.counts[i]);
  return ObjectValue(info.Env())
      .Flag("complete", result.complete)
      .Number("pages", static_cast<double>(result.pages))
      .Value("counts", NumbersValue(info.Env(), counts))
      .Value("findings", FindingsArray(info.Env(), result.findings))
      .value();
}

Napi::Value MachineFindings(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto machine = args.Object<Machine>(0, "machine");
  return args.ok() ? FindingsArray(info.Env(), machine->VcpuFindings()) : Napi::Value();
}

}  // namespace postcopy::guest
