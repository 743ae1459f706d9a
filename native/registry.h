// Objects that several threads of the process share by number, and the handles through which
// JavaScript holds them.
#pragma once

#include <napi.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "values.h"

namespace postcopy {

// The one global of the addon: all environments (main thread and workers) look up the same objects.
template <typename T>
class Registry {
 public:
  // Never destroyed: threads may still end their use while the process exits.
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

  // An abandoned object is taken over by whoever asks for it.
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

  // Keeps an object whose last handle went without close().
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

// What an External points to. A handle belongs to one thread; only what it points to is shared.
// T::Collect() decides what happens to an object that was collected, or whose environment ended,
// without close().
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

// T::kTag keeps handles of one type from being taken for another.
template <typename T>
Napi::Value NewHandle(napi_env env, std::shared_ptr<T> object) {
  auto handle = std::make_unique<Handle<T>>(std::move(object));
  Handle<T>* data = handle.get();
  return ExternalValue(env, data, std::move(handle), T::kTag);
}

}  // namespace postcopy
