#include "pager.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include "die.h"

namespace postcopy::floor {

namespace {

// Events are not enabled, so EAGAIN without progress cannot occur.
template <typename Request>
long Fill(int fd, unsigned long number, Request& request, uint64_t length) noexcept {
  if (::ioctl(fd, number, &request) == 0) return static_cast<long>(length);
  return errno == EAGAIN && request.done > 0 ? static_cast<long>(request.done) : -errno;
}

// All faults here are of user code, so a user-mode-only userfaultfd is sufficient.
UniqueFd Open() noexcept {
  for (const int flags : {0, uapi::kUserModeOnly}) {
    UniqueFd fd(static_cast<int>(::syscall(uapi::kSysUserfaultfd, flags | O_CLOEXEC | O_NONBLOCK)));
    if (fd) return fd;
  }
  Die("userfaultfd(2) was refused; it needs Linux 5.11, root, or a container that allows it",
      errno);
}

}  // namespace

Pager::Pager(uint64_t start, uint64_t length) noexcept : fd_(Open()) {
  uapi::UffdioApi api{.api = uapi::kUffdApi, .features = 0, .ioctls = 0};
  if (::ioctl(fd(), uapi::kUffdioApi, &api) != 0) Die("UFFDIO_API", errno);
  uapi::UffdioRegister range{
      .range = {.start = start, .len = length}, .mode = uapi::kRegisterMissing, .ioctls = 0};
  if (::ioctl(fd(), uapi::kUffdioRegister, &range) != 0) Die("UFFDIO_REGISTER", errno);
}

long Pager::Copy(uint64_t dst, uint64_t src, uint64_t length, uint64_t mode) const noexcept {
  uapi::UffdioTransfer request{.dst = dst, .src = src, .len = length, .mode = mode, .done = 0};
  return Fill(fd(), uapi::kUffdioCopy, request, length);
}

long Pager::Zeropage(uint64_t start, uint64_t length, uint64_t mode) const noexcept {
  uapi::UffdioFill request{.range = {.start = start, .len = length}, .mode = mode, .done = 0};
  return Fill(fd(), uapi::kUffdioZeropage, request, length);
}

}  // namespace postcopy::floor
