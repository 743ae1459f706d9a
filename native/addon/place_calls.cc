#include "calls.h"
#include "common/place_loop.h"
#include "record_args.h"
#include "region.h"
#include "userfaultfd.h"

namespace postcopy {

// (uffd, region, received, bytes, numbers): bytes consumed.
Napi::Value PlaceRecords(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const auto region = args.Object<Region>(1, "region");
  RecordNumbers<kPlaceRecords> numbers(args, 4);
  const uint64_t used_length = numbers.UsedLength(args.ok() ? region->length() : 0);
  const Bitmap received = BitmapOf(args, 2, "received", used_length);
  Incoming in = numbers.Records(3, used_length);
  if (!args.ok()) return {};
  args.Require(region->page_size() == kTargetPageBytes, "region",
               "of 4096-byte pages; assemble larger ones before they are placed");
  if (!args.ok()) return {};
  const size_t start = in.at;
  const Placed placed =
      PlaceLoop(*uffd, reinterpret_cast<uintptr_t>(region->address()), received, &in).Run();
  numbers.SetCounts(placed.normal, placed.zero);
  numbers.Set<"errno">(placed.error);
  numbers.Set<"offset">(placed.offset);
  numbers.Set<"ioctls">(placed.ioctls);
  numbers.Set<"stop">(placed.stop);
  return Result(args, static_cast<int64_t>(in.at - start));
}

}  // namespace postcopy
