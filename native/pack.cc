#include "args.h"
#include "callbacks.h"
#include "packer.h"
#include "region.h"

namespace postcopy {

// (region, bitmap, from, to, hostPages, maxPages, name | undefined, out, outOffset, result): bytes
// written.
Napi::Value PackPages(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto region = args.Object<Region>(0, "region");
  const Bytes bits = args.Uint8s(1, "bitmap");
  const uint64_t from = args.Number(2, "from");
  const uint64_t to = args.Number(3, "to");
  const uint64_t host_pages = args.Number(4, "hostPages");
  const uint64_t most_pages = args.Number(5, "maxPages");
  const Bytes name = args.IsUndefined(6) ? Bytes() : args.Uint8s(6, "name");
  const Bytes out = args.Uint8s(7, "out");
  const uint64_t out_offset = args.Number(8, "outOffset");
  const std::span<double> result = args.Float64s(9, "result", 3);
  if (!args.ok()) return {};
  args.Require(from <= to && to <= bits.size() * 8 && to <= region->length() / kTargetPageBytes,
               "from and to", "ascending, inside the bitmap and the region");
  args.Require(
      host_pages > 0 && (host_pages == 1 || (from % host_pages == 0 && to % host_pages == 0)),
      "from and to", "multiples of hostPages");
  args.Require(args.IsUndefined(6) || (!name.empty() && name.size() < 256), "name",
               "1 to 255 bytes");
  args.Require(out_offset <= out.size(), "outOffset", "inside out");
  if (!args.ok()) return {};

  const PackJob job{.memory = region->address(),
                    .from = from,
                    .to = to,
                    .host_pages = host_pages,
                    .most_pages = most_pages,
                    .name = name};
  const Packed packed = Packer(job, Bitmap(bits), out.subspan(out_offset)).Run();
  result[0] = static_cast<double>(packed.next_page);
  result[1] = static_cast<double>(packed.normal);
  result[2] = static_cast<double>(packed.zero);
  return Result(args, static_cast<int64_t>(packed.bytes));
}

}  // namespace postcopy
