#include "calls.h"
#include "common/args.h"
#include "common/call_numbers.h"
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

// (region, bitmap, name | undefined, out, numbers)
template <const auto& kLayout>
Packing PackingOf(Args& args, CallNumbers<kLayout>& numbers) {
  auto region = args.Object<Region>(0, "region");
  const Bytes bits = args.Uint8s(1, "bitmap");
  const bool named = !args.IsUndefined(2);
  const Bytes name = named ? args.Uint8s(2, "name") : Bytes();
  const Bytes out = args.Uint8s(3, "out");
  const uint64_t from = numbers.template Number<"from">();
  const uint64_t to = numbers.template Number<"to">();
  const uint64_t host_pages = numbers.template Number<"hostPages">();
  const uint64_t most_pages = numbers.template Number<"maxPages">();
  const uint64_t out_offset = numbers.template Number<"outOffset">();
  if (!args.ok()) return {};
  args.Require(from <= to && to <= bits.size() * 8 && to <= region->length() / kTargetPageBytes,
               "from and to", "ascending, inside the bitmap and the region");
  args.Require(
      host_pages > 0 && (host_pages == 1 || (from % host_pages == 0 && to % host_pages == 0)),
      "from and to", "multiples of hostPages");
  args.Require(!named || (!name.empty() && name.size() < kMaxNameBytes), "name", "1 to 255 bytes");
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

template <const auto& kLayout>
void Report(const Packed& packed, CallNumbers<kLayout>& numbers) {
  numbers.template Set<"nextPage">(packed.next_page);
  numbers.template Set<"normalPages">(packed.normal);
  numbers.template Set<"zeroPages">(packed.zero);
}

}  // namespace

// (region, bitmap, name | undefined, out, numbers): bytes written, or -errno of reading the page
// `nextPage`.
Napi::Value PackPages(const Napi::CallbackInfo& info) {
  Args args(info);
  CallNumbers<kPackPages> numbers(args, 4);
  const Packing packing = PackingOf(args, numbers);
  if (!args.ok()) return {};
  const Packed packed =
      PackLoop(packing.job, packing.bitmap, packing.out.subspan(packing.out_offset)).Run();
  Report(packed, numbers);
  return Result(args, packed.error != 0 ? -packed.error : static_cast<int64_t>(packed.bytes));
}

// (region, bitmap, name | undefined, out, numbers): end of the unsent rest in `out`, or -errno, see
// above.
Napi::Value SendPages(const Napi::CallbackInfo& info) {
  Args args(info);
  CallNumbers<kSendPages> numbers(args, 4);
  const Packing packing = PackingOf(args, numbers);
  const int fd = numbers.Fd<"fd">();
  const uint64_t piece_pages = numbers.Number<"piecePages">();
  args.Require(piece_pages > 0, "piecePages", "at least 1");
  if (!args.ok()) return {};
  const Sent sent =
      SendLoop(packing.job, packing.bitmap, packing.out, packing.out_offset).Run(fd, piece_pages);
  Report(sent.packed, numbers);
  numbers.Set<"sentBytes">(sent.bytes);
  numbers.Set<"unsentFrom">(sent.unsent_from);
  numbers.Set<"interrupted">(sent.interrupted ? 1 : 0);
  return Result(args, sent.packed.error != 0 ? -sent.packed.error : static_cast<int64_t>(sent.end));
}

}  // namespace postcopy
