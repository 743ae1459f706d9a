// The sending side: turns dirty pages into records. Reads guest memory, where a missing page blocks
// the thread, or a file, where an unreadable page is an error and not a SIGBUS.
#pragma once

#include <array>

#include "bitmap.h"
#include "incoming.h"
#include "sys.h"

namespace postcopy {

struct PackJob {
  const uint8_t* memory;
  size_t from;  // target pages
  size_t to;
  size_t host_pages;  // target pages per host page
  size_t most_pages;
  std::span<const uint8_t> name;  // empty: the block of the previous record
  int file = -1;                  // if set, pages are read from it instead of memory
};

struct Packed {
  size_t next_page;
  size_t bytes = 0;
  size_t normal = 0;
  size_t zero = 0;
  long error = 0;  // errno of reading next_page; ENODATA at the end of the file
};

class PackLoop {
 public:
  PackLoop(const PackJob& job, Bitmap bitmap, Bytes out) noexcept
      : job_(job), bitmap_(bitmap), out_(out), packed_{.next_page = job.from} {}

  // Stops at the end of the range, after most_pages, at a page that may not fit, or at a page that
  // cannot be read. A host page is packed only if all of it fits. It is then packed completely,
  // even beyond most_pages, because its receiver places whole host pages.
  Packed Run() noexcept {
    while (packed_.normal + packed_.zero < job_.most_pages) {
      const size_t page = bitmap_.FindNext(packed_.next_page, job_.to);
      packed_.next_page = page;
      if (page == job_.to) break;
      if (!(job_.host_pages == 1 ? PackPage(page) : PackHostPage(page))) break;
    }
    return packed_;
  }

 private:
  size_t NameBytes() const noexcept {
    return named_ || job_.name.empty() ? 0 : 1 + job_.name.size();
  }

  bool PackHostPage(size_t first) noexcept {
    const size_t start = first - first % job_.host_pages;
    const size_t end = start + job_.host_pages;
    if (bitmap_.Count(first, end) * kPageRecordBytes + NameBytes() > out_.size() - packed_.bytes) {
      packed_.next_page = start;
      return false;
    }
    for (size_t page = first; page < end; page = bitmap_.FindNext(page + 1, end)) {
      packed_.next_page = page;
      if (!PackPage(page)) return false;
    }
    packed_.next_page = end;
    return true;
  }

  // Null if the page cannot be read.
  const uint8_t* ContentOf(uint64_t offset) noexcept {
    if (job_.file < 0) return job_.memory + offset;
    for (size_t have = 0; have < page_.size();) {
      const long count = CountOrErrno(::pread(job_.file, page_.data() + have, page_.size() - have,
                                              static_cast<off_t>(offset + have)));
      if (count == -EINTR) continue;
      if (count <= 0) {
        packed_.error = count == 0 ? ENODATA : -count;
        return nullptr;
      }
      have += static_cast<size_t>(count);
    }
    return page_.data();
  }

  bool PackPage(size_t page) noexcept {
    const uint64_t offset = uint64_t{page} * kTargetPageBytes;
    const uint8_t* content = ContentOf(offset);
    if (content == nullptr) return false;
    const bool zero = IsZero(content, kTargetPageBytes);
    const size_t need = NameBytes() + (zero ? kZeroRecordBytes : kPageRecordBytes);
    if (need > out_.size() - packed_.bytes) return false;
    bitmap_.Clear(page);
    uint8_t* to = out_.data() + packed_.bytes;
    StoreBigEndian(
        to, offset | (zero ? kFlagZero : kFlagPage) | (NameBytes() == 0 ? kFlagContinue : 0));
    to += kRecordHeaderBytes;
    if (NameBytes() != 0) {
      *to++ = static_cast<uint8_t>(job_.name.size());
      std::memcpy(to, job_.name.data(), job_.name.size());
      to += job_.name.size();
      named_ = true;
    }
    if (zero) {
      *to = 0;
      ++packed_.zero;
    } else {
      CopyPage(to, content);
      ++packed_.normal;
    }
    packed_.bytes += need;
    packed_.next_page = page + 1;
    return true;
  }

  const PackJob& job_;
  Bitmap bitmap_;
  Bytes out_;
  Packed packed_;
  bool named_ = false;
  std::array<uint8_t, kTargetPageBytes> page_;  // read from the file
};

}  // namespace postcopy
