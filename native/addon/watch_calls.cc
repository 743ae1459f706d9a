// Watches a userfaultfd for events, on the event loop of the calling thread.
#include <napi.h>
#include <uv.h>

#include "calls.h"
#include "common/args.h"
#include "userfaultfd.h"

namespace postcopy {

namespace {

// Lifecycle: Start() -> [ OnReady ... ] -> Close(), by stop or at the end of the environment ->
// OnClosed().
//
// A handle that is open at the end of a worker's loop aborts the process, and closing one takes an
// iteration of the loop. Therefore the watch has an asynchronous cleanup hook, for which the
// environment waits. The watch keeps a reference to itself until libuv has closed the handle.
class Watch {
 public:
  static constexpr napi_type_tag kTag = {0x706f7374636f7079, 0x7761746368000001};

  // The watch continues if its stop function is garbage collected.
  static void Collect(std::shared_ptr<Watch> watch) noexcept { watch.reset(); }

  // 0 or -errno; -ECANCELED in an environment that is being terminated.
  static long Start(napi_env env, std::shared_ptr<Userfaultfd> uffd, napi_value listener, bool ref,
                    std::shared_ptr<Watch>* out) {
    uv_loop_t* loop = nullptr;
    if (napi_get_uv_event_loop(env, &loop) != napi_ok) return -ECANCELED;
    auto watch = std::make_shared<Watch>();
    long result = uv_poll_init(loop, &watch->poll_, uffd->fd());
    if (result < 0) return result;
    watch->poll_.data = watch.get();
    watch->self_ = watch;
    watch->env_ = env;
    watch->uffd_ = std::move(uffd);
    const bool hooked =
        napi_add_async_cleanup_hook(env, OnTeardown, watch.get(), &watch->hook_) == napi_ok;
    const Napi::Value name = TextValue(env, "postcopy.userfaultfd");
    if (!hooked || napi_create_reference(env, listener, 1, &watch->listener_) != napi_ok ||
        napi_async_init(env, nullptr, name, &watch->context_) != napi_ok) {
      watch->Close();
      return -ECANCELED;
    }
    result = uv_poll_start(&watch->poll_, UV_READABLE, OnReady);
    if (result < 0) {
      watch->Close();
      return result;
    }
    if (!ref) uv_unref(reinterpret_cast<uv_handle_t*>(&watch->poll_));
    *out = std::move(watch);
    return 0;
  }

  void Close() noexcept {
    if (closing_) return;
    closing_ = true;
    uv_close(reinterpret_cast<uv_handle_t*>(&poll_), OnClosed);
    // The loop no longer polls the descriptor, and JavaScript must not be called any more.
    if (listener_ != nullptr) napi_delete_reference(env_, listener_);
    if (context_ != nullptr) napi_async_destroy(env_, context_);
    uffd_.reset();
  }

 private:
  static void OnReady(uv_poll_t* poll, int status, int) {
    auto* watch = static_cast<Watch*>(poll->data);
    napi_env env = watch->env_;
    napi_handle_scope scope = nullptr;
    if (napi_open_handle_scope(env, &scope) != napi_ok) return;
    watch->Call(status);
    napi_close_handle_scope(env, scope);
  }

  void Call(int status) {
    napi_env env = env_;
    napi_value listener = nullptr;
    napi_value receiver = nullptr;
    napi_value argument = nullptr;
    napi_get_reference_value(env, listener_, &listener);
    napi_get_global(env, &receiver);
    napi_create_int32(env, status, &argument);
    // The listener may stop the watch, so no member is used after this call.
    const napi_status called =
        napi_make_callback(env, context_, receiver, listener, 1, &argument, nullptr);
    if (called != napi_pending_exception) return;
    napi_value exception = nullptr;
    if (napi_get_and_clear_last_exception(env, &exception) == napi_ok)
      napi_fatal_exception(env, exception);
  }

  static void OnTeardown(napi_async_cleanup_hook_handle, void* data) {
    static_cast<Watch*>(data)->Close();
  }

  static void OnClosed(uv_handle_t* handle) {
    auto* watch = static_cast<Watch*>(handle->data);
    if (watch->hook_ != nullptr) napi_remove_async_cleanup_hook(watch->hook_);
    const std::shared_ptr<Watch> last = std::move(watch->self_);
  }

  uv_poll_t poll_{};
  napi_env env_ = nullptr;
  napi_ref listener_ = nullptr;
  napi_async_context context_ = nullptr;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  std::shared_ptr<Userfaultfd> uffd_;
  std::shared_ptr<Watch> self_;
  bool closing_ = false;
};

}  // namespace

// (uffd, listener(status), ref): a handle for watchStop, or -errno.
Napi::Value WatchStart(const Napi::CallbackInfo& info) {
  Args args(info);
  auto uffd = args.Object<Userfaultfd>(0, "userfaultfd");
  napi_value listener = args.Function(1, "listener");
  const bool ref = args.Flag(2, "ref");
  if (!args.ok()) return {};
  std::shared_ptr<Watch> watch;
  const long result = Watch::Start(args.env(), std::move(uffd), listener, ref, &watch);
  return result < 0 ? Result(args, result) : NewHandle(args.env(), std::move(watch));
}

Napi::Value WatchStop(const Napi::CallbackInfo& info) {
  Args args(info);
  auto* handle = args.HandleOf<Watch>(0, "watch");
  if (handle != nullptr && handle->object != nullptr) {
    handle->object->Close();
    handle->object.reset();
  }
  return {};
}

}  // namespace postcopy
