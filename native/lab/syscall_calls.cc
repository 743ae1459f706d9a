// Raw system calls and raw memory accesses, for experiments.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "calls.h"
#include "common/args.h"
#include "common/sys.h"
#include "common/uapi.h"
#include "common/values.h"

namespace postcopy::lab {
namespace {

constexpr size_t kMostArguments = 6;

struct Numbered {
  const char* name;
  long number;
};

// The system calls that experiments use. Those that older headers lack have the same number on all
// architectures, as all new calls since Linux 5.1.
constexpr Numbered kNumbers[] = {
    {"read", SYS_read},
    {"write", SYS_write},
    {"pread64", SYS_pread64},
    {"pwrite64", SYS_pwrite64},
    {"close", SYS_close},
    {"dup", SYS_dup},
    {"close_range", 436},
    {"ioctl", SYS_ioctl},
    {"fcntl", SYS_fcntl},
    {"ppoll", SYS_ppoll},
    {"pipe2", SYS_pipe2},
    {"epoll_create1", SYS_epoll_create1},
    {"epoll_ctl", SYS_epoll_ctl},
    {"epoll_pwait", SYS_epoll_pwait},
    {"mmap", SYS_mmap},
    {"munmap", SYS_munmap},
    {"mremap", SYS_mremap},
    {"mprotect", SYS_mprotect},
    {"madvise", SYS_madvise},
    {"process_madvise", 440},
    {"mlock", SYS_mlock},
    {"munlock", SYS_munlock},
    {"mlockall", SYS_mlockall},
    {"munlockall", SYS_munlockall},
    {"mincore", SYS_mincore},
    {"msync", SYS_msync},
    {"memfd_create", SYS_memfd_create},
    {"memfd_secret", 447},
    {"fallocate", SYS_fallocate},
    {"ftruncate", SYS_ftruncate},
    {"userfaultfd", uapi::kSysUserfaultfd},
    {"process_vm_readv", SYS_process_vm_readv},
    {"process_vm_writev", SYS_process_vm_writev},
    {"getpid", SYS_getpid},
    {"gettid", SYS_gettid},
    {"kill", SYS_kill},
    {"tgkill", SYS_tgkill},
    {"wait4", SYS_wait4},
    {"exit_group", SYS_exit_group},
    {"pidfd_open", 434},
    {"pidfd_getfd", 438},
    {"prctl", SYS_prctl},
    {"execve", SYS_execve},
    {"fcntl", SYS_fcntl},
    {"sched_yield", SYS_sched_yield},
    {"sched_setaffinity", SYS_sched_setaffinity},
    {"mount", SYS_mount},
    {"umount2", SYS_umount2},
    {"unshare", SYS_unshare},
    {"swapon", SYS_swapon},
    {"swapoff", SYS_swapoff},
    {"mknodat", SYS_mknodat},
    {"setresuid", SYS_setresuid},
    {"vmsplice", SYS_vmsplice},
    {"io_uring_setup", 425},
    {"io_uring_register", 427},
};

bool AddressOf(const Napi::Value& value, long* out) {
  void* data = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, nullptr, nullptr, &data, nullptr, nullptr) !=
      napi_ok)
    return false;
  *out = reinterpret_cast<long>(data);
  return true;
}

// A number, a bigint, or memory whose address is passed.
bool Argument(const Napi::Value& value, long* out) {
  napi_env env = value.Env();
  int64_t number = 0;
  if (napi_get_value_int64(env, value, &number) == napi_ok) {  // 0 for NaN
    *out = static_cast<long>(number);
    return true;
  }
  uint64_t wide = 0;
  bool lossless = false;
  if (napi_get_value_bigint_uint64(env, value, &wide, &lossless) == napi_ok) {
    *out = static_cast<long>(wide);
    return true;
  }
  return AddressOf(value, out);
}

}  // namespace

Napi::Value SyscallNumbers(const Napi::CallbackInfo& info) {
  ObjectValue numbers(info.Env());
  for (const auto& [name, number] : kNumbers) numbers.Number(name, static_cast<double>(number));
  return numbers.value();
}

// syscall(number, ...up to six): the result or -errno.
Napi::Value Syscall(const Napi::CallbackInfo& info) {
  long values[kMostArguments + 1] = {};
  for (size_t i = 0; i < info.Length() && i <= kMostArguments; ++i) {
    if (Argument(info[i], &values[i])) continue;
    napi_throw_type_error(info.Env(), nullptr,
                          "arguments must be numbers, bigints or typed arrays");
    return {};
  }
  const long result = CountOrErrno(
      syscall(values[0], values[1], values[2], values[3], values[4], values[5], values[6]));
  return NumberValue(info.Env(), static_cast<double>(result));
}

// The address of a typed array, valid while it is referenced and not resized.
Napi::Value AddressOf(const Napi::CallbackInfo& info) {
  long address = 0;
  if (!AddressOf(info[0], &address)) {
    napi_throw_type_error(info.Env(), nullptr, "bytes must be a typed array");
    return {};
  }
  return NumberValue(info.Env(), static_cast<double>(address));
}

// peek(address, target): copies memory out. poke(address, source): copies bytes in. Both access
// memory from user mode, and a missing page blocks the calling thread.
Napi::Value Peek(const Napi::CallbackInfo& info) {
  Args args(info);
  const uint64_t address = args.Number(0, "address");
  const auto target = args.Uint8s(1, "target");
  args.Require(address != 0, "address", "not null");
  if (!args.ok() || address == 0) return {};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): addresses come from JavaScript as numbers
  std::memcpy(target.data(), reinterpret_cast<const void*>(address), target.size());
  return {};
}

Napi::Value Poke(const Napi::CallbackInfo& info) {
  Args args(info);
  const uint64_t address = args.Number(0, "address");
  const auto source = args.Uint8s(1, "source");
  args.Require(address != 0, "address", "not null");
  if (!args.ok() || address == 0) return {};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): addresses come from JavaScript as numbers
  std::memcpy(reinterpret_cast<void*>(address), source.data(), source.size());
  return {};
}

}  // namespace postcopy::lab
