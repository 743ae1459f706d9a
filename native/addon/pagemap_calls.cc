// PAGEMAP_SCAN (Linux 6.7): the state of a region's page table entries, and the pages written since
// the last scan.
#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>

#include "calls.h"
#include "common/args.h"
#include "common/bitmap.h"
#include "common/call_numbers.h"
#include "common/records.h"
#include "common/sys.h"
#include "common/uapi.h"
#include "region.h"

namespace postcopy {

namespace {

UniqueFd OpenPagemap() noexcept {
  return UniqueFd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
}

// One ioctl. Returns the number of regions in `found`; *next is the address to continue from
// (scan.end if nothing is left).
//
// The kernel works in batches of 512 regions. It may leave walk_end at the border of a batch that
// it has already passed, and a scan from there would report pages twice. So neither walk_end alone
// nor "until walk_end == end" is reliable.
long Scan(int pagemap, uapi::PmScanArg& scan, std::span<uapi::PageRegion> found,
          uint64_t* next) noexcept {
  scan.size = sizeof scan;
  scan.vec = reinterpret_cast<uintptr_t>(found.data());
  scan.vec_len = found.size();
  const long count = CountOrErrno(::ioctl(pagemap, uapi::kPagemapScan, &scan));
  if (count < 0) return count;
  const auto filled = static_cast<size_t>(count);
  bool complete = filled < found.size();
  if (complete && scan.max_pages != 0) {
    uint64_t bytes = 0;
    for (const auto& region : found.first(filled)) bytes += region.end - region.start;
    complete = bytes < scan.max_pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  }
  *next = complete ? scan.end
                   : std::max(scan.walk_end, filled == 0 ? scan.start : found[filled - 1].end);
  return count;
}

constexpr size_t kBatch = 1024;

// Pages that were newly marked, or -errno.
long ScanDirty(const Region& region, uint64_t length, Bitmap dirty, bool arm) noexcept {
  const UniqueFd pagemap = OpenPagemap();
  if (!pagemap) return -errno;
  const auto base = reinterpret_cast<uintptr_t>(region.address());
  std::array<uapi::PageRegion, kBatch> found;
  uapi::PmScanArg scan{};
  scan.flags = arm ? uapi::kScanWpMatching | uapi::kScanCheckWpAsync : uapi::kScanCheckWpAsync;
  scan.start = base;
  scan.end = base + length;
  scan.category_mask = uapi::kPageIsWritten;
  scan.return_mask = uapi::kPageIsWritten;
  size_t marked = 0;
  while (scan.start < scan.end) {
    uint64_t next = 0;
    const long count = Scan(pagemap.get(), scan, found, &next);
    if (count < 0) return count;
    for (const auto& range : std::span(found).first(static_cast<size_t>(count))) {
      marked += dirty.SetRange((range.start - base) / kTargetPageBytes,
                               (range.end - base) / kTargetPageBytes);
    }
    scan.start = next;
  }
  return static_cast<long>(marked);
}

}  // namespace

// (region, lengthBytes, bitmap, arm): pages newly marked, or -errno.
Napi::Value PagemapScanDirty(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto region = args.Object<Region>(0, "region");
  const uint64_t length = args.Number(1, "lengthBytes");
  const Bytes bits = args.Uint8s(2, "bitmap");
  const bool arm = args.Flag(3, "arm");
  if (!args.ok()) return {};
  args.Require(region->Contains(0, length) && length % kTargetPageBytes == 0, "lengthBytes",
               "whole pages inside the region");
  args.Require(bits.size() * 8 >= length / kTargetPageBytes, "bitmap", "a bit per target page");
  if (!args.ok()) return {};
  return Result(args, ScanDirty(*region, length, Bitmap(bits), arm));
}

// (region, out, numbers): the number of rows in `out`, or -errno. Continue from the result `next`.
Napi::Value PagemapScan(const Napi::CallbackInfo& info) {
  using Range = Row<kPageRange>;
  Args args(info);
  const auto region = args.Object<Region>(0, "region");
  const std::span<double> out = args.Float64s(1, "out", Range::kStride);
  CallNumbers<kPagemapScan> numbers(args, 2);
  const uint64_t offset = numbers.Number<"offset">();
  const uint64_t length = numbers.Number<"length">();
  uapi::PmScanArg scan{};
  scan.flags = numbers.Number<"flags">();
  scan.max_pages = numbers.Number<"maxPages">();
  scan.category_inverted = numbers.Number<"inverted">();
  scan.category_mask = numbers.Number<"all">();
  scan.category_anyof_mask = numbers.Number<"any">();
  scan.return_mask = numbers.Number<"report">();
  if (!args.ok()) return {};
  args.Require(region->Contains(offset, length), "offset and length", "inside the region");
  if (!args.ok()) return {};
  const UniqueFd pagemap = OpenPagemap();
  if (!pagemap) return Result(args, -errno);
  const auto base = reinterpret_cast<uintptr_t>(region->address());
  scan.start = base + offset;
  scan.end = scan.start + length;
  std::array<uapi::PageRegion, kBatch> found;
  uint64_t next = scan.end;
  const std::span<uapi::PageRegion> room(found.data(),
                                         std::min(found.size(), out.size() / Range::kStride));
  const long count = length == 0 ? 0 : Scan(pagemap.get(), scan, room, &next);
  for (long i = 0; i < count; ++i) {
    const uapi::PageRegion& range = found[static_cast<size_t>(i)];
    const Range row(&out[static_cast<size_t>(i) * Range::kStride]);
    row.Set<"start">(range.start - base);
    row.Set<"end">(range.end - base);
    row.Set<"categories">(range.categories);
  }
  numbers.Set<"next">(next - base);
  return Result(args, count);
}

}  // namespace postcopy
