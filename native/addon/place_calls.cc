#include "calls.h"
#include "common/place_loop.h"
#include "record_args.h"
#include "region.h"
#include "userfaultfd.h"

namespace postcopy {

// (uffd, region, usedLength, received, bytes, start, end, result): bytes consumed.
Napi::Value PlaceRecords(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const auto region = args.Object<Region>(1, "region");
  const uint64_t used_length = UsedLengthOf(args, 2, args.ok() ? region->length() : 0);
  const Bitmap received = BitmapOf(args, 3, "received", used_length);
  Incoming in = IncomingOf(args, 4, used_length);
  const std::span<double> result = args.Float64s(7, "result", 6);
  if (!args.ok()) return {};
  args.Require(region->page_size() == kTargetPageBytes, "region",
               "of 4096-byte pages; assemble larger ones before they are placed");
  if (!args.ok()) return {};
  const size_t start = in.at;
  const Placed placed =
      PlaceLoop(*uffd, reinterpret_cast<uintptr_t>(region->address()), received, &in).Run();
  result[0] = static_cast<double>(placed.normal);
  result[1] = static_cast<double>(placed.zero);
  result[2] = static_cast<double>(placed.error);
  result[3] = static_cast<double>(placed.offset);
  result[4] = static_cast<double>(placed.ioctls);
  result[5] = static_cast<double>(placed.stop);
  return Result(args, static_cast<int64_t>(in.at - start));
}

}  // namespace postcopy
