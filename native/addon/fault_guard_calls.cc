#include "calls.h"
#include "common/args.h"
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

// (guard, start, length, before, after, pageSize, received, zeroed). Bitmaps that are not empty
// must not be garbage collected before guardBegin() or guardStop().
Napi::Value GuardDescribe(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto guard = args.Object<FaultGuard>(0, "guard");
  const uint64_t start = args.Number(1, "address");
  const uint64_t length = args.Number(2, "length");
  std::string before = args.Text(3, "before");
  std::string after = args.Text(4, "after");
  const uint64_t page_size = args.Number(5, "pageSizeBytes", kMaxPageBytes);
  const Bytes received = args.Uint8s(6, "received");
  args.Require(page_size > 0 && page_size % kTargetPageBytes == 0 && length % page_size == 0,
               "pageSizeBytes", "the size of pages that fill the range");
  const Bytes zeroed = args.Uint8s(7, "zeroed");
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
