// The system calls of ioctl_userfaultfd(2); the callbacks are in userfaultfd_calls.cc.
#include "userfaultfd.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include "common/registry.h"
#include "common/uapi.h"

namespace postcopy {

namespace {

// The kernel writes the output field only if the call reached the pages. It is preset, because
// otherwise a stale value could be taken for a count. EAGAIN with a positive field is a partial
// result; EAGAIN with any other value means that an event must be read first.
template <typename Request>
long Fill(int fd, unsigned long number, Request& request, uint64_t length) noexcept {
  request.done = 0;
  if (::ioctl(fd, number, &request) == 0) return static_cast<long>(length);
  if (errno != EAGAIN) return -errno;
  return request.done > 0 ? static_cast<long>(request.done) : 0;
}

long FillRange(int fd, unsigned long number, uint64_t start, uint64_t length,
               uint64_t mode) noexcept {
  uapi::UffdioFill request{.range = {.start = start, .len = length}, .mode = mode, .done = 0};
  return Fill(fd, number, request, length);
}

long Transfer(int fd, unsigned long number, uint64_t dst, uint64_t src, uint64_t length,
              uint64_t mode) noexcept {
  uapi::UffdioTransfer request{.dst = dst, .src = src, .len = length, .mode = mode, .done = 0};
  return Fill(fd, number, request, length);
}

}  // namespace

long Userfaultfd::OpenFd(OpenMethod method, bool user_mode_only) noexcept {
  const int flags = O_CLOEXEC | O_NONBLOCK | (user_mode_only ? uapi::kUserModeOnly : 0);
  if (method == OpenMethod::kSyscall) return CountOrErrno(::syscall(uapi::kSysUserfaultfd, flags));
  const UniqueFd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (!device) return -errno;
  return CountOrErrno(::ioctl(device.get(), uapi::kIocNew, flags));
}

long Userfaultfd::Handshake(int fd, uint64_t features, uint64_t* available) noexcept {
  uapi::UffdioApi request{.api = uapi::kUffdApi, .features = features, .ioctls = 0};
  if (::ioctl(fd, uapi::kUffdioApi, &request) != 0) return -errno;
  *available = request.features;
  return 0;
}

std::shared_ptr<Userfaultfd> Userfaultfd::Publish(UniqueFd fd, OpenMethod method,
                                                  bool user_mode_only, uint64_t features,
                                                  uint64_t available) noexcept {
  auto& registry = Registry<Userfaultfd>::Get();
  std::shared_ptr<Userfaultfd> uffd(new Userfaultfd);
  uffd->id_ = registry.NextId();
  uffd->fd_ = std::move(fd);
  uffd->method_ = method;
  uffd->user_mode_only_ = user_mode_only;
  uffd->features_ = features;
  uffd->available_ = available;
  registry.Add(uffd->id_, uffd);
  return uffd;
}

void Userfaultfd::Collect(std::shared_ptr<Userfaultfd> uffd) noexcept {
  if (!uffd->fills_pages_.load(std::memory_order_relaxed)) return;
  const uint64_t id = uffd->id_;
  Registry<Userfaultfd>::Get().Abandon(id, std::move(uffd));
}

Userfaultfd::~Userfaultfd() {
  Registry<Userfaultfd>::Get().Remove(id_);
  SetGuard(nullptr);  // ends the guard, because it reads the descriptor
}

void Userfaultfd::SetGuard(std::shared_ptr<FaultGuard> guard) noexcept {
  const std::lock_guard lock(guard_mutex_);
  if (guard_ != nullptr) guard_->Stop();
  guard_ = std::move(guard);
}

long Userfaultfd::Register(uint64_t start, uint64_t length, uint64_t mode,
                           uint64_t* ioctls) noexcept {
  uapi::UffdioRegister request{.range = {.start = start, .len = length}, .mode = mode, .ioctls = 0};
  if (::ioctl(fd(), uapi::kUffdioRegister, &request) != 0) return -errno;
  if ((mode & (uapi::kRegisterMissing | uapi::kRegisterMinor)) != 0) {
    fills_pages_.store(true, std::memory_order_relaxed);
  }
  *ioctls = request.ioctls;
  return 0;
}

long Userfaultfd::Unregister(uint64_t start, uint64_t length) const noexcept {
  uapi::UffdioRange range{.start = start, .len = length};
  return CountOrErrno(::ioctl(fd(), uapi::kUffdioUnregister, &range));
}

long Userfaultfd::Wake(uint64_t start, uint64_t length) const noexcept {
  uapi::UffdioRange range{.start = start, .len = length};
  return CountOrErrno(::ioctl(fd(), uapi::kUffdioWake, &range));
}

long Userfaultfd::WriteProtect(uint64_t start, uint64_t length, uint64_t mode) const noexcept {
  uapi::UffdioWriteProtect request{.range = {.start = start, .len = length}, .mode = mode};
  return CountOrErrno(::ioctl(fd(), uapi::kUffdioWriteProtect, &request));
}

long Userfaultfd::Copy(uint64_t dst, uint64_t src, uint64_t length, uint64_t mode) const noexcept {
  return Transfer(fd(), uapi::kUffdioCopy, dst, src, length, mode);
}

long Userfaultfd::Move(uint64_t dst, uint64_t src, uint64_t length, uint64_t mode) const noexcept {
  return Transfer(fd(), uapi::kUffdioMove, dst, src, length, mode);
}

long Userfaultfd::Zeropage(uint64_t start, uint64_t length, uint64_t mode) const noexcept {
  return FillRange(fd(), uapi::kUffdioZeropage, start, length, mode);
}

long Userfaultfd::Continue(uint64_t start, uint64_t length, uint64_t mode) const noexcept {
  return FillRange(fd(), uapi::kUffdioContinue, start, length, mode);
}

long Userfaultfd::Poison(uint64_t start, uint64_t length, uint64_t mode) const noexcept {
  return FillRange(fd(), uapi::kUffdioPoison, start, length, mode);
}

}  // namespace postcopy
