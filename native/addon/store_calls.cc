#include "calls.h"
#include "common/store_loop.h"
#include "record_args.h"

namespace postcopy {

// (fd, received, zeroed, bytes, numbers): bytes consumed.
Napi::Value StoreRecords(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0, "fd");
  RecordNumbers<kStoreRecords> numbers(args, 4);
  const uint64_t used_length = numbers.UsedLength(Args::kMaxSafeInteger);
  const Bitmap received = BitmapOf(args, 1, "received", used_length);
  const Bitmap zeroed = BitmapOf(args, 2, "zeroed", used_length);
  Incoming in = numbers.Records(3, used_length);
  if (!args.ok()) return {};
  const size_t start = in.at;
  const Stored stored = StoreLoop(fd, received, zeroed, &in).Run();
  numbers.SetCounts(stored.normal, stored.zero);
  numbers.Set<"errno">(stored.error);
  numbers.Set<"offset">(stored.offset);
  return Result(args, static_cast<int64_t>(in.at - start));
}

}  // namespace postcopy
