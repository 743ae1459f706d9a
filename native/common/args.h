// Arguments of a callback. The first bad one throws TypeError or RangeError; later ones read as
// empty. So a callback reads all of its arguments, and then returns at once unless ok(). Uses only
// the C interface, for the reason in values.h.
#pragma once

#include <napi.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <string>

#include "incoming.h"
#include "registry.h"
#include "values.h"

namespace postcopy {

// Converts a number of JavaScript: returns false and stores nothing unless `value` is an integer in
// [least, most]. The cast alone is undefined for NaN and for values out of range.
template <typename Integer>
bool ToInteger(double value, double least, double most, Integer* out) noexcept {
  if (!(value >= least && value <= most) || value != std::floor(value)) return false;
  *out = static_cast<Integer>(value);
  return true;
}

class Args {
 public:
  explicit Args(const Napi::CallbackInfo& info) : info_(info) {}

  bool ok() const { return !failed_; }
  Napi::Env env() const { return info_.Env(); }

  // A count, offset, length or address: an integer that a double holds exactly.
  uint64_t Number(size_t index, const char* name, uint64_t max = kMaxSafeInteger) {
    double value = 0;
    if (failed_) return 0;
    if (napi_get_value_double(env(), info_[index], &value) != napi_ok)
      return TypeError(name, "a number");
    return CheckedNumber(value, name, max);
  }

  int Fd(size_t index, const char* name) {
    return static_cast<int>(Number(index, name, INT32_MAX));
  }

  int32_t Int(size_t index, const char* name) {
    double value = 0;
    if (failed_) return 0;
    if (napi_get_value_double(env(), info_[index], &value) != napi_ok)
      return static_cast<int32_t>(TypeError(name, "a number"));
    return CheckedInt(value, name);
  }

  // Flags of the kernel, of which only those in `mask` are allowed.
  uint64_t Bits(size_t index, const char* name, uint64_t mask) {
    const uint64_t bits = Number(index, name);
    Require((bits & ~mask) == 0, name, "flags of this call");
    return failed_ ? 0 : bits;
  }

  // For numbers that were not passed as an argument of their own, see call_numbers.h.
  uint64_t CheckedNumber(double value, const char* name, uint64_t max) {
    uint64_t number = 0;
    if (failed_) return 0;
    if (!ToInteger(value, 0, static_cast<double>(max), &number))
      return RangeError(name, "an integer of at least 0 and in range");
    return number;
  }

  int32_t CheckedInt(double value, const char* name) {
    int32_t number = 0;
    if (failed_) return 0;
    if (!ToInteger(value, INT32_MIN, INT32_MAX, &number))
      return static_cast<int32_t>(RangeError(name, "a 32-bit integer"));
    return number;
  }

  bool Flag(size_t index, const char* name) {
    bool value = false;
    if (failed_) return false;
    if (napi_get_value_bool(env(), info_[index], &value) != napi_ok) TypeError(name, "a boolean");
    return value;
  }

  uint64_t Mask(size_t index, const char* name) {
    uint64_t value = 0;
    bool lossless = false;
    if (failed_) return 0;
    if (napi_get_value_bigint_uint64(env(), info_[index], &value, &lossless) != napi_ok)
      return TypeError(name, "a bigint");
    return lossless ? value : RangeError(name, "a 64-bit mask");
  }

  std::string Text(size_t index, const char* name) {
    size_t length = 0;
    if (failed_) return {};
    if (napi_get_value_string_utf8(env(), info_[index], nullptr, 0, &length) != napi_ok) {
      TypeError(name, "a string");
      return {};
    }
    std::string text(length, '\0');
    // The call also writes a NUL, for which std::string has room.
    napi_get_value_string_utf8(env(), info_[index], text.data(), length + 1, &length);
    return text;
  }

  bool IsUndefined(size_t index) const { return TypeOf(index) == napi_undefined; }

