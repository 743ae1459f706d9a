// What JavaScript calls: checks the arguments, and calls userfaultfd.cc.
#include <algorithm>
#include <array>
#include <span>

#include "calls.h"
#include "common/args.h"
#include "common/uapi.h"
#include "userfaultfd.h"

namespace postcopy {

namespace {

OpenMethod OpenMethodOf(Args& args, size_t index) {
  return static_cast<OpenMethod>(
      args.Number(index, "method", static_cast<uint64_t>(OpenMethod::kSyscall)));
}

constexpr size_t kMostEvents = 128;

using FaultRow = Row<kFaultEvent>;
static_assert(Row<kForkEvent>::kStride <= FaultRow::kStride);
static_assert(Row<kRemapEvent>::kStride <= FaultRow::kStride);
static_assert(Row<kRangeEvent>::kStride <= FaultRow::kStride);

void StoreEvent(const uapi::UffdMsg& message, std::span<double, FaultRow::kStride> event) noexcept {
  std::ranges::fill(event, 0.0);
  FaultRow(event.data()).Set<"type">(message.event);
  switch (message.event) {
    case uapi::kEventPagefault: {
      const FaultRow fault(event.data());
      fault.Set<"flags">(message.arg.pagefault.flags);
      fault.Set<"address">(message.arg.pagefault.address);
      fault.Set<"threadId">(message.arg.pagefault.ptid);
      break;
    }
    case uapi::kEventFork:
      Row<kForkEvent>(event.data()).Set<"childFd">(message.arg.fork.ufd);
      break;
    case uapi::kEventRemap: {
      const Row<kRemapEvent> remap(event.data());
      remap.Set<"from">(message.arg.remap.from);
      remap.Set<"to">(message.arg.remap.to);
      remap.Set<"length">(message.arg.remap.len);
      break;
    }
    case uapi::kEventRemove:
    case uapi::kEventUnmap: {
      const Row<kRangeEvent> range(event.data());
      range.Set<"start">(message.arg.remove.start);
      range.Set<"end">(message.arg.remove.end);
      break;
    }
    default:
      break;  // an event of a newer kernel: only its type
  }
}

// One read(2): the number of events, 0 if none is pending.
long ReadEvents(int fd, std::span<double> events) noexcept {
  std::array<uapi::UffdMsg, kMostEvents> messages;
  const size_t most = std::min(events.size() / FaultRow::kStride, messages.size());
  const long bytes = CountOrErrno(::read(fd, messages.data(), most * sizeof(uapi::UffdMsg)));
  if (bytes < 0) return bytes == -EAGAIN || bytes == -EINTR ? 0 : bytes;
  const size_t count = static_cast<size_t>(bytes) / sizeof(uapi::UffdMsg);
  for (size_t i = 0; i < count; ++i)
    StoreEvent(messages[i], events.subspan(i * FaultRow::kStride).first<FaultRow::kStride>());
  return static_cast<long>(count);
}

}  // namespace

// (method, userModeOnly): the features that this kernel has, as a bigint, or -errno.
Napi::Value UffdProbe(const Napi::CallbackInfo& info) {
  Args args(info);
  const OpenMethod method = OpenMethodOf(args, 0);
  const bool user_mode_only = args.Flag(1, "userModeOnly");
  if (!args.ok()) return {};
  const long fd = Userfaultfd::OpenFd(method, user_mode_only);
  if (fd < 0) return Result(args, fd);
  const UniqueFd probe(static_cast<int>(fd));
  uint64_t available = 0;
  const long result = Userfaultfd::Handshake(probe.get(), 0, &available);
  if (result < 0) return Result(args, result);
  return MaskValue(args.env(), available);
}

// (method, userModeOnly, features): a handle; -errno if it does not open; [-errno] if UFFDIO_API
// fails.
Napi::Value UffdOpen(const Napi::CallbackInfo& info) {
  Args args(info);
  const OpenMethod method = OpenMethodOf(args, 0);
  const bool user_mode_only = args.Flag(1, "userModeOnly");
  const uint64_t features = args.Mask(2, "features");
  if (!args.ok()) return {};
  const long opened = Userfaultfd::OpenFd(method, user_mode_only);
  if (opened < 0) return Result(args, opened);
  UniqueFd fd(static_cast<int>(opened));
  uint64_t available = 0;
  const long result = Userfaultfd::Handshake(fd.get(), features, &available);
  if (result < 0) return ListValue(args.env(), {Result(args, result)});
  return NewHandle(
      args.env(), Userfaultfd::Publish(std::move(fd), method, user_mode_only, features, available));
}

Napi::Value UffdAttach(const Napi::CallbackInfo& info) {
  Args args(info);
  const uint64_t id = args.Number(0, "id");
  if (!args.ok()) return {};
  auto uffd = Registry<Userfaultfd>::Get().Find(id);
  return uffd == nullptr ? Result(args, -ENOENT) : NewHandle(args.env(), std::move(uffd));
}

Napi::Value UffdInfo(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  if (!args.ok()) return {};
  return ObjectValue(args.env())
      .Number("id", static_cast<double>(uffd->id()))
      .Number("fd", uffd->fd())
      .Number("method", static_cast<double>(uffd->method()))
      .Flag("userModeOnly", uffd->user_mode_only())
      .Mask("features", uffd->features())
      .Mask("available", uffd->available())
      .value();
}

Napi::Value UffdClose(const Napi::CallbackInfo& info) {
  Args args(info);
  auto* handle = args.HandleOf<Userfaultfd>(0, "userfaultfd");
  if (handle != nullptr) handle->object.reset();
  return {};
}

// (uffd, address, length, mode): the mask of ioctls as a bigint, or -errno.
Napi::Value UffdRegister(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const uint64_t start = args.Number(1, "address");
  const uint64_t length = args.Number(2, "length");
  const uint64_t mode = args.Bits(
      3, "mode", uapi::kRegisterMissing | uapi::kRegisterWriteProtect | uapi::kRegisterMinor);
  if (!args.ok()) return {};
  uint64_t ioctls = 0;
  const long result = uffd->Register(start, length, mode, &ioctls);
  return result < 0 ? Result(args, result) : MaskValue(args.env(), ioctls);
}

Napi::Value UffdUnregister(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const uint64_t start = args.Number(1, "address");
  const uint64_t length = args.Number(2, "length");
  if (!args.ok()) return {};
  return Result(args, uffd->Unregister(start, length));
}

Napi::Value UffdCopy(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const uint64_t dst = args.Number(1, "dst");
  const Bytes src = args.Uint8s(2, "src");
  const uint64_t mode = args.Bits(3, "mode", uapi::kDontWake | uapi::kCopyWriteProtect);
  if (!args.ok()) return {};
  return Result(args, uffd->Copy(dst, reinterpret_cast<uintptr_t>(src.data()), src.size(), mode));
}

Napi::Value UffdMove(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const uint64_t dst = args.Number(1, "dst");
  const uint64_t src = args.Number(2, "src");
  const uint64_t length = args.Number(3, "length");
  const uint64_t mode = args.Bits(4, "mode", uapi::kDontWake | uapi::kMoveAllowSrcHoles);
  if (!args.ok()) return {};
  return Result(args, uffd->Move(dst, src, length, mode));
}

Napi::Value UffdZeropage(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const uint64_t start = args.Number(1, "dst");
  const uint64_t length = args.Number(2, "length");
  const uint64_t mode = args.Bits(3, "mode", uapi::kDontWake);
  if (!args.ok()) return {};
  return Result(args, uffd->Zeropage(start, length, mode));
}

Napi::Value UffdContinue(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const uint64_t start = args.Number(1, "start");
  const uint64_t length = args.Number(2, "length");
  const uint64_t mode = args.Bits(3, "mode", uapi::kDontWake | uapi::kContinueWriteProtect);
  if (!args.ok()) return {};
  return Result(args, uffd->Continue(start, length, mode));
}

Napi::Value UffdPoison(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const uint64_t start = args.Number(1, "start");
  const uint64_t length = args.Number(2, "length");
  const uint64_t mode = args.Bits(3, "mode", uapi::kDontWake);
  if (!args.ok()) return {};
  return Result(args, uffd->Poison(start, length, mode));
}

Napi::Value UffdWake(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const uint64_t start = args.Number(1, "start");
  const uint64_t length = args.Number(2, "length");
  if (!args.ok()) return {};
  return Result(args, uffd->Wake(start, length));
}

Napi::Value UffdWriteProtect(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const uint64_t start = args.Number(1, "start");
  const uint64_t length = args.Number(2, "length");
  const uint64_t mode =
      args.Bits(3, "mode", uapi::kWriteProtectEnable | uapi::kWriteProtectDontWake);
  if (!args.ok()) return {};
  return Result(args, uffd->WriteProtect(start, length, mode));
}

Napi::Value UffdRead(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const std::span<double> events = args.Float64s(1, "events", FaultRow::kStride);
  if (!args.ok()) return {};
  return Result(args, ReadEvents(uffd->fd(), events));
}

}  // namespace postcopy
