#include "calls.h"
#include "common/args.h"
#include "common/call_numbers.h"
#include "common/records.h"
#include "fault_guard.h"
#include "userfaultfd.h"

namespace postcopy {

namespace {

constexpr uint64_t kMaxPageBytes = uint64_t{1} << 30;

}  // namespace

// (uffd, threadId): a handle, or -errno. 0 guards no thread. Ends an earlier guard of this
// userfaultfd.
Napi::Value GuardStart(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  const uint64_t thread_id = args.Number(1, "threadId", INT32_MAX);
  if (!args.ok()) return {};
  std::shared_ptr<FaultGuard> guard;
  const long result = FaultGuard::Start(uffd->fd(), static_cast<uint32_t>(thread_id), &guard);
  if (result < 0) return Result(args, result);
  uffd->SetGuard(guard);
  return NewHandle(args.env(), std::move(guard));
}

// (guard, before, after, received, zeroed, numbers). Bitmaps that are not empty must not be garbage
// collected before guardBegin() or guardStop().
Napi::Value GuardDescribe(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto guard = args.Object<FaultGuard>(0, "guard");
  std::string before = args.Text(1, "before");
  std::string after = args.Text(2, "after");
  const Bytes received = args.Uint8s(3, "received");
  const Bytes zeroed = args.Uint8s(4, "zeroed");
  CallNumbers<kGuardDescribe> numbers(args, 5);
  const uint64_t start = numbers.Number<"address">();
  const uint64_t length = numbers.Number<"length">();
  const uint64_t page_size = numbers.Number<"pageSizeBytes">(kMaxPageBytes);
  args.Require(page_size > 0 && page_size % kTargetPageBytes == 0 && length % page_size == 0,
               "pageSizeBytes", "the size of pages that fill the range");
  for (const Bytes& bits : {received, zeroed}) {
    args.Require(bits.empty() || bits.size() * 8 >= length / kTargetPageBytes,
                 "received and zeroed", "one bit for each page of 4096 bytes");
  }
  if (!args.ok()) return {};
  guard->Describe(start, {.length = length,
                          .page_size = page_size,
                          .before = std::move(before),
                          .after = std::move(after),
                          .received = {.live = received, .copy = {}},
                          .zeroed = {.live = zeroed, .copy = {}}});
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
