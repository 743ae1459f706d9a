#include "fault_guard.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <array>
#include <iterator>
#include <utility>

#include "common/records.h"
#include "common/uapi.h"

namespace postcopy {

namespace {

constexpr int kExitStatus = 1;

// Does not write to a full pipe, which would prevent the exit.
void WriteLastWords(const std::string& text) noexcept {
  pollfd output{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (::poll(&output, 1, 0) != 1 || (output.revents & POLLOUT) == 0) return;
  static_cast<void>(CountOrErrno(::write(STDERR_FILENO, text.data(), text.size())));
}

}  // namespace

long FaultGuard::Start(int fd, uint32_t thread_id, std::shared_ptr<FaultGuard>* out) {
  const long event = CountOrErrno(::eventfd(0, EFD_CLOEXEC));
  if (event < 0) return event;
  std::unique_ptr<FaultGuard> guard(
      new FaultGuard(fd, UniqueFd(static_cast<int>(event)), thread_id));
  FaultGuard* self = guard.get();
  const int result = StartJoinableThread(
      "postcopy-guard", [self] { self->Run(); }, &guard->thread_);
  if (result < 0) {
    std::call_once(guard->joined_, [] {});  // there is no thread to join
    return result;
  }
  *out = std::move(guard);
  return 0;
}

void FaultGuard::PageSet::Freeze() noexcept {
  if (live.empty()) return;
  copy.assign(live.begin(), live.end());
  live = {};
}

bool FaultGuard::PageSet::HasAll(uint64_t page, uint64_t pages) const noexcept {
  if (copy.empty()) return false;
  for (const uint64_t end = page + pages; page < end; ++page) {
    if (((copy[page >> 3] >> (page & 7)) & 1) == 0) return false;
  }
  return true;
}

void FaultGuard::Describe(uint64_t start, Range range) {
  const std::lock_guard lock(mutex_);
  // Begin() must not need memory.
  range.received.copy.reserve(range.received.live.size());
  range.zeroed.copy.reserve(range.zeroed.live.size());
  if (zeros_.size() < range.page_size) zeros_.resize(range.page_size);
  if (state_ == State::kBegun) {
    range.received.Freeze();
    range.zeroed.Freeze();
  }
  ranges_.insert_or_assign(start, std::move(range));
}

void FaultGuard::Begin() noexcept {
  {
    const std::lock_guard lock(mutex_);
    // After Stop() the bitmaps may be gone.
    if (state_ == State::kStopped) return;
    for (auto& [start, range] : ranges_) {
      range.received.Freeze();
      range.zeroed.Freeze();
    }
  }
  Enter(State::kBegun);
}

void FaultGuard::Stop() noexcept {
  std::call_once(joined_, [this] {
    Enter(State::kStopped);
    pthread_join(thread_, nullptr);
  });
}

void FaultGuard::Enter(State state) noexcept {
  const std::lock_guard lock(mutex_);
  if (state_ == State::kStopped) return;
  state_ = state;
  const uint64_t one = 1;
  static_cast<void>(CountOrErrno(::write(event_.get(), &one, sizeof(one))));
}

void FaultGuard::Run() noexcept {
  std::array<pollfd, 2> inputs{pollfd{.fd = event_.get(), .events = POLLIN, .revents = 0},
                               pollfd{.fd = -1, .events = POLLIN, .revents = 0}};
  for (;;) {
    if (::poll(inputs.data(), inputs.size(), -1) < 0) continue;
    if (inputs[0].revents != 0) {
      if (AwaitChange() == State::kStopped) return;
      inputs[1].fd = fd_;
      // Faults that were read but not resolved are reported again.
      WakeAll();
    }
    if (inputs[1].revents != 0) ReadMessages();
  }
}

FaultGuard::State FaultGuard::AwaitChange() noexcept {
  uint64_t changes = 0;
  static_cast<void>(CountOrErrno(::read(event_.get(), &changes, sizeof(changes))));
  const std::lock_guard lock(mutex_);
  return state_;
}

void FaultGuard::WakeAll() noexcept {
  const std::lock_guard lock(mutex_);
  for (const auto& [start, range] : ranges_) Wake(start, range.length);
}

bool FaultGuard::Wake(uint64_t start, uint64_t length) const noexcept {
  uapi::UffdioRange range{.start = start, .len = length};
  return ::ioctl(fd_, uapi::kUffdioWake, &range) == 0;
}

void FaultGuard::ReadMessages() noexcept {
  std::array<uapi::UffdMsg, 16> messages;
  const long bytes = CountOrErrno(::read(fd_, messages.data(), sizeof(messages)));
  for (long at = 0; at < bytes; at += static_cast<long>(sizeof(uapi::UffdMsg))) {
    const uapi::UffdMsg& message = messages[static_cast<size_t>(at) / sizeof(uapi::UffdMsg)];
    if (message.event != uapi::kEventPagefault) continue;
    Serve(message.arg.pagefault.address, message.arg.pagefault.ptid);
  }
}

void FaultGuard::Serve(uint64_t address, uint32_t thread_id) noexcept {
  const std::lock_guard lock(mutex_);
  const auto above = ranges_.upper_bound(address);
  if (above == ranges_.begin()) return;
  const auto& [start, range] = *std::prev(above);
  if (address - start >= range.length) return;
  const uint64_t at = (address - start) / range.page_size * range.page_size;
  const uint64_t page = at / kTargetPageBytes;
  const uint64_t pages = range.page_size / kTargetPageBytes;
  if (range.zeroed.HasAll(page, pages)) {
    if (PlaceZeros(start + at, range.page_size)) return;
  } else if (range.received.HasAll(page, pages)) {
    // The page was placed after the kernel had queued this fault.
    Wake(start + at, range.page_size);
    return;
  }
  if (thread_id_ == 0 || thread_id != thread_id_) return;
  WriteLastWords(range.before + std::to_string(address - start) + range.after);
  ::_exit(kExitStatus);
}

bool FaultGuard::PlaceZeros(uint64_t page, uint64_t page_size) const noexcept {
  uapi::UffdioTransfer copy{.dst = page,
                            .src = reinterpret_cast<uint64_t>(zeros_.data()),
                            .len = page_size,
                            .mode = 0,
                            .done = 0};
  if (::ioctl(fd_, uapi::kUffdioCopy, &copy) == 0) return true;
  // EEXIST: the page is present. EAGAIN: after the wake, the waiting thread faults again.
  return (errno == EEXIST || errno == EAGAIN) && Wake(page, page_size);
}

}  // namespace postcopy
