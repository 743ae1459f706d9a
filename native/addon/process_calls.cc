// Ends the process from any thread, even if other threads are blocked on missing pages.
#include <napi.h>
#include <unistd.h>

#include "calls.h"
#include "common/args.h"

namespace postcopy {

namespace {

constexpr uint64_t kLastStatus = 255;

}  // namespace

// (status): does not return.
Napi::Value ProcessExit(const Napi::CallbackInfo& info) {
  Args args(info);
  const uint64_t status = args.Number(0, "status", kLastStatus);
  if (!args.ok()) return {};
  ::_exit(static_cast<int>(status));
}

}  // namespace postcopy
