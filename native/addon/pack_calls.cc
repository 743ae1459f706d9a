#include "calls.h"
#include "common/args.h"
#include "common/pack_loop.h"
#include "common/send_loop.h"
#include "region.h"

namespace postcopy {

namespace {

struct Packing {
  std::shared_ptr<Region> region;  // keeps the memory of `job` mapped
  PackJob job{};
  Bitmap bitmap = Bitmap(Bytes());
  Bytes out;
  size_t out_offset = 0;
};

// A read-only mapping has exactly the content of its file, so the file can be read instead. For an
// unreadable page, pread(2) returns an error, but the mapping raises SIGBUS.
int FileOf(const Region& region) noexcept {
  return region.kind() == RegionKind::kFile && !region.writable() ? region.fd() : -1;
}

// (region, bitmap, from, to, hostPages, maxPages, name | undefined, out, outOffset)
Packing PackingOf(Args& args) {
  auto region = args.Object<Region>(0, "region");
  const Bytes bits = args.Uint8s(1, "bitmap");
  const uint64_t from = args.Number(2, "from");
  const uint64_t to = args.Number(3, "to");
  const uint64_t host_pages = args.Number(4, "hostPages");
  const uint64_t most_pages = args.Number(5, "maxPages");
  const Bytes name = args.IsUndefined(6) ? Bytes() : args.Uint8s(6, "name");
  const Bytes out = args.Uint8s(7, "out");
  const uint64_t out_offset = args.Number(8, "outOffset");
  if (!args.ok()) return {};
  args.Require(from <= to && to <= bits.size() * 8 && to <= region->length() / kTargetPageBytes,
               "from and to", "ascending, inside the bitmap and the region");
  args.Require(
      host_pages > 0 && (host_pages == 1 || (from % host_pages == 0 && to % host_pages == 0)),
      "from and to", "multiples of hostPages");
  args.Require(args.IsUndefined(6) || (!name.empty() && name.size() < 256), "name",
               "1 to 255 bytes");
  args.Require(out_offset <= out.size(), "outOffset", "inside out");
  const uint8_t* memory = region->address();
  const int file = FileOf(*region);
  return {.region = std::move(region),
          .job = {.memory = memory,
                  .from = from,
                  .to = to,
                  .host_pages = host_pages,
                  .most_pages = most_pages,
                  .name = name,
                  .file = file},
          .bitmap = Bitmap(bits),
          .out = out,
          .out_offset = out_offset};
}

void Report(const Packed& packed, std::span<double> result) noexcept {
  result[0] = static_cast<double>(packed.next_page);
  result[1] = static_cast<double>(packed.normal);
  result[2] = static_cast<double>(packed.zero);
}

}  // namespace

// (those of PackingOf, result): bytes written, or -errno of reading page result[0].
Napi::Value PackPages(const Napi::CallbackInfo& info) {
  Args args(info);
  const Packing packing = PackingOf(args);
  const std::span<double> result = args.Float64s(9, "result", 3);
  if (!args.ok()) return {};
  const Packed packed =
      PackLoop(packing.job, packing.bitmap, packing.out.subspan(packing.out_offset)).Run();
  Report(packed, result);
  return Result(args, packed.error != 0 ? -packed.error : static_cast<int64_t>(packed.bytes));
}

// (those of PackingOf, result, fd, piecePages): end of the unsent rest in `out`, or -errno, see
// above.
Napi::Value SendPages(const Napi::CallbackInfo& info) {
  Args args(info);
  const Packing packing = PackingOf(args);
  const std::span<double> result = args.Float64s(9, "result", 6);
  const int fd = args.Fd(10, "fd");
  const uint64_t piece_pages = args.Number(11, "piecePages");
  if (!args.ok()) return {};
  args.Require(piece_pages > 0, "piecePages", "at least 1");
  if (!args.ok()) return {};
  const Sent sent =
      SendLoop(packing.job, packing.bitmap, packing.out, packing.out_offset).Run(fd, piece_pages);
  Report(sent.packed, result);
  result[3] = static_cast<double>(sent.bytes);
  result[4] = static_cast<double>(sent.unsent_from);
  result[5] = sent.interrupted ? 1 : 0;
  return Result(args, sent.packed.error != 0 ? -sent.packed.error : static_cast<int64_t>(sent.end));
}

}  // namespace postcopy
