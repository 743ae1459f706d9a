// Objects that several threads of the process share by id, and the handles by which JavaScript
// holds them.
#pragma once

#include <napi.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "values.h"

namespace postcopy {

// The only global of the addon: all environments (main thread and workers) find the same objects.
template <typename T>
class Registry {
 public:
  // Never destroyed: threads may still use it while the process exits.
  static Registry& Get() {
    static auto& registry = *new Registry;
    return registry;
  }

  uint64_t NextId() {
    const std::lock_guard lock(mutex_);
    return ++last_id_;
  }

  void Add(uint64_t id, const std::shared_ptr<T>& object) {
    const std::lock_guard lock(mutex_);
    live_[id] = object;
  }

  // The caller takes over an abandoned object.
  std::shared_ptr<T> Find(uint64_t id) {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(id);
    auto object = found == live_.end() ? nullptr : found->second.lock();
    if (object != nullptr) abandoned_.erase(id);
    return object;
  }

  void Remove(uint64_t id) {
    const std::lock_guard lock(mutex_);
    live_.erase(id);
  }

  // Keeps an object whose last handle was dropped without close().
  void Abandon(uint64_t id, std::shared_ptr<T> object) {
    const std::lock_guard lock(mutex_);
    abandoned_[id] = std::move(object);
  }

 private:
  Registry() = default;

  std::mutex mutex_;
  uint64_t last_id_ = 0;
  std::map<uint64_t, std::weak_ptr<T>> live_;
  std::map<uint64_t, std::shared_ptr<T>> abandoned_;
};

// The target of an External. A handle belongs to one thread; only its object is shared.
// T::Collect() gets the object if the handle was collected, or its environment ended, without
// close().
template <typename T>
struct Handle {
  explicit Handle(std::shared_ptr<T> opened) noexcept : object(std::move(opened)) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    if (object != nullptr) T::Collect(std::move(object));
  }

  std::shared_ptr<T> object;
};

// T::kTag prevents that a handle is used as one of another type.
template <typename T>
Napi::Value NewHandle(napi_env env, std::shared_ptr<T> object) {
  auto handle = std::make_unique<Handle<T>>(std::move(object));
  Handle<T>* data = handle.get();
  return ExternalValue(env, data, std::move(handle), T::kTag);
}

}  // namespace postcopy
