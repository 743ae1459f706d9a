// A page set: page i is bit i & 7 of byte i >> 3, as in QEMU's received bitmap on the wire.
//
// One thread writes a bitmap; others may read it meanwhile, if it is on a SharedArrayBuffer. So an
// update is a plain load and a release store of its byte, which costs nothing on x86. A thread that
// reads a set bit then also sees the writes before it, such as the page's content.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace postcopy {

class Bitmap {
 public:
  explicit Bitmap(std::span<uint8_t> bytes) noexcept : bytes_(bytes) {}

  size_t bits() const noexcept { return bytes_.size() * 8; }

  bool Test(size_t page) const noexcept { return ((bytes_[page >> 3] >> (page & 7)) & 1) != 0; }
  void Set(size_t page) noexcept { Store(page >> 3, bytes_[page >> 3] | (1U << (page & 7))); }
  void Clear(size_t page) noexcept { Store(page >> 3, bytes_[page >> 3] & ~(1U << (page & 7))); }

  // The first page of [from, to) that is set, or clear; `to` if there is none. to <= bits().
  size_t FindNext(size_t from, size_t to) const noexcept { return Find(from, to, 0); }
  size_t FindNextClear(size_t from, size_t to) const noexcept {
    return Find(from, to, ~uint64_t{0});
  }

  size_t Count(size_t from, size_t to) const noexcept {
    size_t count = 0;
    for (size_t base = from & ~size_t{63}; base < to; base += 64) {
      count += static_cast<size_t>(std::popcount(Word(base) & Mask(base, from, to)));
    }
    return count;
  }

  // Returns how many pages of [from, to) changed.
  size_t SetRange(size_t from, size_t to) noexcept {
    size_t changed = 0;
    for (size_t base = from & ~size_t{7}; base < to; base += 8) {
      const uint8_t mask = static_cast<uint8_t>(Mask(base, from, to));
      const uint8_t before = bytes_[base >> 3];
      changed += static_cast<size_t>(std::popcount(static_cast<uint8_t>(mask & ~before)));
      Store(base >> 3, before | mask);
    }
    return changed;
  }

  size_t ClearRange(size_t from, size_t to) noexcept {
    size_t changed = 0;
    for (size_t base = from & ~size_t{7}; base < to; base += 8) {
      const uint8_t mask = static_cast<uint8_t>(Mask(base, from, to));
      const uint8_t before = bytes_[base >> 3];
      changed += static_cast<size_t>(std::popcount(static_cast<uint8_t>(mask & before)));
      Store(base >> 3, before & ~static_cast<unsigned>(mask));
    }
    return changed;
  }

  // Each byte becomes merge(own, other), up to the length of the shorter bitmap.
  template <typename Merge>
  void MergeWith(std::span<const uint8_t> other, Merge merge) noexcept {
    const size_t length = bytes_.size() < other.size() ? bytes_.size() : other.size();
    for (size_t i = 0; i < length; ++i) Store(i, merge(unsigned{bytes_[i]}, unsigned{other[i]}));
  }

  // If one page of a group of `host_pages` is set, sets all of them. Returns how many of [0, to)
  // changed.
  size_t RoundOut(size_t to, size_t host_pages) noexcept {
    size_t changed = 0;
    if (host_pages == 1) return changed;
    for (size_t page = FindNext(0, to); page < to;) {
      const size_t start = page - page % host_pages;
      const size_t end = host_pages < to - start ? start + host_pages : to;
      changed += SetRange(start, end);
      page = FindNext(end, to);
    }
    return changed;
  }

 private:
  // The bits of the word (or byte) that begins at page `base` which are in [from, to).
  static uint64_t Mask(size_t base, size_t from, size_t to) noexcept {
    uint64_t mask = ~uint64_t{0};
    if (from > base) mask &= mask << (from - base);
    if (to < base + 64) mask &= ~(~uint64_t{0} << (to - base));
    return mask;
  }

  // 64 bits from page `base`, a multiple of 64; zeros after the end.
  uint64_t Word(size_t base) const noexcept {
    const size_t index = base >> 3;
    uint64_t word = 0;
    const size_t have = bytes_.size() - index;
    std::memcpy(&word, bytes_.data() + index, have < sizeof word ? have : sizeof word);
    return word;
  }

  size_t Find(size_t from, size_t to, uint64_t flip) const noexcept {
    for (size_t base = from & ~size_t{63}; base < to; base += 64) {
      const uint64_t word = (Word(base) ^ flip) & Mask(base, from, to);
      if (word != 0) return base + static_cast<size_t>(std::countr_zero(word));
    }
    return to;
  }

  void Store(size_t index, unsigned value) noexcept {
    __atomic_store_n(&bytes_[index], static_cast<uint8_t>(value), __ATOMIC_RELEASE);
  }

  std::span<uint8_t> bytes_;
};

}  // namespace postcopy
