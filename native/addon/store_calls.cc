#include "calls.h"
#include "common/store_loop.h"
#include "record_args.h"

namespace postcopy {

// (fd, usedLength, received, zeroed, bytes, start, end, result): bytes consumed.
Napi::Value StoreRecords(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0, "fd");
  const uint64_t used_length = UsedLengthOf(args, 1, Args::kMaxSafeInteger);
  const Bitmap received = BitmapOf(args, 2, "received", used_length);
  const Bitmap zeroed = BitmapOf(args, 3, "zeroed", used_length);
  Incoming in = IncomingOf(args, 4, used_length);
  const std::span<double> result = args.Float64s(7, "result", 4);
  if (!args.ok()) return {};
  const size_t start = in.at;
  const Stored stored = StoreLoop(fd, received, zeroed, &in).Run();
  result[0] = static_cast<double>(stored.normal);
  result[1] = static_cast<double>(stored.zero);
  result[2] = static_cast<double>(stored.error);
  result[3] = static_cast<double>(stored.offset);
  return Result(args, static_cast<int64_t>(in.at - start));
}

}  // namespace postcopy
