// Places pages from a socket in the two ways that a destination has: through a buffer with
// UFFDIO_COPY, or directly into a second mapping with UFFDIO_CONTINUE.
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <vector>

#include "calls.h"
#include "common/args.h"
#include "common/call_numbers.h"
#include "common/sys.h"
#include "common/uapi.h"

namespace postcopy::lab {
namespace {

constexpr size_t kSendBytes = 65536;

struct Placement {
  int fd;
  uint64_t dst;
  uint64_t alias;   // 0: UFFDIO_COPY from `bounce`
  uint64_t bounce;  // as long as a run
  uint64_t run_bytes;
  uint64_t total_bytes;
};

// CPU time of this thread: other work and waiting for the sender do not count.
uint64_t ThreadNs() noexcept {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void SendAll(int socket, uint64_t total) noexcept {
  const std::vector<uint8_t> bytes(kSendBytes, 0x5a);
  while (total > 0) {
    const ssize_t sent =
        send(socket, bytes.data(), std::min<uint64_t>(total, kSendBytes), MSG_NOSIGNAL);
    if (sent <= 0) return;  // the receiver sees EOF and returns an error
    total -= static_cast<uint64_t>(sent);
  }
}

// 0 or -errno.
int64_t ReceiveAndPlace(int socket, const Placement& wanted) noexcept {
  for (uint64_t done = 0; done < wanted.total_bytes; done += wanted.run_bytes) {
    const uint64_t length = std::min(wanted.run_bytes, wanted.total_bytes - done);
    const uint64_t into = wanted.alias != 0 ? wanted.alias + done : wanted.bounce;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): addresses come from JavaScript as numbers
    const ssize_t got = recv(socket, reinterpret_cast<void*>(into), length, MSG_WAITALL);
    if (got != static_cast<ssize_t>(length)) return got < 0 ? -errno : -EPIPE;
    long result = 0;
    if (wanted.alias != 0) {
      uapi::UffdioFill call{{wanted.dst + done, length}, uapi::kDontWake, 0};
      result = ioctl(wanted.fd, uapi::kUffdioContinue, &call);
    } else {
      uapi::UffdioTransfer call{wanted.dst + done, into, length, uapi::kDontWake, 0};
      result = ioctl(wanted.fd, uapi::kUffdioCopy, &call);
    }
    if (result < 0) return -errno;
  }
  return 0;
}

}  // namespace

// receiveAndPlace(fd, numbers): nanoseconds of this thread or -errno.
Napi::Value ReceiveAndPlace(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0, "fd");
  CallNumbers<kReceiveAndPlace> numbers(args, 1);
  const Placement wanted{.fd = fd,
                         .dst = numbers.Number<"dst">(),
                         .alias = numbers.Number<"alias">(),
                         .bounce = numbers.Number<"bounce">(),
                         .run_bytes = numbers.Number<"runBytes">(),
                         .total_bytes = numbers.Number<"totalBytes">()};
  args.Require(wanted.run_bytes > 0, "runBytes", "more than 0");
  if (!args.ok()) return {};
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return Result(args, -errno);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  std::thread sender([&] { SendAll(writer.get(), wanted.total_bytes); });
  const uint64_t start = ThreadNs();
  const int64_t result = ReceiveAndPlace(reader.get(), wanted);
  const uint64_t end = ThreadNs();
  reader.Reset(-1);  // ends a sender that is still sending
  sender.join();
  return Result(args, result < 0 ? result : static_cast<int64_t>(end - start));
}

}  // namespace postcopy::lab
