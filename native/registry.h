// Objects that several threads of the process share by number, and the handles through which
// JavaScript holds them.
#pragma once

#include <napi.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

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
template <typename T>
struct Handle {
  std::shared_ptr<T> object;
};

// T::kTag keeps handles of one type from being taken for another; T::Collect() decides what happens
// to an object that was collected, or whose environment ended, without close().
template <typename T>
Napi::Value NewHandle(Napi::Env env, std::shared_ptr<T> object) {
  auto external = Napi::External<Handle<T>>::New(env, new Handle<T>{std::move(object)},
                                                 [](Napi::Env, Handle<T>* handle) {
                                                   if (handle->object != nullptr)
                                                     T::Collect(std::move(handle->object));
                                                   delete handle;
                                                 });
  external.TypeTag(&T::kTag);
  return external;
}

}  // namespace postcopy
