// POSIX helpers: descriptors that are closed exactly once, and results in the kernel's form, a
// count or -errno.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <utility>

namespace postcopy {

// Call it directly after the system call, before anything else can change errno.
inline long CountOrErrno(long result) noexcept {
  return result < 0 ? -errno : result;
}

// Repeats a call that a signal interrupted before it had done anything.
template <typename Call>
long CountOrErrnoUninterrupted(Call call) noexcept {
  long result = 0;
  do {
    result = CountOrErrno(call());
  } while (result == -EINTR);
  return result;
}

class UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { Reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

  int Release() noexcept { return std::exchange(fd_, -1); }

  // close(2) is never repeated: on Linux the descriptor is free even after EINTR.
  void Reset(int fd = -1) noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace postcopy
