#include "fault_guard.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <array>
#include <iterator>
#include <utility>

#include "args.h"
#include "callbacks.h"
#include "uapi.h"
#include "userfaultfd.h"

namespace postcopy {

namespace {

constexpr int kExitStatus = 1;

// A pipe that is full must not keep the process.
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

void FaultGuard::Describe(uint64_t start, uint64_t length, std::string before, std::string after) {
  const std::lock_guard lock(mutex_);
  ranges_.insert_or_assign(start, Range{length, std::move(before), std::move(after)});
}

void FaultGuard::Begin() noexcept {
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
      // What was read before, and not answered, is reported again.
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
  for (const auto& [start, range] : ranges_) {
    uapi::UffdioRange request{.start = start, .len = range.length};
    ::ioctl(fd_, uapi::kUffdioWake, &request);
  }
}

void FaultGuard::ReadMessages() noexcept {
  std::array<uapi::UffdMsg, 16> messages;
  const long bytes = CountOrErrno(::read(fd_, messages.data(), sizeof(messages)));
  for (long at = 0; at < bytes; at += static_cast<long>(sizeof(uapi::UffdMsg))) {
    const uapi::UffdMsg& message = messages[static_cast<size_t>(at) / sizeof(uapi::UffdMsg)];
    if (message.event != uapi::kEventPagefault) continue;
    if (message.arg.pagefault.ptid == thread_id_) EndIfGuarded(message.arg.pagefault.address);
  }
}

void FaultGuard::EndIfGuarded(uint64_t address) noexcept {
  const std::lock_guard lock(mutex_);
  const auto above = ranges_.upper_bound(address);
  if (above == ranges_.begin()) return;
  const auto& [start, range] = *std::prev(above);
  if (address - start >= range.length) return;
  WriteLastWords(range.before + std::to_string(address - start) + range.after);
  ::_exit(kExitStatus);
}

// (uffd, threadId): a handle, or -errno. An earlier guard of this userfaultfd has ended.
Napi::Value GuardStart(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const uint64_t thread_id = args.Number(1, "threadId", INT32_MAX);
  // The kernel reports 0 where it does not know which thread waits.
  args.Require(thread_id > 0, "threadId", "positive");
  if (!args.ok()) return {};
  std::shared_ptr<FaultGuard> guard;
  const long result = FaultGuard::Start(uffd->fd(), static_cast<uint32_t>(thread_id), &guard);
  if (result < 0) return Result(args, result);
  uffd->SetGuard(guard);
  return NewHandle(args.env(), std::move(guard));
}

// (guard, start, length, before, after)
Napi::Value GuardDescribe(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto guard = args.Object<FaultGuard>(0, "guard");
  const uint64_t start = args.Number(1, "address");
  const uint64_t length = args.Number(2, "length");
  std::string before = args.Text(3, "before");
  std::string after = args.Text(4, "after");
  if (!args.ok()) return {};
  guard->Describe(start, length, std::move(before), std::move(after));
  return {};
}

Napi::Value GuardBegin(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto guard = args.Object<FaultGuard>(0, "guard");
  if (!args.ok()) return {};
  guard->Begin();
  return {};
}

Napi::Value GuardStop(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto guard = args.Object<FaultGuard>(0, "guard");
  if (!args.ok()) return {};
  guard->Stop();
  return {};
}

}  // namespace postcopy
