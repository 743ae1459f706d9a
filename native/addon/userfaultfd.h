// One userfaultfd, shared by the threads of the process that hold a handle on it.
#pragma once

#include <node_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "common/sys.h"
#include "fault_guard.h"

namespace postcopy {

enum class OpenMethod : uint8_t { kDevice = 0, kSyscall = 1 };

class Userfaultfd {
 public:
  static constexpr napi_type_tag kTag = {0x706f7374636f7079, 0x7566666400000001};

  // Returns a descriptor or -errno. It is non-blocking, because poll() returns only POLLERR for a
  // blocking one. It is close-on-exec, because a started program would keep the ranges armed.
  static long OpenFd(OpenMethod method, bool user_mode_only) noexcept;
  // UFFDIO_API. *available has all features of the kernel, not only the requested ones.
  static long Handshake(int fd, uint64_t features, uint64_t* available) noexcept;

  static std::shared_ptr<Userfaultfd> Publish(UniqueFd fd, OpenMethod method, bool user_mode_only,
                                              uint64_t features, uint64_t available) noexcept;
  // Called without close(): the handle was collected, or its worker ended. Closing the last
  // descriptor wakes the blocked threads, and missing pages then silently read as zeros. So a
  // userfaultfd with ranges registered for missing or minor faults stays open, and can be attached.
  // One that only write-protects is closed: all its pages are present, and a thread that it blocks
  // would never be released.
  static void Collect(std::shared_ptr<Userfaultfd> uffd) noexcept;

  Userfaultfd(const Userfaultfd&) = delete;
  Userfaultfd& operator=(const Userfaultfd&) = delete;
  ~Userfaultfd();

  uint64_t id() const noexcept { return id_; }
  int fd() const noexcept { return fd_.get(); }
  OpenMethod method() const noexcept { return method_; }
  bool user_mode_only() const noexcept { return user_mode_only_; }
  uint64_t features() const noexcept { return features_; }
  uint64_t available() const noexcept { return available_; }

  // Sets the guard that replaces the thread that serves faults. The earlier guard has ended when
  // this returns.
  void SetGuard(std::shared_ptr<FaultGuard> guard) noexcept;

  // 0 with the mask of ioctls, or -errno.
  long Register(uint64_t start, uint64_t length, uint64_t mode, uint64_t* ioctls) noexcept;
  long Unregister(uint64_t start, uint64_t length) const noexcept;
  long Wake(uint64_t start, uint64_t length) const noexcept;
  long WriteProtect(uint64_t start, uint64_t length, uint64_t mode) const noexcept;

  // The filling ioctls: bytes done, which may be fewer than requested; 0 if an event must be read
  // first; -errno if nothing was done.
  long Copy(uint64_t dst, uint64_t src, uint64_t length, uint64_t mode) const noexcept;
  long Move(uint64_t dst, uint64_t src, uint64_t length, uint64_t mode) const noexcept;
  long Zeropage(uint64_t start, uint64_t length, uint64_t mode) const noexcept;
  long Continue(uint64_t start, uint64_t length, uint64_t mode) const noexcept;
  long Poison(uint64_t start, uint64_t length, uint64_t mode) const noexcept;

 private:
  Userfaultfd() noexcept = default;

  uint64_t id_ = 0;
  UniqueFd fd_;
  OpenMethod method_ = OpenMethod::kSyscall;
  bool user_mode_only_ = false;
  uint64_t features_ = 0;
  uint64_t available_ = 0;
  std::mutex guard_mutex_;
  std::shared_ptr<FaultGuard> guard_;
  std::atomic<bool> fills_pages_{false};  // a range is registered for missing or minor faults
};

}  // namespace postcopy
