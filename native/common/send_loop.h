// Packs pages and sends them piece by piece, each while the CPU cache still holds it.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "pack_loop.h"

namespace postcopy {

struct Sent {
  Packed packed;
  size_t end = 0;          // end of the unsent rest in the buffer
  size_t unsent_from = 0;  // start of the unsent rest
  size_t bytes = 0;        // sent
  bool interrupted = false;
};

class SendLoop {
 public:
  SendLoop(const PackJob& job, Bitmap bitmap, Bytes out, size_t at) noexcept
      : job_(job),
        bitmap_(bitmap),
        out_(out),
        sent_{.packed = {.next_page = job.from}, .end = at} {}

  // The last piece stays in the buffer; the caller completes and sends it. Stops early if the
  // socket takes no more bytes or is readable.
  Sent Run(int fd, size_t piece_pages) noexcept {
    for (size_t left = job_.most_pages; left > 0;) {
      const size_t pages = PackPiece(std::min(left, piece_pages));
      left -= std::min(left, pages);
      if (sent_.packed.error != 0) break;
      if (pages == 0 || left == 0 || sent_.packed.next_page == job_.to) break;
      sent_.interrupted = !SendPiece(fd) || IsReadable(fd);
      if (sent_.interrupted) break;
    }
    return sent_;
  }

 private:
  size_t PackPiece(size_t most_pages) noexcept {
    PackJob piece = job_;
    piece.from = sent_.packed.next_page;
    piece.most_pages = most_pages;
    const Packed packed = PackLoop(piece, bitmap_, out_.subspan(sent_.end)).Run();
    const size_t pages = packed.normal + packed.zero;
    if (pages > 0) job_.name = {};
    sent_.packed.next_page = packed.next_page;
    sent_.packed.error = packed.error;
    sent_.packed.normal += packed.normal;
    sent_.packed.zero += packed.zero;
    sent_.end += packed.bytes;
    return pages;
  }

  // Returns false if the kernel did not take all bytes, for any reason. An error is not reported
  // here: sending the rest fails with it.
  bool SendPiece(int fd) noexcept {
    const ssize_t taken = ::send(fd, out_.data(), sent_.end, MSG_DONTWAIT | MSG_NOSIGNAL);
    const size_t bytes = taken < 0 ? 0 : static_cast<size_t>(taken);
    sent_.bytes += bytes;
    if (bytes < sent_.end) {
      sent_.unsent_from = bytes;
      return false;
    }
    sent_.end = 0;
    return true;
  }

  static bool IsReadable(int fd) noexcept {
    pollfd poll{.fd = fd, .events = POLLIN, .revents = 0};
    return ::poll(&poll, 1, 0) > 0;
  }

  PackJob job_;
  Bitmap bitmap_;
  Bytes out_;
  Sent sent_;
};

}  // namespace postcopy
