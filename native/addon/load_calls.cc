#include "calls.h"
#include "common/load_loop.h"
#include "record_args.h"
#include "region.h"

namespace postcopy {

// (region, received, zeroed, bytes, numbers): bytes consumed, or -errno.
Napi::Value LoadRecords(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto region = args.Object<Region>(0, "region");
  RecordNumbers<kLoadRecords> numbers(args, 4);
  const uint64_t used_length = numbers.UsedLength(args.ok() ? region->length() : 0);
  const Bitmap received = BitmapOf(args, 1, "received", used_length);
  const Bitmap zeroed = BitmapOf(args, 2, "zeroed", used_length);
  Incoming in = numbers.Records(3, used_length);
  if (!args.ok()) return {};
  if (!region->writable()) return Result(args, -EACCES);
  const size_t start = in.at;
  // Huge pages are populated in advance, because the pool may be used up later. They may have
  // content, so zeros must be written.
  const bool emptied = region->page_size() == kTargetPageBytes;
  const PageCounts loaded = LoadLoop(region->address(), emptied, received, zeroed, &in).Run();
  numbers.SetCounts(loaded.normal, loaded.zero);
  return Result(args, static_cast<int64_t>(in.at - start));
}

}  // namespace postcopy
