#include "crc32c.h"

#include <array>
#include <cstring>

#include "records.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace postcopy {

namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected
constexpr size_t kWord = sizeof(uint64_t);

// Tables for eight bytes at once: table k has the remainders of a byte with k zero bytes after it.
using Tables = std::array<std::array<uint32_t, 256>, kWord>;

constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ ((rest & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = rest;
  }
  for (size_t k = 1; k < kWord; ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t rest = tables[k - 1][byte];
      tables[k][byte] = (rest >> 8) ^ tables[0][rest & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

uint64_t WordAt(const uint8_t* bytes) noexcept {
  uint64_t word = 0;
  std::memcpy(&word, bytes, kWord);
  return word;
}

uint32_t PortableByte(uint32_t rest, uint8_t byte) noexcept {
  return (rest >> 8) ^ kTables[0][(rest ^ byte) & 0xff];
}

uint32_t PortableRemainder(uint32_t rest, const uint8_t* bytes, size_t length) noexcept {
  for (; length >= kWord; bytes += kWord, length -= kWord) {
    const uint64_t word = WordAt(bytes) ^ rest;  // the host is little endian
    rest = 0;
    for (size_t k = 0; k < kWord; ++k) rest ^= kTables[kWord - 1 - k][(word >> (8 * k)) & 0xff];
  }
  for (; length > 0; ++bytes, --length) rest = PortableByte(rest, *bytes);
  return rest;
}

#if defined(__x86_64__)

bool HasInstruction() noexcept {
  static const bool has = __builtin_cpu_supports("sse4.2") != 0;
  return has;
}

__attribute__((target("sse4.2"))) uint32_t FastRemainder(uint32_t rest, const uint8_t* bytes,
                                                         size_t length) noexcept {
  uint64_t wide = rest;
  for (; length >= kWord; bytes += kWord, length -= kWord) {
    wide = _mm_crc32_u64(wide, WordAt(bytes));
  }
  rest = static_cast<uint32_t>(wide);
  for (; length > 0; ++bytes, --length) rest = _mm_crc32_u8(rest, *bytes);
  return rest;
}

// The instruction has a latency of three cycles, but one can begin in each.
__attribute__((target("sse4.2"))) void FastValues(const uint8_t* const* pages,
                                                  uint32_t* values) noexcept {
  static_assert(kCrcPages == 3);
  uint64_t first = 0;
  uint64_t second = 0;
  uint64_t third = 0;
  for (size_t at = 0; at < kTargetPageBytes; at += kWord) {
    first = _mm_crc32_u64(first, WordAt(pages[0] + at));
    second = _mm_crc32_u64(second, WordAt(pages[1] + at));
    third = _mm_crc32_u64(third, WordAt(pages[2] + at));
  }
  values[0] = static_cast<uint32_t>(first);
  values[1] = static_cast<uint32_t>(second);
  values[2] = static_cast<uint32_t>(third);
}

#else

bool HasInstruction() noexcept {
  return false;
}

uint32_t FastRemainder(uint32_t rest, const uint8_t* bytes, size_t length) noexcept {
  return PortableRemainder(rest, bytes, length);
}

void FastValues(const uint8_t* const* pages, uint32_t* values) noexcept {
  for (size_t i = 0; i < kCrcPages; ++i) {
    values[i] = PortableRemainder(0, pages[i], kTargetPageBytes);
  }
}

#endif

}  // namespace

uint32_t Crc32c(uint32_t before, std::span<const uint8_t> bytes, CrcMethod method) noexcept {
  const bool fast = method == CrcMethod::kBest && HasInstruction();
  const auto remainder = fast ? FastRemainder : PortableRemainder;
  return ~remainder(~before, bytes.data(), bytes.size());
}

void PageValues(const uint8_t* const* pages, size_t count, uint32_t* values) noexcept {
  if (count == kCrcPages && HasInstruction()) return FastValues(pages, values);
  const auto remainder = HasInstruction() ? FastRemainder : PortableRemainder;
  for (size_t i = 0; i < count; ++i) values[i] = remainder(0, pages[i], kTargetPageBytes);
}

}  // namespace postcopy
