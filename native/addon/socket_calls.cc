// Socket and descriptor calls that Node lacks.
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "calls.h"
#include "common/args.h"
#include "common/sys.h"

namespace postcopy {

namespace {

struct Option {
  const char* name;
  int level;
  int number;
};

constexpr Option kOptions[] = {
    {"SO_SNDBUF", SOL_SOCKET, SO_SNDBUF},
    {"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF},
    {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY},
    {"TCP_QUICKACK", IPPROTO_TCP, TCP_QUICKACK},
    {"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT},
    {"TCP_NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT},
};

const Option* FindOption(const std::string& name) noexcept {
  for (const Option& option : kOptions) {
    if (name == option.name) return &option;
  }
  return nullptr;
}

const Option* OptionOf(Args& args, size_t index) {
  const Option* option = FindOption(args.Text(index, "option"));
  args.Require(option != nullptr, "option", "a known socket option");
  return option;
}

// A stream socket that listens on `path`, or -errno. Linux gives the new file the mode of the
// socket itself, less the umask. So it never has another mode, as it would before a chmod(2).
// bind(2) and listen(2) are in one call: a client that is refused may take the file for a stale
// one.
long ListenUnix(const std::string& path, mode_t mode) noexcept {
  sockaddr_un address{};
  if (path.empty() || path.size() >= sizeof address.sun_path) return -ENAMETOOLONG;
  address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.sun_path);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd || ::fchmod(fd.get(), mode) < 0) return -errno;
  // sockaddr stands for any of the address types.
  const auto* any = reinterpret_cast<const sockaddr*>(&address);
  if (::bind(fd.get(), any, sizeof address) < 0) return -errno;
  if (::listen(fd.get(), SOMAXCONN) < 0) {
    const int error = errno;
    ::unlink(path.c_str());
    return -error;
  }
  return fd.Release();
}

}  // namespace

// The descriptor belongs to the caller.
Napi::Value SocketListenUnix(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.Text(0, "path");
  const int mode = args.Int(1, "mode");
  args.Require(path.find('\0') == std::string::npos, "path", "without NUL");
  args.Require(mode >= 0 && mode <= 0777, "mode", "of permission bits");
  if (!args.ok()) return {};
  return Result(args, ListenUnix(path, static_cast<mode_t>(mode)));
}

Napi::Value SocketSet(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0, "fd");
  const Option* option = OptionOf(args, 1);
  const int value = args.Int(2, "value");
  if (!args.ok()) return {};
  return Result(
      args, CountOrErrno(::setsockopt(fd, option->level, option->number, &value, sizeof value)));
}

Napi::Value SocketGet(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0, "fd");
  const Option* option = OptionOf(args, 1);
  if (!args.ok()) return {};
  int value = 0;
  socklen_t length = sizeof value;
  const long result =
      CountOrErrno(::getsockopt(fd, option->level, option->number, &value, &length));
  // TCP_NOTSENT_LOWAT is unsigned, and unlimited by default.
  return Result(args, result < 0 ? result : static_cast<int64_t>(static_cast<uint32_t>(value)));
}

// Bytes that the kernel took at once, or -errno.
Napi::Value SocketSend(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0, "fd");
  const Bytes bytes = args.Uint8s(1, "bytes");
  if (!args.ok()) return {};
  return Result(args,
                CountOrErrno(::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL)));
}

// Polls two descriptors until one is readable or the time is over. A sleeping thread would be woken
// by an interrupt of another processor, which takes longer than everything else. Because this is an
// optimization, an error of poll(2) counts as "not readable" and is not reported. EINTR occurs if
// this thread handles a signal, such as that of a profiler.
Napi::Value FdSpin(const Napi::CallbackInfo& info) {
  Args args(info);
  const int one = args.Fd(0, "fd");
  const int other = args.Fd(1, "other fd");
  const int microseconds = args.Int(2, "microseconds");
  if (!args.ok()) return {};
  std::array<pollfd, 2> fds{
      {{.fd = one, .events = POLLIN, .revents = 0}, {.fd = other, .events = POLLIN, .revents = 0}}};
  using Clock = std::chrono::steady_clock;
  const auto until = Clock::now() + std::chrono::microseconds(microseconds);
  long ready = 0;
  do {
    ready = CountOrErrno(::poll(fds.data(), fds.size(), 0));
  } while ((ready == 0 || ready == -EINTR) && Clock::now() < until);
  return Result(args, std::max(0L, ready));
}

// Bytes that the peer has not acknowledged.
Napi::Value SocketOutstanding(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0, "fd");
  if (!args.ok()) return {};
  int bytes = 0;
  const long result = CountOrErrno(::ioctl(fd, SIOCOUTQ, &bytes));
  return Result(args, result < 0 ? result : bytes);
}

// Process id of the peer of a unix socket: of the process that called listen(2) or connect(2)
// there. 0 if it is in a pid namespace that this process cannot see.
Napi::Value SocketPeerPid(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0, "fd");
  if (!args.ok()) return {};
  ucred peer{};
  socklen_t length = sizeof peer;
  const long result = CountOrErrno(::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length));
  return Result(args, result < 0 ? result : peer.pid);
}

Napi::Value FdDuplicate(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0, "fd");
  if (!args.ok()) return {};
  return Result(args, CountOrErrno(::fcntl(fd, F_DUPFD_CLOEXEC, 0)));
}

Napi::Value FdClose(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0, "fd");
  if (!args.ok()) return {};
  return Result(args, CountOrErrno(::close(fd)));
}

}  // namespace postcopy
