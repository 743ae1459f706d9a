// Calls on files that Node lacks.
#include "calls.h"
#include "common/args.h"
#include "common/sys.h"

namespace postcopy {

// (fd, from, hole): the next offset with data, or the next hole; -ENXIO if there is none.
Napi::Value FileSeek(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0, "fd");
  const uint64_t from = args.Number(1, "from");
  const bool hole = args.Flag(2, "hole");
  if (!args.ok()) return {};
  const int whence = hole ? SEEK_HOLE : SEEK_DATA;
  return Result(args, CountOrErrno(::lseek(fd, static_cast<off_t>(from), whence)));
}

}  // namespace postcopy
