// Names of the numbers that cross between JavaScript and native code in arrays.
//
// A call with many numbers takes them in one Float64Array: its arguments, then its results. The
// caller uses the array again for the next call. A list is an array of rows with the same fields.
// Each layout is declared once in C++ (calls.h of the addon) and once in TypeScript (native.ts of
// the room). test/kernel/interface.test.ts compares the two by the function `nativeInterface` that
// every addon exports (exports.h).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace postcopy {

// The name of a field as a template argument.
template <size_t kLength>
struct FieldName {
  constexpr FieldName(const char (&name)[kLength]) noexcept { std::copy_n(name, kLength, text); }
  char text[kLength];
};

template <size_t kCount>
struct Arguments {
  std::array<const char*, kCount> names;
};
template <typename... Name>
Arguments(Name...) -> Arguments<sizeof...(Name)>;

template <size_t kCount>
struct Results {
  std::array<const char*, kCount> names;
};
template <typename... Name>
Results(Name...) -> Results<sizeof...(Name)>;

template <size_t kArguments, size_t kResults>
struct CallLayout {
  const char* call;
  Arguments<kArguments> arguments;
  Results<kResults> results;
};
template <size_t kArguments, size_t kResults>
CallLayout(const char*, Arguments<kArguments>, Results<kResults>)
    -> CallLayout<kArguments, kResults>;

template <size_t kCount>
struct Fields {
  std::array<const char*, kCount> names;
};
template <typename... Name>
Fields(Name...) -> Fields<sizeof...(Name)>;

template <size_t kFields>
struct RowLayout {
  const char* row;
  Fields<kFields> fields;
};
template <size_t kFields>
RowLayout(const char*, Fields<kFields>) -> RowLayout<kFields>;

// The position of a name; the number of names if it is not one of them.
template <size_t kCount>
constexpr size_t IndexOf(const std::array<const char*, kCount>& names,
                         std::string_view name) noexcept {
  size_t index = 0;
  while (index < kCount && name != names[index]) ++index;
  return index;
}

// One row of a list.
template <const auto& kLayout, typename Element = double>
class Row {
 public:
  static constexpr size_t kStride = kLayout.fields.names.size();

  explicit Row(Element* at) noexcept : at_(at) {}

  template <FieldName kName>
  Element Get() const noexcept {
    return at_[Index<kName>()];
  }
  template <FieldName kName, typename Number>
  void Set(Number value) const noexcept {
    at_[Index<kName>()] = static_cast<Element>(value);
  }

 private:
  template <FieldName kName>
  static constexpr size_t Index() noexcept {
    constexpr size_t index = IndexOf(kLayout.fields.names, kName.text);
    static_assert(index < kStride, "the row has no field of this name");
    return index;
  }

  Element* at_;
};

}  // namespace postcopy
