// One end of the TCP connection, blocking. If the peer has closed it, this process exits.
#pragma once

#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <span>
#include <utility>

#include "common/sys.h"
#include "die.h"

namespace postcopy::floor {

class Socket {
 public:
  explicit Socket(UniqueFd fd) noexcept : fd_(std::move(fd)) {}

  int fd() const noexcept { return fd_.get(); }

  void Send(std::span<const uint8_t> bytes) const noexcept {
    while (!bytes.empty()) {
      bytes = bytes.subspan(Check(::send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL)));
    }
  }

  // Receives the available bytes, at least one.
  size_t ReceiveSome(std::span<uint8_t> room) const noexcept {
    return Check(::recv(fd(), room.data(), room.size(), 0));
  }

  void Receive(std::span<uint8_t> room) const noexcept {
    while (!room.empty()) room = room.subspan(ReceiveSome(room));
  }

  // The ends wait for each other before the measurement.
  void Tell() const noexcept { Send(std::span(&kToken, 1)); }
  void Await() const noexcept {
    uint8_t token = 0;
    Receive(std::span(&token, 1));
  }

 private:
  static constexpr uint8_t kToken = 1;

  static size_t Check(ssize_t result) noexcept {
    if (result > 0) return static_cast<size_t>(result);
    if (result == 0 || errno == EPIPE || errno == ECONNRESET) ::_exit(kExitPeerGone);
    Die("The connection over the loopback device broke", errno);
  }

  UniqueFd fd_;
};

}  // namespace postcopy::floor
