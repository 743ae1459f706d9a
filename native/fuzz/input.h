// An input, read as choices; zeros after its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace postcopy::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) noexcept : bytes_(data, size) {}

  bool empty() const noexcept { return at_ >= bytes_.size(); }
  uint8_t Byte() noexcept { return empty() ? 0 : bytes_[at_++]; }
  // From 0 to most.
  size_t UpTo(size_t most) noexcept { return (Byte() * size_t{256} + Byte()) % (most + 1); }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
};

inline void Demand(bool holds, const char* what) noexcept {
  if (holds) return;
  std::fprintf(stderr, "FINDING: %s\n", what);
  std::abort();
}

}  // namespace postcopy::fuzz
