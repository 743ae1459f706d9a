#include "responder.h"

#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/sys.h"
#include "common/uapi.h"

namespace postcopy::lab {
namespace {

constexpr uint32_t kMostMessages = 64;
constexpr int kPollMs = 20;  // how soon Stop() is seen
constexpr uint64_t kFlagWp = 2;
constexpr uint64_t kFlagMinor = 4;

}  // namespace

void Responder::Resolve(uint64_t flags, uint64_t address) noexcept {
  const uint64_t page = address / options_.page_bytes * options_.page_bytes;
  const uint64_t length = options_.page_bytes;
  long result = 0;
  if ((flags & kFlagWp) != 0) {
    uapi::UffdioWriteProtect call{{page, length}, 0};
    result = ioctl(options_.fd, uapi::kUffdioWriteProtect, &call);
  } else if ((flags & kFlagMinor) != 0) {
    uapi::UffdioFill call{{page, length}, 0, 0};
    result = ioctl(options_.fd, uapi::kUffdioContinue, &call);
  } else if (options_.source == 0) {
    uapi::UffdioFill call{{page, length}, 0, 0};
    result = ioctl(options_.fd, uapi::kUffdioZeropage, &call);
  } else {
    uapi::UffdioTransfer call{page, options_.source, length, 0, 0};
    result = ioctl(options_.fd, uapi::kUffdioCopy, &call);
  }
  if (result == 0) return;
  const int error = errno;
  refusals.fetch_add(1, std::memory_order_relaxed);
  last_error.store(-error);
  // If two threads fault on one page, the second copy gets EEXIST, and its thread may still sleep.
  uapi::UffdioRange range{page, length};
  if (error == EEXIST) ioctl(options_.fd, uapi::kUffdioWake, &range);
}

void Responder::Run() noexcept {
  thread_id.store(static_cast<int32_t>(syscall(SYS_gettid)));
  if (options_.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(options_.cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
  }
  UniqueFd epoll;
  if (options_.waiting == Waiting::kEpoll) {
    epoll.Reset(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{};
    event.events = EPOLLIN;
    epoll_ctl(epoll.get(), EPOLL_CTL_ADD, options_.fd, &event);
  }
  uapi::UffdMsg messages_read[kMostMessages];
  const uint32_t batch = std::clamp(options_.batch, 1U, kMostMessages);
  while (!stop_.load(std::memory_order_relaxed)) {
    if (options_.waiting == Waiting::kPoll) {
      pollfd ready{options_.fd, POLLIN, 0};
      if (poll(&ready, 1, kPollMs) <= 0) continue;
    } else if (options_.waiting == Waiting::kEpoll) {
      epoll_event event{};
      if (epoll_wait(epoll.get(), &event, 1, kPollMs) <= 0) continue;
    }
    const long bytes = read(options_.fd, messages_read, batch * sizeof(uapi::UffdMsg));
    if (bytes < 0) {
      if (errno == EAGAIN || errno == EINTR) continue;
      last_error.store(-errno);
      return;
    }
    if (bytes == 0) return;  // EOF: not a userfaultfd
    reads.fetch_add(1, std::memory_order_relaxed);
    const auto count = static_cast<size_t>(bytes) / sizeof(uapi::UffdMsg);
    for (size_t i = 0; i < count; ++i) {
      if (messages_read[i].event != uapi::kEventPagefault) continue;
      const auto& fault = messages_read[i].arg.pagefault;
      Resolve(fault.flags, fault.address);
      messages.fetch_add(1, std::memory_order_relaxed);
    }
  }
}

}  // namespace postcopy::lab
