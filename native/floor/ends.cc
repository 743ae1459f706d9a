#include "ends.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

namespace postcopy::floor {

namespace {

struct Connection {
  Socket source;
  Socket destination;
};

void SetNoDelay(int fd) noexcept {
  const int on = 1;
  if (::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) Die("TCP_NODELAY", errno);
}

// Connects both ends in the parent, so that the children need not wait for each other.
Connection Connect() noexcept {
  constexpr const char* kWhat = "No TCP connection over the loopback device";
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  UniqueFd source(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener || !source) Die(kWhat, errno);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof address;
  if (::bind(listener.get(), any, length) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), any, &length) != 0 ||
      ::connect(source.get(), any, length) != 0) {
    Die(kWhat, errno);
  }
  UniqueFd destination(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!destination) Die(kWhat, errno);
  SetNoDelay(source.get());
  SetNoDelay(destination.get());
  return {Socket(std::move(source)), Socket(std::move(destination))};
}

pid_t Start(const End& run, Socket own, Socket* others) {
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(kExitFailed);
  // Closes the inherited socket of the peer, otherwise its exit would not close the connection.
  if (others != nullptr) Socket(std::move(*others));
  run(own);
  if (std::fflush(stdout) != 0) Die("The result could not be written", errno);
  ::_exit(0);
}

int StatusOf(const char* name, int status) noexcept {
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  static_cast<void>(
      std::fprintf(stderr, "The %s was ended by signal %d.\n", name, WTERMSIG(status)));
  return kExitFailed;
}

}  // namespace

int RunEnds(const End& source, const End& destination) {
  Connection ends = Connect();
  const pid_t sender = Start(source, std::move(ends.source), &ends.destination);
  if (sender < 0) Die("The process of the source did not start", errno);
  const pid_t receiver = Start(destination, std::move(ends.destination), nullptr);
  const int error = errno;
  bool killed = receiver < 0;
  if (killed) ::kill(sender, SIGKILL);

  int result = killed ? kExitFailed : 0;
  int status = 0;
  for (pid_t ended = ::wait(&status); ended > 0; ended = ::wait(&status)) {
    if (killed) continue;
    const int code = StatusOf(ended == sender ? "source" : "destination", status);
    if (code == 0) continue;
    result = kExitFailed;
    // If the peer has closed the connection, its own status is still to come and tells the reason.
    if (code == kExitPeerGone) continue;
    killed = true;
    ::kill(ended == sender ? receiver : sender, SIGKILL);
  }
  if (receiver < 0) Die("The process of the destination did not start", error);
  return result;
}

}  // namespace postcopy::floor