  Bytes Uint8s(size_t index, const char* name) {
    return Elements<uint8_t>(index, name, napi_uint8_array, 0);
  }
  std::span<double> Float64s(size_t index, const char* name, size_t least) {
    return Elements<double>(index, name, napi_float64_array, least);
  }
  std::span<int32_t> Int32s(size_t index, const char* name, size_t least) {
    return Elements<int32_t>(index, name, napi_int32_array, least);
  }
  std::span<uint64_t> Uint64s(size_t index, const char* name, size_t least) {
    return Elements<uint64_t>(index, name, napi_biguint64_array, least);
  }

  napi_value Function(size_t index, const char* name) {
    if (!failed_ && TypeOf(index) != napi_function) TypeError(name, "a function");
    return failed_ ? nullptr : static_cast<napi_value>(info_[index]);
  }

  // The target of an External with this tag; null after a failure.
  void* Tagged(size_t index, const char* name, const napi_type_tag& tag, const char* expected) {
    void* data = nullptr;
    bool tagged = false;
    if (failed_) return nullptr;
    napi_check_object_type_tag(env(), info_[index], &tag, &tagged);
    if (tagged) napi_get_value_external(env(), info_[index], &data);
    if (data == nullptr) TypeError(name, expected);
    return data;
  }

  // Whether the argument is a handle of this type, open or closed.
  template <typename T>
  bool IsHandle(size_t index) const {
    bool tagged = false;
    return napi_check_object_type_tag(env(), info_[index], &T::kTag, &tagged) == napi_ok && tagged;
  }

  // The handle itself, open or closed; null after a failure.
  template <typename T>
  Handle<T>* HandleOf(size_t index, const char* name) {
    return static_cast<Handle<T>*>(Tagged(index, name, T::kTag, "a handle of this addon"));
  }

  // The object of an open handle, referenced for the duration of the call; null after a failure.
  template <typename T>
  std::shared_ptr<T> Object(size_t index, const char* name) {
    Handle<T>* handle = HandleOf<T>(index, name);
    if (handle == nullptr) return nullptr;
    if (handle->object == nullptr) TypeError(name, "open");
    return handle->object;
  }

  // For rules that involve several arguments.
  void Require(bool holds, const char* name, const char* rule) {
    if (!failed_ && !holds) RangeError(name, rule);
  }

  static constexpr uint64_t kMaxSafeInteger = (uint64_t{1} << 53) - 1;

 private:
  napi_valuetype TypeOf(size_t index) const {
    napi_valuetype type = napi_undefined;
    napi_typeof(env(), info_[index], &type);
    return type;
  }

  // In a worker that is being terminated, no argument can be read and no error thrown. These calls
  // then fail, which has no effect.
  uint64_t TypeError(const char* name, const char* expected) {
    napi_throw_type_error(env(), nullptr, (std::string(name) + " must be " + expected).c_str());
    failed_ = true;
    return 0;
  }

  uint64_t RangeError(const char* name, const char* expected) {
    napi_throw_range_error(env(), nullptr, (std::string(name) + " must be " + expected).c_str());
    failed_ = true;
    return 0;
  }

  template <typename T>
  std::span<T> Elements(size_t index, const char* name, napi_typedarray_type expected,
                        size_t least) {
    napi_typedarray_type type{};
    size_t length = 0;
    void* data = nullptr;
    if (failed_) return {};
    bool matches = false;
    napi_is_typedarray(env(), info_[index], &matches);
    if (matches) {
      napi_get_typedarray_info(env(), info_[index], &type, &length, &data, nullptr, nullptr);
      matches = type == expected;
    }
    if (!matches) {
      TypeError(name, expected == napi_uint8_array     ? "a Uint8Array"
                      : expected == napi_float64_array ? "a Float64Array"
                      : expected == napi_int32_array   ? "an Int32Array"
                                                       : "a BigUint64Array");
      return {};
    }
    if (length < least) {
      RangeError(name, "long enough");
      return {};
    }
    return {static_cast<T*>(data), length};
  }

  const Napi::CallbackInfo& info_;
  bool failed_ = false;
};

// A count or -errno as a JavaScript number.
inline Napi::Value Result(const Args& args, int64_t result) {
  return NumberValue(args.env(), static_cast<double>(result));
}

}  // namespace postcopy
