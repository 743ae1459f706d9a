#include "callbacks.h"
#include "loader.h"
#include "receive.h"
#include "region.h"

namespace postcopy {

namespace {

void Report(std::span<double> result, const Loaded& loaded) noexcept {
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
  Report(result, LoadRecords(region->address(), emptied, received, zeroed, &in));
  return Result(args, static_cast<int64_t>(in.at - start));
}

// (staging, state, usedLength, received, bytes, start, end, result): bytes consumed.
Napi::Value AssembleRecords(const Napi::CallbackInfo& info) {
  Args args(info);
  const Bytes staging = args.Uint8s(0, "staging");
  args.Require(!staging.empty() && staging.size() % kTargetPageBytes == 0, "staging",
               "one host page long");
  const auto state = args.Int32s(1, "state", Assembly::Words(staging.size() / kTargetPageBytes));
  const uint64_t used_length = UsedLengthOf(args, 2, uint64_t{INT32_MAX} * kTargetPageBytes);
  const Bitmap received = BitmapOf(args, 3, "received", used_length);
  Incoming in = IncomingOf(args, 4, used_length);
  const std::span<double> result = args.Float64s(7, "result", 3);
  if (!args.ok()) return {};
  args.Require(used_length % staging.size() == 0, "usedLength", "whole host pages");
  if (!args.ok()) return {};
  const size_t start = in.at;
  Loaded loaded;
  result[2] = Assembly(staging, state).Run(received, &in, &loaded);
  Report(result, loaded);
  return Result(args, static_cast<int64_t>(in.at - start));
}

}  // namespace postcopy
