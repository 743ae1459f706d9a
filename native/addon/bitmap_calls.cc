// Bitmap loops for JavaScript, which would need a call or an iteration for each bit.
#include "calls.h"
#include "common/args.h"
#include "common/bitmap.h"
#include "common/records.h"

namespace postcopy {

namespace {

struct BitmapRange {
  Bytes bits;
  uint64_t from = 0;
  uint64_t to = 0;
};

// (bitmap, from, to)
BitmapRange BitmapRangeOf(Args& args) {
  const BitmapRange range{args.Uint8s(0, "bitmap"), args.Number(1, "from"), args.Number(2, "to")};
  args.Require(range.from <= range.to && range.to <= range.bits.size() * 8, "from and to",
               "ascending and inside the bitmap");
  return range;
}

}  // namespace

// (bitmap, from, to, out): the number of rows in `out`.
Napi::Value BitmapRuns(const Napi::CallbackInfo& info) {
  using Run = Row<kPageRun>;
  Args args(info);
  const BitmapRange range = BitmapRangeOf(args);
  const std::span<double> out = args.Float64s(3, "out", Run::kStride);
  if (!args.ok()) return {};
  const Bitmap bitmap(range.bits);
  size_t count = 0;
  for (size_t page = range.from; count < out.size() / Run::kStride; ++count) {
    const size_t start = bitmap.FindNext(page, range.to);
    if (start == range.to) break;
    page = bitmap.FindNextClear(start, range.to);
    const Run row(&out[count * Run::kStride]);
    row.Set<"start">(start);
    row.Set<"end">(page);
  }
  return Result(args, static_cast<int64_t>(count));
}

// (bitmap, from, to): the page, or -1.
Napi::Value BitmapFindNext(const Napi::CallbackInfo& info) {
  Args args(info);
  const BitmapRange range = BitmapRangeOf(args);
  if (!args.ok()) return {};
  const size_t page = Bitmap(range.bits).FindNext(range.from, range.to);
  return Result(args, page == range.to ? -1 : static_cast<int64_t>(page));
}

Napi::Value BitmapCount(const Napi::CallbackInfo& info) {
  Args args(info);
  const BitmapRange range = BitmapRangeOf(args);
  if (!args.ok()) return {};
  return Result(args, static_cast<int64_t>(Bitmap(range.bits).Count(range.from, range.to)));
}

// (bitmap, from, to, value): pages changed.
Napi::Value BitmapFill(const Napi::CallbackInfo& info) {
  Args args(info);
  const BitmapRange range = BitmapRangeOf(args);
  const bool value = args.Flag(3, "value");
  if (!args.ok()) return {};
  Bitmap bitmap(range.bits);
  const size_t changed =
      value ? bitmap.SetRange(range.from, range.to) : bitmap.ClearRange(range.from, range.to);
  return Result(args, static_cast<int64_t>(changed));
}

// (bitmap, other, how)
Napi::Value BitmapMerge(const Napi::CallbackInfo& info) {
  Args args(info);
  Bitmap bitmap(args.Uint8s(0, "bitmap"));
  const Bytes other = args.Uint8s(1, "other");
  const std::string how = args.Text(2, "how");
  args.Require(how == "add" || how == "keep" || how == "remove", "how", "add, keep or remove");
  if (!args.ok()) return {};
  if (how == "add") {
    bitmap.MergeWith(other, [](unsigned own, unsigned its) noexcept { return own | its; });
  } else if (how == "keep") {
    bitmap.MergeWith(other, [](unsigned own, unsigned its) noexcept { return own & its; });
  } else {
    bitmap.MergeWith(other, [](unsigned own, unsigned its) noexcept { return own & ~its; });
  }
  return info.Env().Undefined();
}

// (bitmap, pages, hostPages): if one page of a host page is set, sets all of them; pages changed.
Napi::Value BitmapRoundOut(const Napi::CallbackInfo& info) {
  Args args(info);
  const Bytes bits = args.Uint8s(0, "bitmap");
  const uint64_t pages = args.Number(1, "pages", bits.size() * 8);
  const uint64_t host_pages = args.Number(2, "hostPages");
  args.Require(host_pages > 0, "hostPages", "at least 1");
  if (!args.ok()) return {};
  return Result(args, static_cast<int64_t>(Bitmap(bits).RoundOut(pages, host_pages)));
}

Napi::Value BytesAreZero(const Napi::CallbackInfo& info) {
  Args args(info);
  const Bytes bytes = args.Uint8s(0, "bytes");
  if (!args.ok()) return {};
  return FlagValue(args.env(), IsZero(bytes.data(), bytes.size()));
}

}  // namespace postcopy
