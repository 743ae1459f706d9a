#include "calls.h"
#include "common/args.h"
#include "common/call_numbers.h"
#include "common/pack_loop.h"
#include "common/send_loop.h"
#include "page_file.h"
#include "region.h"

namespace postcopy {

namespace {

// Where the pages are: in memory, or in files.
struct Pages {
  std::shared_ptr<Region> region;
  std::shared_ptr<PageFile> file;

  const uint8_t* memory() const noexcept { return region == nullptr ? nullptr : region->address(); }
  size_t length() const noexcept { return file == nullptr ? region->length() : file->length(); }
};

Pages PagesOf(Args& args, size_t index) {
  Pages pages;
  if (args.IsHandle<PageFile>(index))
    pages.file = args.Object<PageFile>(index, "pages");
  else
    pages.region = args.Object<Region>(index, "pages");
  return pages;
}

// Keeps what `job` needs.
struct Packing {
  Pages pages;
  std::optional<PageReader> reader;
  PackJob job{};
  Bitmap bitmap = Bitmap(Bytes());
  Bytes out;
  size_t out_offset = 0;
};

// (pages, bitmap, name | undefined, out, numbers). Fills `packing`, which must stay where it is.
template <const auto& kLayout>
void ReadPacking(Args& args, CallNumbers<kLayout>& numbers, Packing* packing) {
  packing->pages = PagesOf(args, 0);
  const Bytes bits = args.Uint8s(1, "bitmap");
  const bool named = !args.IsUndefined(2);
  const Bytes name = named ? args.Uint8s(2, "name") : Bytes();
  packing->out = args.Uint8s(3, "out");
  packing->bitmap = Bitmap(bits);
  packing->out_offset = numbers.template Number<"outOffset">();
  packing->job = {.memory = nullptr,
                  .from = numbers.template Number<"from">(),
                  .to = numbers.template Number<"to">(),
                  .host_pages = numbers.template Number<"hostPages">(),
                  .most_pages = numbers.template Number<"maxPages">(),
                  .name = name};
  const bool wait = numbers.template Flag<"wait">();
  if (!args.ok()) return;
  PackJob& job = packing->job;
  args.Require(job.from <= job.to && job.to <= bits.size() * 8 &&
                   job.to <= packing->pages.length() / kTargetPageBytes,
               "from and to", "ascending, inside the bitmap and the pages");
  args.Require(job.host_pages > 0 && (job.host_pages == 1 || (job.from % job.host_pages == 0 &&
                                                              job.to % job.host_pages == 0)),
               "from and to", "multiples of hostPages");
  args.Require(!named || (!name.empty() && name.size() < kMaxNameBytes), "name", "1 to 255 bytes");
  args.Require(packing->out_offset <= packing->out.size(), "outOffset", "inside out");
  job.memory = packing->pages.memory();
  if (packing->pages.file != nullptr) {
    job.reader = &packing->reader.emplace(packing->pages.file->table(), wait);
  }
}

template <const auto& kLayout>
void Report(const Packed& packed, CallNumbers<kLayout>& numbers) {
  numbers.template Set<"nextPage">(packed.next_page);
  numbers.template Set<"normalPages">(packed.normal);
  numbers.template Set<"zeroPages">(packed.zero);
  numbers.template Set<"isWaiting">(packed.error == EAGAIN ? 1 : 0);
}

// A page that has to be read from disk first is no failure.
Napi::Value Outcome(const Args& args, const Packed& packed, size_t count) {
  const bool failed = packed.error != 0 && packed.error != EAGAIN;
  return Result(args, failed ? -packed.error : static_cast<int64_t>(count));
}

}  // namespace

// (pages, bitmap, name | undefined, out, numbers): bytes written, or -errno of reading the page
// `nextPage`.
Napi::Value PackPages(const Napi::CallbackInfo& info) {
  Args args(info);
  CallNumbers<kPackPages> numbers(args, 4);
  Packing packing;
  ReadPacking(args, numbers, &packing);
  if (!args.ok()) return {};
  const Packed packed =
      PackLoop(packing.job, packing.bitmap, packing.out.subspan(packing.out_offset)).Run();
  Report(packed, numbers);
  return Outcome(args, packed, packed.bytes);
}

// (pages, bitmap, name | undefined, out, numbers): end of the unsent rest in `out`, or -errno, see
// above.
Napi::Value SendPages(const Napi::CallbackInfo& info) {
  Args args(info);
  CallNumbers<kSendPages> numbers(args, 4);
  Packing packing;
  ReadPacking(args, numbers, &packing);
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
  return Outcome(args, sent.packed, sent.end);
}

}  // namespace postcopy
