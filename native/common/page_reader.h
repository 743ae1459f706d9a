// Reads the pages of a PageTable, several with one system call. A file that is truncated or cannot
// be read is an error here; a mapping of it would raise SIGBUS.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <array>

#include "page_table.h"
#include "records.h"
#include "sys.h"

namespace postcopy {

class PageReader {
 public:
  // The most pages that one system call reads.
  static constexpr size_t kBatchPages = 16;
  // The largest distance of two pages that are read together.
  static constexpr size_t kBatchStride = kPageRecordBytes;

  // Without `wait`, a page that is not in the page cache is the error EAGAIN. On a file system
  // whose reads always wait, all pages are.
  PageReader(const PageTable& table, bool wait) noexcept : table_(table), wait_(wait) {}

  struct Content {
    const uint8_t* bytes = nullptr;  // valid until the next call; null for a zero page
    long error = 0;                  // errno; ENODATA at the end of the file
  };

  // `next_pages`: how many pages, from this one on, the caller is going to read.
  Content Read(size_t page, size_t next_pages) noexcept {
    // A batch may include pages without data: their bytes in the file are old.
    if (!table_.HasData(page)) return {};
    if (page >= first_ && page < end_) return {.bytes = BytesOf(page)};
    const std::optional<PageRun> run = table_.Find(page);
    if (!run) return {};
    const long error = Fill(*run, next_pages);
    return {.bytes = error == 0 ? BytesOf(page) : nullptr, .error = error};
  }

 private:
  const uint8_t* BytesOf(size_t page) const noexcept {
    return bytes_.data() + (page - first_) * stride_;
  }

  // Reads at least the first page.
  long Fill(const PageRun& run, size_t next_pages) noexcept {
    first_ = end_ = run.first;
    stride_ = run.stride;
    const size_t most = run.stride > kBatchStride ? 1 : kBatchPages;
    const size_t pages = std::clamp<size_t>(std::min<uint64_t>(next_pages, run.count), 1, most);
    const size_t wanted = (pages - 1) * run.stride + kTargetPageBytes;
    size_t have = 0;
    while (have < kTargetPageBytes) {
      const long count = ReadOnce(run.fd, have, wanted - have, run.offset + have);
      if (count <= 0) return count == 0 ? ENODATA : -count;
      have += static_cast<size_t>(count);
    }
    end_ = first_ + 1 + (have - kTargetPageBytes) / stride_;
    return 0;
  }

  long ReadOnce(int fd, size_t at, size_t length, uint64_t offset) noexcept {
    iovec target{.iov_base = bytes_.data() + at, .iov_len = length};
    const auto read = [&](int flags) noexcept {
      return CountOrErrnoUninterrupted(
          [&]() noexcept { return ::preadv2(fd, &target, 1, static_cast<off_t>(offset), flags); });
    };
    const long count = read(wait_ ? 0 : RWF_NOWAIT);
    // A file system whose reads always wait: as if the page were not in the page cache.
    return count == -EOPNOTSUPP ? -EAGAIN : count;
  }

  const PageTable& table_;
  const bool wait_;
  size_t first_ = 0;
  size_t end_ = 0;  // [first_, end_) are in bytes_
  size_t stride_ = kTargetPageBytes;
  std::array<uint8_t, (kBatchPages - 1) * kBatchStride + kTargetPageBytes> bytes_;
};

}  // namespace postcopy
