#include "content.h"

#include <array>
#include <cstring>

namespace postcopy::guest {
namespace {

constexpr uint64_t kWeyl = 0x9e3779b97f4a7c15;   // 2^64 / golden ratio, odd
constexpr uint64_t kMagic = 0x59504f4354534f50;  // "POSTCOPY" in a hex dump
constexpr size_t kHeaderEnd = 4;                 // words 1..3 hold the header

// The inverse of Mix(): the same steps backwards, with the multiplicative inverses.
uint64_t Unmix(uint64_t value) noexcept {
  value ^= (value >> 31) ^ (value >> 62);
  value *= 0x319642b2d24d8ec3;
  value ^= (value >> 27) ^ (value >> 54);
  value *= 0x96de1b173f119089;
  value ^= (value >> 30) ^ (value >> 60);
  return value;
}

uint64_t StampOf(const PageIdentity& identity) noexcept {
  return Mix(identity.key ^ (uint64_t{identity.page} << 32 | identity.version));
}

std::array<uint64_t, kHeaderEnd> HeaderOf(const PageIdentity& identity) noexcept {
  return {0, kMagic, identity.page | uint64_t{identity.version} << 32, identity.link};
}

POSTCOPY_GUEST_RACE bool IsZero(const uint64_t* words, size_t count) noexcept {
  uint64_t seen = 0;
  for (size_t w = 0; w < count; ++w) seen |= words[w];
  return seen == 0;
}

// The page and version encoded in a line, and whether its words are consistent with them.
struct Witness {
  uint32_t page;
  uint32_t version;
  bool coherent;

  bool operator==(const Witness&) const = default;
};

POSTCOPY_GUEST_RACE Witness WitnessOf(const uint64_t* words, size_t line,
                                      const PageIdentity& expected) noexcept {
  const uint64_t* first = words + line * kLineWords;
  if (IsZero(first, kLineWords)) return {expected.page, 0, true};
  const uint64_t stamp = *first - line * kLineWords * kWeyl;
  const uint64_t origin = Unmix(stamp) ^ expected.key;
  Witness witness{static_cast<uint32_t>(origin >> 32), static_cast<uint32_t>(origin), true};
  for (size_t w = line == 0 ? kHeaderEnd : 1; w < kLineWords; ++w) {
    if (first[w] != stamp + (line * kLineWords + w) * kWeyl) witness.coherent = false;
  }
  if (line == 0) {
    const auto header = HeaderOf({expected.key, witness.page, witness.version, 0});
    if (first[1] != header[1] || first[2] != header[2]) witness.coherent = false;
  }
  return witness;
}

// Finds the first byte that differs from the page of this identity.
POSTCOPY_GUEST_RACE Finding FirstWrongByte(const uint64_t* words,
                                           const PageIdentity& expected) noexcept {
  std::array<uint64_t, kPageWords> wanted{};
  if (expected.version > 0) WritePage(wanted.data(), expected);
  for (size_t w = 0; w < kPageWords; ++w) {
    const uint64_t difference = words[w] ^ wanted[w];
    if (difference == 0) continue;
    const int shift = __builtin_ctzll(difference) & ~7;
    return {Verdict::kCorrupt,
            Block::kRam,
            uint64_t{expected.page} * kPageBytes + w * 8 + static_cast<size_t>(shift) / 8,
            1,
            words[w] >> shift & 0xff,
            wanted[w] >> shift & 0xff};
  }
  // The page matches now, so a thread wrote to it during the check, which is not allowed.
  return {Verdict::kCorrupt, Block::kRam, uint64_t{expected.page} * kPageBytes, kPageBytes, 0, 0};
}

}  // namespace

uint64_t Mix(uint64_t value) noexcept {  // the finalizer of splitmix64
  value ^= value >> 30;
  value *= 0xbf58476d1ce4e5b9;
  value ^= value >> 27;
  value *= 0x94d049bb133111eb;
  value ^= value >> 31;
  return value;
}

uint64_t ContentKey(uint64_t seed, Block block) noexcept {
  return Mix(seed ^ Mix(static_cast<uint64_t>(block) + 1));
}

POSTCOPY_GUEST_RACE void WritePage(uint64_t* words, const PageIdentity& identity) noexcept {
  const uint64_t stamp = StampOf(identity);
  for (size_t w = 0; w < kPageWords; ++w) words[w] = stamp + w * kWeyl;
  const auto header = HeaderOf(identity);
  for (size_t w = 1; w < kHeaderEnd; ++w) words[w] = header[w];
}

POSTCOPY_GUEST_RACE bool PageMatches(const uint64_t* words, const PageIdentity& identity) noexcept {
  if (identity.version == 0) return IsZero(words, kPageWords);
  const uint64_t stamp = StampOf(identity);
  const auto header = HeaderOf(identity);
  uint64_t wrong = words[0] ^ stamp;
  for (size_t w = 1; w < kHeaderEnd; ++w) wrong |= words[w] ^ header[w];
  for (size_t w = kHeaderEnd; w < kPageWords; ++w) wrong |= words[w] ^ (stamp + w * kWeyl);
  return wrong == 0;
}

POSTCOPY_GUEST_RACE uint32_t LinkIn(const uint64_t* words) noexcept {
  return static_cast<uint32_t>(words[3]);
}

POSTCOPY_GUEST_RACE Finding Diagnose(const uint64_t* words, const PageIdentity& expected,
                                     uint32_t pages) noexcept {
  const uint64_t offset = uint64_t{expected.page} * kPageBytes;
  if (IsZero(words, kPageWords)) {
    return {Verdict::kLost, Block::kRam, offset, kPageBytes, 0, expected.version};
  }
  const Witness wanted{expected.page, expected.version, true};
  const Witness first = WitnessOf(words, 0, expected);
  bool alike = true;
  size_t odd_line = kPageWords;
  Witness odd = wanted;
  for (size_t line = 0; line < kPageWords / kLineWords; ++line) {
    const Witness witness = WitnessOf(words, line, expected);
    if (!witness.coherent || witness.page >= pages) return FirstWrongByte(words, expected);
    if (witness != first) alike = false;
    if (odd == wanted && witness != wanted) {
      odd_line = line;
      odd = witness;
    }
  }
  if (!alike) {
    return {Verdict::kTorn, Block::kRam, offset + odd_line * kLineBytes,
            kLineBytes,     odd.version, expected.version};
  }
  if (first.page != expected.page) {
    return {Verdict::kMisplaced, Block::kRam, offset, kPageBytes, first.page, expected.page};
  }
  if (first.version < expected.version) {
    return {Verdict::kStale, Block::kRam, offset, kPageBytes, first.version, expected.version};
  }
  if (first.version > expected.version) {  // the page is newer, so the ledger's entry is stale
    return {expected.version == 0 ? Verdict::kLost : Verdict::kStale,
            Block::kLedger,
            uint64_t{expected.page} * sizeof(uint32_t),
            sizeof(uint32_t),
            expected.version,
            first.version};
  }
  return FirstWrongByte(words, expected);  // only the link can still differ
}

POSTCOPY_GUEST_RACE uint32_t Checksum(const uint8_t* bytes, size_t length) noexcept {
  uint64_t hash = length;
  for (size_t at = 0; at < length; at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + at, length - at < 8 ? length - at : 8);
    hash = (hash ^ word) * kWeyl;
    hash ^= hash >> 29;
  }
  return static_cast<uint32_t>(Mix(hash));
}

}  // namespace postcopy::guest
