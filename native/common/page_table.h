// Where the pages of a RAM block are in files.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "bitmap.h"

namespace postcopy {

// `count` pages from page `first` on. The content of each is 4096 bytes; that of the next page
// begins `stride` bytes after it.
struct PageRun {
  uint64_t first;
  uint64_t count;
  int fd;
  uint64_t offset;
  uint64_t stride;
};

class PageTable {
 public:
  // `runs` ascend and do not overlap. Pages in none of them are zero, and so are those whose bit is
  // clear in `data`, unless that is empty.
  PageTable(std::vector<PageRun> runs, std::vector<uint8_t> data) noexcept
      : runs_(std::move(runs)), data_(std::move(data)) {}

  // Whether a page of a run is in its file.
  bool HasData(uint64_t page) const noexcept {
    return data_.empty() || ((data_[page >> 3] >> (page & 7)) & 1) != 0;
  }

  // The rest of the run that has this page. Nothing for a page that is zero.
  std::optional<PageRun> Find(uint64_t page) const noexcept {
    const auto after =
        std::upper_bound(runs_.begin(), runs_.end(), page,
                         [](uint64_t wanted, const PageRun& run) { return wanted < run.first; });
    if (after == runs_.begin()) return std::nullopt;
    const PageRun& run = *(after - 1);
    const uint64_t skipped = page - run.first;
    if (skipped >= run.count || !HasData(page)) return std::nullopt;
    return PageRun{.first = page,
                   .count = run.count - skipped,
                   .fd = run.fd,
                   .offset = run.offset + skipped * run.stride,
                   .stride = run.stride};
  }

 private:
  std::vector<PageRun> runs_;
  std::vector<uint8_t> data_;
};

}  // namespace postcopy
