#include "calls.h"
#include "common/assemble_loop.h"
#include "record_args.h"

namespace postcopy {

// (staging, state, received, bytes, numbers): bytes consumed.
Napi::Value AssembleRecords(const Napi::CallbackInfo& info) {
  Args args(info);
  const Bytes staging = args.Uint8s(0, "staging");
  args.Require(!staging.empty() && staging.size() % kTargetPageBytes == 0, "staging",
               "one host page long");
  const auto state =
      args.Int32s(1, "state", AssembleLoop::Words(staging.size() / kTargetPageBytes));
  RecordNumbers<kAssembleRecords> numbers(args, 4);
  const uint64_t used_length = numbers.UsedLength(uint64_t{INT32_MAX} * kTargetPageBytes);
  const Bitmap received = BitmapOf(args, 2, "received", used_length);
  Incoming in = numbers.Records(3, used_length);
  if (!args.ok()) return {};
  args.Require(used_length % staging.size() == 0, "usedLength", "whole host pages");
  if (!args.ok()) return {};
  const size_t start = in.at;
  PageCounts assembled;
  const auto stop = AssembleLoop(staging, state).Run(received, &in, &assembled);
  numbers.SetCounts(assembled.normal, assembled.zero);
  numbers.Set<"stop">(stop);
  return Result(args, static_cast<int64_t>(in.at - start));
}

}  // namespace postcopy
