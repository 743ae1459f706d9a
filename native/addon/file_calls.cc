// Calls on files that Node lacks.
#include <unistd.h>

#include <algorithm>

#include "calls.h"
#include "common/args.h"
#include "common/sys.h"

namespace postcopy {

// (fd, from, to, out): the number of rows of data in `out`, or -errno. Moves the descriptor's file
// offset. Continue from the end of the last row, if `out` is full.
Napi::Value FileExtents(const Napi::CallbackInfo& info) {
  using Extent = Row<kFileExtent>;
  Args args(info);
  const int fd = args.Fd(0, "fd");
  const uint64_t from = args.Number(1, "from");
  const uint64_t to = args.Number(2, "to");
  const std::span<double> out = args.Float64s(3, "out", Extent::kStride);
  if (!args.ok()) return {};
  size_t count = 0;
  for (auto at = static_cast<off_t>(from);
       at < static_cast<off_t>(to) && count < out.size() / Extent::kStride; ++count) {
    const long start = CountOrErrno(::lseek(fd, at, SEEK_DATA));
    if (start == -ENXIO || start >= static_cast<off_t>(to)) break;
    const long end = start < 0 ? start : CountOrErrno(::lseek(fd, start, SEEK_HOLE));
    if (end < 0) return Result(args, end);
    at = std::min(end, static_cast<off_t>(to));
    const Extent row(&out[count * Extent::kStride]);
    row.Set<"start">(start);
    row.Set<"end">(at);
  }
  return Result(args, static_cast<int64_t>(count));
}

}  // namespace postcopy
