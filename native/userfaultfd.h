// One userfaultfd, shared by the threads of the process that hold a handle on it.
#pragma once

#include <node_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "fault_guard.h"
#include "sys.h"

namespace postcopy {

enum class Door : uint8_t { kDevice = 0, kSyscall = 1 };

class Userfaultfd {
 public:
  static constexpr napi_type_tag kTag = {0x706f7374636f7079, 0x7566666400000001};

  // Opens non-blocking and close-on-exec: otherwise poll() only ever says POLLERR, and a started
  // program would keep the ranges armed. A descriptor, or -errno.
  static long OpenFd(Door door, bool user_mode_only) noexcept;
  // UFFDIO_API. *available is everything the kernel supports, not what was asked for.
  static long Handshake(int fd, uint64_t features, uint64_t* available) noexcept;

  static std::shared_ptr<Userfaultfd> Publish(UniqueFd fd, Door door, bool user_mode_only,
                                              uint64_t features, uint64_t available) noexcept;
  // Closing the last descriptor wakes the parked threads, and what they miss then reads as zeros
  // without a word. So one that was collected, or whose worker ended, with ranges registered for
  // missing or minor faults stays open for somebody to attach. One that only protects from writes
  // is closed: its pages are all there, and a thread that it parks would never be released.
  static void Collect(std::shared_ptr<Userfaultfd> uffd) noexcept;

  Userfaultfd(const Userfaultfd&) = delete;
  Userfaultfd& operator=(const Userfaultfd&) = delete;
  ~Userfaultfd();

  uint64_t id() const noexcept { return id_; }
  int fd() const noexcept { return fd_.get(); }
  Door door() const noexcept { return door_; }
  bool user_mode_only() const noexcept { return user_mode_only_; }
  uint64_t features() const noexcept { return features_; }
  uint64_t available() const noexcept { return available_; }

  // From now on this one stands in for the thread that serves faults. The one before has ended when
  // this returns.
  void SetGuard(std::shared_ptr<FaultGuard> guard) noexcept;

  // 0 with the mask of ioctls, or -errno.
  long Register(uint64_t start, uint64_t length, uint64_t mode, uint64_t* ioctls) noexcept;
  long Unregister(uint64_t start, uint64_t length) const noexcept;
  long Wake(uint64_t start, uint64_t length) const noexcept;
  long WriteProtect(uint64_t start, uint64_t length, uint64_t mode) const noexcept;

  // The filling ioctls: bytes done, which may be fewer than asked for; 0 where an unread event must
  // be read first; -errno where nothing was done.
  long Copy(uint64_t dst, uint64_t src, uint64_t length, uint64_t mode) const noexcept;
  long Move(uint64_t dst, uint64_t src, uint64_t length, uint64_t mode) const noexcept;
  long Zeropage(uint64_t start, uint64_t length, uint64_t mode) const noexcept;
  long Continue(uint64_t start, uint64_t length, uint64_t mode) const noexcept;
  long Poison(uint64_t start, uint64_t length, uint64_t mode) const noexcept;

 private:
  Userfaultfd() noexcept = default;

  uint64_t id_ = 0;
  UniqueFd fd_;
  Door door_ = Door::kSyscall;
  bool user_mode_only_ = false;
  uint64_t features_ = 0;
  uint64_t available_ = 0;
  std::mutex guard_mutex_;
  std::shared_ptr<FaultGuard> guard_;
  std::atomic<bool> fills_pages_{false};  // a range is registered for missing or minor faults
};

}  // namespace postcopy
