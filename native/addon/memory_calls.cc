// System calls and accesses on a region. Each checks first that its range is inside the region.
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "calls.h"
#include "common/args.h"
#include "common/uapi.h"
#include "region.h"

namespace postcopy {

namespace {

long AdviceNumber(std::string_view name) noexcept {
  for (const auto& [known, value] : uapi::kAdvice) {
    if (name == known) return value;
  }
  return -1;
}

long Madvise(const Region& region, uint64_t offset, uint64_t length, int advice) noexcept {
  return CountOrErrno(::madvise(region.address() + offset, length, advice));
}

// Punching a hole also drops the reservation of its huge pages. A new mapping makes a new one,
// which stays with the file. Without it, placing a page could fail later, when the peer already
// depends on this end.
long ReserveAgain(const Region& region, uint64_t offset, uint64_t length) noexcept {
  void* address = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, region.fd(),
                         static_cast<off_t>(offset));
  if (address == MAP_FAILED) return -errno;
  return ::munmap(address, length) == 0 ? 0 : -errno;
}

// Private memory drops its pages. Shared memory must drop them from the file too, otherwise the
// next access maps them again without a missing fault.
long Discard(const Region& region, uint64_t offset, uint64_t length) noexcept {
  const bool anonymous = region.kind() == RegionKind::kAnon;
  const long result =
      Madvise(region, offset, length, anonymous ? uapi::kMadvDontneed : uapi::kMadvRemove);
  if (result != 0 || length == 0 || region.kind() != RegionKind::kHugetlb) return result;
  return ReserveAgain(region, offset, length);
}

// A write that keeps the content, even if other threads write there. It is one read-modify-write,
// so that the first fault is a write fault. It is volatile, so that the compiler does not turn it
// into a load. It is not instrumented, because the thread sanitizer would load first.
__attribute__((no_sanitize("thread"))) void TouchWrite(uint8_t* address) noexcept {
  __atomic_fetch_or(static_cast<volatile uint8_t*>(address), 0, __ATOMIC_RELAXED);
}

void Touch(const Region& region, uint64_t offset, uint64_t length, bool write) noexcept {
  const uint64_t page = region.page_size();
  for (uint64_t at = offset; at < offset + length; at = (at / page + 1) * page) {
    if (write) {
      TouchWrite(region.address() + at);
    } else {
      static_cast<void>(
          __atomic_load_n(static_cast<volatile uint8_t*>(region.address() + at), __ATOMIC_RELAXED));
    }
  }
}

// The first arguments of nearly every function here.
struct Range {
  std::shared_ptr<Region> region;
  uint64_t offset = 0;
  uint64_t length = 0;
  uint8_t* address = nullptr;
};

Range RangeOf(Args& args, size_t offset_index, size_t length_index) {
  Range range{args.Object<Region>(0, "region"), args.Number(offset_index, "offset"),
              args.Number(length_index, "length")};
  if (!args.ok()) return range;
  args.Require(range.region->Contains(range.offset, range.length), "offset and length",
               "inside the region");
  range.address = range.region->address() + range.offset;
  return range;
}

}  // namespace

Napi::Value RegionMadvise(const Napi::CallbackInfo& info) {
  Args args(info);
  const Range range = RangeOf(args, 1, 2);
  const long advice = AdviceNumber(args.Text(3, "advice"));
  args.Require(advice >= 0, "advice", "a name from madvise(2) without MADV_");
  if (!args.ok()) return {};
  return Result(args, Madvise(*range.region, range.offset, range.length, static_cast<int>(advice)));
}

Napi::Value RegionDiscard(const Napi::CallbackInfo& info) {
  Args args(info);
  const Range range = RangeOf(args, 1, 2);
  if (!args.ok()) return {};
  return Result(args, Discard(*range.region, range.offset, range.length));
}

Napi::Value RegionMincore(const Napi::CallbackInfo& info) {
  Args args(info);
  const Range range = RangeOf(args, 1, 2);
  const Bytes out = args.Uint8s(3, "out");
  if (!args.ok()) return {};
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  args.Require(out.size() >= (range.length + page - 1) / page, "out", "one byte per page long");
  if (!args.ok()) return {};
  const long result = CountOrErrno(::mincore(range.address, range.length, out.data()));
  // mincore(2) reserves the other bits.
  for (uint8_t& state : out) state &= 1;
  return Result(args, result);
}

Napi::Value RegionRead(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto region = args.Object<Region>(0, "region");
  const uint64_t offset = args.Number(1, "offset");
  const Bytes target = args.Uint8s(2, "target");
  if (!args.ok()) return {};
  args.Require(region->Contains(offset, target.size()), "offset and target", "inside the region");
  if (!args.ok()) return {};
  if (!target.empty()) std::memcpy(target.data(), region->address() + offset, target.size());
  return Result(args, 0);
}

Napi::Value RegionWrite(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto region = args.Object<Region>(0, "region");
  const uint64_t offset = args.Number(1, "offset");
  const Bytes source = args.Uint8s(2, "source");
  const bool alias = args.Flag(3, "alias");
  if (!args.ok()) return {};
  args.Require(region->Contains(offset, source.size()), "offset and source", "inside the region");
  args.Require(!alias || region->alias() != nullptr, "region", "one with an alias");
  if (!args.ok()) return {};
  if (!region->writable()) return Result(args, -EACCES);
  uint8_t* memory = alias ? region->alias() : region->address();
  if (!source.empty()) std::memcpy(memory + offset, source.data(), source.size());
  return Result(args, 0);
}

Napi::Value RegionTouch(const Napi::CallbackInfo& info) {
  Args args(info);
  const Range range = RangeOf(args, 1, 2);
  const bool write = args.Flag(3, "write");
  if (!args.ok()) return {};
  if (write && !range.region->writable()) return Result(args, -EACCES);
  Touch(*range.region, range.offset, range.length, write);
  return Result(args, 0);
}

Napi::Value RegionReadFile(const Napi::CallbackInfo& info) {
  Args args(info);
  const Range range = RangeOf(args, 1, 2);
  const int fd = args.Fd(3, "fd");
  const uint64_t position = args.Number(4, "position");
  if (!args.ok()) return {};
  return Result(args, CountOrErrnoUninterrupted([&]() noexcept {
                  return ::pread(fd, range.address, range.length, static_cast<off_t>(position));
                }));
}

Napi::Value RegionWriteFile(const Napi::CallbackInfo& info) {
  Args args(info);
  const Range range = RangeOf(args, 1, 2);
  const int fd = args.Fd(3, "fd");
  const uint64_t position = args.Number(4, "position");
  if (!args.ok()) return {};
  return Result(args, CountOrErrnoUninterrupted([&]() noexcept {
                  return ::pwrite(fd, range.address, range.length, static_cast<off_t>(position));
                }));
}

}  // namespace postcopy
