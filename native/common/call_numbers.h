// The numbers of one call, see layout.h.
#pragma once

#include <cstdint>
#include <span>

#include "args.h"
#include "layout.h"

namespace postcopy {

// Arguments are checked when they are read, as those of Args are. Set results only if args.ok().
template <const auto& kLayout>
class CallNumbers {
 public:
  CallNumbers(Args& args, size_t index)
      : args_(args), numbers_(args.Float64s(index, "numbers", kArguments + kResults)) {}

  // A count, offset, length or address, see Args::Number.
  template <FieldName kName>
  uint64_t Number(uint64_t max = Args::kMaxSafeInteger) {
    return args_.CheckedNumber(Argument<kName>(), kName.text, max);
  }
  template <FieldName kName>
  int32_t Int() {
    return args_.CheckedInt(Argument<kName>(), kName.text);
  }
  template <FieldName kName>
  int Fd() {
    return static_cast<int>(Number<kName>(INT32_MAX));
  }
  // 0 or 1.
  template <FieldName kName>
  bool Flag() {
    return Number<kName>(1) != 0;
  }

  template <FieldName kName, typename Value>
  void Set(Value value) {
    constexpr size_t index = IndexOf(kLayout.results.names, kName.text);
    static_assert(index < kResults, "the call has no result of this name");
    numbers_[kArguments + index] = static_cast<double>(value);
  }

 protected:
  Args& args_;

 private:
  static constexpr size_t kArguments = kLayout.arguments.names.size();
  static constexpr size_t kResults = kLayout.results.names.size();

  template <FieldName kName>
  double Argument() const {
    constexpr size_t index = IndexOf(kLayout.arguments.names, kName.text);
    static_assert(index < kArguments, "the call has no argument of this name");
    return args_.ok() ? numbers_[index] : 0;
  }

  std::span<double> numbers_;
};

}  // namespace postcopy
