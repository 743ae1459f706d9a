// Page records of the `ram` section, and the two loops over a page's bytes that all others use.
//
//   u64 big-endian: offset in the RAM block | flags
//   u8 length, block name: only without CONTINUE
//   4096 bytes (PAGE), or u8 fill = 0 (ZERO)
//
// Flags: ZERO 0x02 or PAGE 0x08, with CONTINUE 0x20 for "same block".
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace postcopy {

inline constexpr size_t kTargetPageBytes = 4096;
inline constexpr size_t kRecordHeaderBytes = 8;
inline constexpr size_t kPageRecordBytes = kRecordHeaderBytes + kTargetPageBytes;
inline constexpr size_t kZeroRecordBytes = kRecordHeaderBytes + 1;

// With its length byte.
inline constexpr size_t kMaxNameBytes = 1 + 255;

inline constexpr uint64_t kFlagZero = 0x02;
inline constexpr uint64_t kFlagPage = 0x08;
inline constexpr uint64_t kFlagContinue = 0x20;

inline uint64_t LoadBigEndian(const uint8_t* from) noexcept {
  uint64_t value = 0;
  std::memcpy(&value, from, sizeof value);
  return __builtin_bswap64(value);
}

inline void StoreBigEndian(uint8_t* to, uint64_t value) noexcept {
  value = __builtin_bswap64(value);
  std::memcpy(to, &value, sizeof value);
}

struct Record {
  uint64_t offset = 0;
  bool zero = false;
};

// The record's length; 0 if the bytes do not begin with a complete record PAGE|CONTINUE or
// ZERO|CONTINUE for a page inside the block. The decoder handles anything else. The bytes come from
// the peer and are untrusted: every field is checked here before it is used.
inline size_t ParseRecord(std::span<const uint8_t> bytes, uint64_t used_length,
                          Record* record) noexcept {
  if (bytes.size() < kZeroRecordBytes) return 0;
  const uint64_t word = LoadBigEndian(bytes.data());
  const uint64_t flags = word & (kTargetPageBytes - 1);
  record->offset = word - flags;
  if (used_length < kTargetPageBytes || record->offset > used_length - kTargetPageBytes) return 0;
  record->zero = flags == (kFlagZero | kFlagContinue);
  if (record->zero) return bytes[kRecordHeaderBytes] == 0 ? kZeroRecordBytes : 0;
  return flags == (kFlagPage | kFlagContinue) && bytes.size() >= kPageRecordBytes ? kPageRecordBytes
                                                                                  : 0;
}

#if defined(__SANITIZE_THREAD__)
// A running guest writes the pages that precopy reads; such a page is dirty and sent again. This
// race is part of the design, so the thread sanitizer must not see it: no instrumentation, and no
// call that it intercepts.
__attribute__((no_sanitize("thread"), noinline)) inline void CopyPage(
    uint8_t* to, const uint8_t* from) noexcept {
  for (size_t i = 0; i < kTargetPageBytes; ++i) static_cast<volatile uint8_t*>(to)[i] = from[i];
}
#else
inline void CopyPage(uint8_t* to, const uint8_t* from) noexcept {
  std::memcpy(to, from, kTargetPageBytes);
}
#endif

// Most nonzero pages are nonzero in their first line.
#if defined(__SANITIZE_THREAD__)
__attribute__((no_sanitize("thread"), noinline))
#endif
inline bool
IsZero(const uint8_t* bytes, size_t length) noexcept {
  constexpr size_t kLine = 64;
  size_t at = 0;
  for (; at + kLine <= length; at += kLine) {
    uint64_t words[kLine / sizeof(uint64_t)];
    __builtin_memcpy(words, bytes + at, kLine);
    if ((words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7]) !=
        0)
      return false;
  }
  for (; at < length; ++at) {
    if (bytes[at] != 0) return false;
  }
  return true;
}

}  // namespace postcopy
