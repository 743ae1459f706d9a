// The content of guest pages, from which a check can tell how the migration damaged a page.
//
// Version 0 is a page that was never written: all zeros. Version v > 0 has 512 little-endian words:
//
//   word w = stamp + w * kWeyl      stamp = mix(key ^ (page << 32 | version)), key = (seed, block)
//   words 1..3 of line 0            header: magic, page | version << 32, link
//
// mix() is a bijection. So the first word of any 64-byte line gives the page and the version that
// the line was written for. The other seven words verify it: each line is its own witness.
#pragma once

#include <cstddef>
#include <cstdint>

// The migration copies guest RAM while vCPUs write it. A page that is torn by this is dirty and is
// sent again. These races are part of the design, so the thread sanitizer must ignore them.
#define POSTCOPY_GUEST_RACE __attribute__((no_sanitize("thread")))

namespace postcopy::guest {

inline constexpr size_t kPageBytes = 4096;
inline constexpr size_t kPageWords = kPageBytes / 8;
inline constexpr size_t kLineWords = 8;
inline constexpr size_t kLineBytes = 64;
inline constexpr uint32_t kMaxVersion = UINT32_MAX;

enum class Block : uint32_t { kRam, kLedger };

enum class Verdict : uint32_t { kLost, kMisplaced, kStale, kTorn, kCorrupt };
inline constexpr size_t kVerdicts = 5;

// A damaged range. `got` and `expected` are versions (stale, lost, torn), page indexes (misplaced),
// bytes or checksums (corrupt), or sums of versions (a ledger range).
struct Finding {
  Verdict verdict;
  Block block;
  uint64_t offset_bytes;
  uint64_t length_bytes;
  uint64_t got;
  uint64_t expected;
};

struct PageIdentity {
  uint64_t key;
  uint32_t page;
  uint32_t version;
  uint32_t link;  // the page that a pointer chase visits next
};

uint64_t Mix(uint64_t value) noexcept;
uint64_t ContentKey(uint64_t seed, Block block) noexcept;

void WritePage(uint64_t* words, const PageIdentity& identity) noexcept;

// True if every bit of the page is what WritePage() of this identity writes, or zero for version 0.
bool PageMatches(const uint64_t* words, const PageIdentity& identity) noexcept;

// The link in the header of a written page.
uint32_t LinkIn(const uint64_t* words) noexcept;

// Why a page does not match. `pages`: the number of pages, to tell a misplaced page from noise.
Finding Diagnose(const uint64_t* words, const PageIdentity& expected, uint32_t pages) noexcept;

// The checksum of pages that devices own; JavaScript devices compute it through the addon.
uint32_t Checksum(const uint8_t* bytes, size_t length) noexcept;

}  // namespace postcopy::guest
