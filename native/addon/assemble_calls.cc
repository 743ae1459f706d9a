#include "calls.h"
#include "common/assemble_loop.h"
#include "record_args.h"

namespace postcopy {

namespace {

void Report(std::span<double> result, const PageCounts& loaded) noexcept {
  result[0] = static_cast<double>(loaded.normal);
  result[1] = static_cast<double>(loaded.zero);
}

}  // namespace

// (staging, state, usedLength, received, bytes, start, end, result): bytes consumed.
Napi::Value AssembleRecords(const Napi::CallbackInfo& info) {
  Args args(info);
  const Bytes staging = args.Uint8s(0, "staging");
  args.Require(!staging.empty() && staging.size() % kTargetPageBytes == 0, "staging",
               "one host page long");
  const auto state =
      args.Int32s(1, "state", AssembleLoop::Words(staging.size() / kTargetPageBytes));
  const uint64_t used_length = UsedLengthOf(args, 2, uint64_t{INT32_MAX} * kTargetPageBytes);
  const Bitmap received = BitmapOf(args, 3, "received", used_length);
  Incoming in = IncomingOf(args, 4, used_length);
  const std::span<double> result = args.Float64s(7, "result", 3);
  if (!args.ok()) return {};
  args.Require(used_length % staging.size() == 0, "usedLength", "whole host pages");
  if (!args.ok()) return {};
  const size_t start = in.at;
  PageCounts loaded;
  result[2] = AssembleLoop(staging, state).Run(received, &in, &loaded);
  Report(result, loaded);
  return Result(args, static_cast<int64_t>(in.at - start));
}

}  // namespace postcopy
