#include "calls.h"
#include "common/load_loop.h"
#include "record_args.h"
#include "region.h"

namespace postcopy {

namespace {

void Report(std::span<double> result, const PageCounts& loaded) noexcept {
  result[0] = static_cast<double>(loaded.normal);
  result[1] = static_cast<double>(loaded.zero);
}

}  // namespace

// (region, usedLength, received, zeroed, bytes, start, end, result): bytes consumed, or -errno.
Napi::Value LoadRecords(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto region = args.Object<Region>(0, "region");
  const uint64_t used_length = UsedLengthOf(args, 1, args.ok() ? region->length() : 0);
  const Bitmap received = BitmapOf(args, 2, "received", used_length);
  const Bitmap zeroed = BitmapOf(args, 3, "zeroed", used_length);
  Incoming in = IncomingOf(args, 4, used_length);
  const std::span<double> result = args.Float64s(7, "result", 2);
  if (!args.ok()) return {};
  if (!region->writable()) return Result(args, -EACCES);
  const size_t start = in.at;
  // Huge pages are populated in advance, because they may run short. They are not `emptied`: zeros
  // must be written.
  const bool emptied = region->page_size() == kTargetPageBytes;
  Report(result, LoadLoop(region->address(), emptied, received, zeroed, &in).Run());
  return Result(args, static_cast<int64_t>(in.at - start));
}

}  // namespace postcopy
