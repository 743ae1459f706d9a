// Makes, describes, lends and closes regions.
#include "calls.h"
#include "common/args.h"
#include "common/region_lease.h"
#include "region.h"

namespace postcopy {

namespace {

Napi::Value Created(const Args& args, long result, const char* syscall,
                    std::shared_ptr<Region> region) {
  if (result == 0) return NewHandle(args.env(), std::move(region));
  // Only here several system calls can fail, so the result names the one that did.
  return ListValue(args.env(), {Result(args, result), TextValue(args.env(), syscall)});
}

// The owner of a RegionLease. It does not keep the region mapped, because it lives until a garbage
// collection.
struct LeaseOwner {
  std::weak_ptr<Region> region;
  RegionLease table{};
};

void* RetainLease(void* owner) {
  auto region = static_cast<LeaseOwner*>(owner)->region.lock();
  return region == nullptr ? nullptr : new std::shared_ptr<Region>(std::move(region));
}

void ReleaseLease(void* retained) {
  delete static_cast<std::shared_ptr<Region>*>(retained);
}

}  // namespace

Napi::Value RegionCreate(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto kind =
      static_cast<RegionKind>(args.Number(0, "kind", static_cast<uint64_t>(RegionKind::kHugetlb)));
  const uint64_t length = args.Number(1, "lengthBytes");
  const bool alias = args.Flag(2, "alias");
  const std::string name = args.Text(3, "name");
  args.Require(!alias || kind != RegionKind::kAnon, "alias", "allowed with a memfd only");
  if (!args.ok()) return {};
  std::shared_ptr<Region> region;
  const char* syscall = "";
  const long result = Region::Create(kind, length, alias, name, &region, &syscall);
  return Created(args, result, syscall, std::move(region));
}

Napi::Value RegionOpenFile(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0, "fd");
  const uint64_t length = args.Number(1, "lengthBytes");
  const bool writable = args.Flag(2, "writable");
  if (!args.ok()) return {};
  std::shared_ptr<Region> region;
  const char* syscall = "";
  const long result = Region::OpenFile(fd, length, writable, &region, &syscall);
  return Created(args, result, syscall, std::move(region));
}

Napi::Value RegionAttach(const Napi::CallbackInfo& info) {
  Args args(info);
  const uint64_t id = args.Number(0, "id");
  if (!args.ok()) return {};
  auto region = Registry<Region>::Get().Find(id);
  return region == nullptr ? Result(args, -ENOENT) : NewHandle(args.env(), std::move(region));
}

Napi::Value RegionInfo(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto region = args.Object<Region>(0, "region");
  if (!args.ok()) return {};
  return ObjectValue(args.env())
      .Number("id", static_cast<double>(region->id()))
      .Number("kind", static_cast<double>(region->kind()))
      .Number("address", static_cast<double>(reinterpret_cast<uintptr_t>(region->address())))
      .Number("aliasAddress", static_cast<double>(reinterpret_cast<uintptr_t>(region->alias())))
      .Number("lengthBytes", static_cast<double>(region->length()))
      .Number("pageSizeBytes", static_cast<double>(region->page_size()))
      .Number("fd", region->fd())
      .value();
}

Napi::Value RegionClose(const Napi::CallbackInfo& info) {
  Args args(info);
  auto* handle = args.HandleOf<Region>(0, "region");
  if (handle != nullptr) handle->object.reset();
  return {};
}

Napi::Value RegionLeaseOf(const Napi::CallbackInfo& info) {
  Args args(info);
  auto region = args.Object<Region>(0, "region");
  if (!args.ok()) return {};
  // Threads of the other addon write there: a store to a read-only mapping would kill the process.
  args.Require(region->writable(), "region", "one that may be written");
  if (!args.ok()) return {};
  auto owner = std::make_unique<LeaseOwner>();
  owner->region = region;
  owner->table = {.version = kRegionLeaseVersion,
                  .owner = owner.get(),
                  .address = region->address(),
                  .length_bytes = region->length(),
                  .page_size_bytes = region->page_size(),
                  .retain = RetainLease,
                  .release = ReleaseLease};
  RegionLease* table = &owner->table;
  return ExternalValue(args.env(), table, std::move(owner), kRegionLeaseTag);
}

}  // namespace postcopy
