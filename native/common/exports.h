// The exports of an addon: its functions, and a description of its layouts and constants.
#pragma once

#include <napi.h>

#include <span>

#include "layout.h"
#include "values.h"

namespace postcopy {

// A function that an addon exports, with the layout of its numbers if it has one.
struct Export {
  using Function = Napi::Value (*)(const Napi::CallbackInfo& info);

  constexpr Export(const char* exported, Function callback) noexcept
      : name(exported), function(callback) {}
  template <size_t kArguments, size_t kResults>
  constexpr Export(const CallLayout<kArguments, kResults>& layout, Function callback) noexcept
      : name(layout.call),
        function(callback),
        arguments(layout.arguments.names),
        results(layout.results.names) {}

  const char* name;
  Function function;
  std::span<const char* const> arguments;
  std::span<const char* const> results;
};

struct RowExport {
  template <size_t kFields>
  constexpr RowExport(const RowLayout<kFields>& layout) noexcept
      : name(layout.row), fields(layout.fields.names) {}

  const char* name;
  std::span<const char* const> fields;
};

// A number that native code and TypeScript must agree on.
struct ConstantExport {
  template <typename Number>
  constexpr ConstantExport(const char* exported, Number number) noexcept
      : name(exported), value(static_cast<double>(number)) {}

  const char* name;
  double value;
};

struct Interface {
  std::span<const Export> functions;
  std::span<const RowExport> rows;
  std::span<const ConstantExport> constants;
};

inline napi_value CallExport(napi_env env, napi_callback_info info) {
  const Napi::CallbackInfo call(env, info);
  return static_cast<const Export*>(call.Data())->function(call);
}

// nativeInterface(): {calls: {NAME: {arguments, results}}, rows: {NAME: fields}, constants: {NAME:
// number}}
inline napi_value DescribeInterface(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  const auto* described = static_cast<const Interface*>(data);
  ObjectValue calls(env);
  for (const Export& entry : described->functions) {
    if (entry.arguments.empty() && entry.results.empty()) continue;
    calls.Value(entry.name, ObjectValue(env)
                                .Value("arguments", TextsValue(env, entry.arguments))
                                .Value("results", TextsValue(env, entry.results))
                                .value());
  }
  ObjectValue rows(env);
  for (const RowExport& row : described->rows) rows.Value(row.name, TextsValue(env, row.fields));
  ObjectValue constants(env);
  for (const ConstantExport& constant : described->constants)
    constants.Number(constant.name, constant.value);
  return ObjectValue(env)
      .Value("calls", calls.value())
      .Value("rows", rows.value())
      .Value("constants", constants.value())
      .value();
}

// `exported` must live as long as the process.
inline Napi::Object AddExports(Napi::Object exports, const Interface& exported) {
  napi_env env = exports.Env();
  for (const Export& entry : exported.functions) {
    napi_value function = nullptr;
    napi_create_function(env, entry.name, NAPI_AUTO_LENGTH, CallExport, const_cast<Export*>(&entry),
                         &function);
    napi_set_named_property(env, exports, entry.name, function);
  }
  constexpr const char* kName = "nativeInterface";
  napi_value describe = nullptr;
  napi_create_function(env, kName, NAPI_AUTO_LENGTH, DescribeInterface,
                       const_cast<Interface*>(&exported), &describe);
  napi_set_named_property(env, exports, kName, describe);
  return exports;
}

}  // namespace postcopy
