// Makes the values that callbacks return to JavaScript, with the C interface only.
//
// In a worker that is being terminated each of these calls can fail, at any point of a callback.
// Most of node-addon-api throws after a failed call, which then fails too and aborts the process
// with all its guests. So neither this file nor a callback makes values with it. The C interface
// leaves the value empty, and the callback returns that empty value.
#pragma once

#include <napi.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>

namespace postcopy {

inline Napi::Value NumberValue(napi_env env, double number) {
  napi_value value = nullptr;
  napi_create_double(env, number, &value);
  return {env, value};
}

inline Napi::Value FlagValue(napi_env env, bool flag) {
  napi_value value = nullptr;
  napi_get_boolean(env, flag, &value);
  return {env, value};
}

// A bigint.
inline Napi::Value MaskValue(napi_env env, uint64_t mask) {
  napi_value value = nullptr;
  napi_create_bigint_uint64(env, mask, &value);
  return {env, value};
}

inline Napi::Value TextValue(napi_env env, const char* text) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value);
  return {env, value};
}

inline Napi::Value ListValue(napi_env env, std::initializer_list<Napi::Value> items) {
  napi_value list = nullptr;
  napi_create_array_with_length(env, items.size(), &list);
  uint32_t index = 0;
  for (const Napi::Value& item : items) napi_set_element(env, list, index++, item);
  return {env, list};
}

inline Napi::Value TextsValue(napi_env env, std::span<const char* const> texts) {
  napi_value list = nullptr;
  napi_create_array_with_length(env, texts.size(), &list);
  uint32_t index = 0;
  for (const char* text : texts) napi_set_element(env, list, index++, TextValue(env, text));
  return {env, list};
}

inline Napi::Value NumbersValue(napi_env env, std::span<const double> numbers) {
  napi_value list = nullptr;
  napi_create_array_with_length(env, numbers.size(), &list);
  uint32_t index = 0;
  for (const double number : numbers)
    napi_set_element(env, list, index++, NumberValue(env, number));
  return {env, list};
}

inline Napi::Value Float64ArrayValue(napi_env env, std::span<const double> numbers) {
  void* data = nullptr;
  napi_value buffer = nullptr;
  napi_value array = nullptr;
  if (napi_create_arraybuffer(env, numbers.size_bytes(), &data, &buffer) != napi_ok) return {};
  if (!numbers.empty()) std::memcpy(data, numbers.data(), numbers.size_bytes());
  napi_create_typedarray(env, napi_float64_array, numbers.size(), buffer, 0, &array);
  return {env, array};
}

// A new object.
class ObjectValue {
 public:
  explicit ObjectValue(napi_env env) : env_(env) { napi_create_object(env, &object_); }

  ObjectValue& Value(const char* name, Napi::Value value) {
    napi_set_named_property(env_, object_, name, value);
    return *this;
  }
  ObjectValue& Number(const char* name, double value) {
    return Value(name, NumberValue(env_, value));
  }
  ObjectValue& Flag(const char* name, bool value) { return Value(name, FlagValue(env_, value)); }
  ObjectValue& Mask(const char* name, uint64_t value) {
    return Value(name, MaskValue(env_, value));
  }

  Napi::Value value() const { return {env_, object_}; }

 private:
  napi_env env_;
  napi_value object_ = nullptr;
};

// An External that points to `data` and owns `owner`. If the call fails, `owner` is deleted and the
// value is empty.
template <typename Owner>
Napi::Value ExternalValue(napi_env env, void* data, std::unique_ptr<Owner> owner,
                          const napi_type_tag& tag) {
  const auto release = [](napi_env, void*, void* hint) { delete static_cast<Owner*>(hint); };
  napi_value external = nullptr;
  if (napi_create_external(env, data, release, owner.get(), &external) != napi_ok) return {};
  static_cast<void>(owner.release());
  // Without its tag no callback would accept it.
  if (napi_type_tag_object(env, external, &tag) != napi_ok) return {};
  return {env, external};
}

}  // namespace postcopy
