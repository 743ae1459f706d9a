// The sending side: turns dirty pages into records. Reads guest memory, where a missing page blocks
// the thread, or files.
#pragma once

#include "bitmap.h"
#include "incoming.h"
#include "page_reader.h"

namespace postcopy {

struct PackJob {
  const uint8_t* memory;
  size_t from;  // target pages
  size_t to;
  size_t host_pages;  // target pages per host page
  size_t most_pages;
  std::span<const uint8_t> name;  // empty: the block of the previous record
  PageReader* reader = nullptr;   // if set, pages are read by it instead of from memory
};

struct Packed {
  size_t next_page;
  size_t bytes = 0;
  size_t normal = 0;
  size_t zero = 0;
  long error = 0;  // errno of reading next_page, see PageReader
};

class PackLoop {
 public:
  PackLoop(const PackJob& job, Bitmap bitmap, Bytes out) noexcept
      : job_(job), bitmap_(bitmap), out_(out), packed_{.next_page = job.from} {}

  // Stops at the end of the range, after most_pages, at a page that may not fit, or at a page that
  // cannot be read. Then `next_page` is that page, or the first page of its host page. A host page
  // is packed only if all of it fits. It is then packed completely, even beyond most_pages, because
  // its receiver places whole host pages.
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

  // All of the host page or nothing: on an error its pages stay in the bitmap.
  bool PackHostPage(size_t first) noexcept {
    const size_t start = first - first % job_.host_pages;
    const size_t end = start + job_.host_pages;
    if (bitmap_.Count(first, end) * kPageRecordBytes + NameBytes() > out_.size() - packed_.bytes) {
      packed_.next_page = start;
      return false;
    }
    const Packed before = packed_;
    const bool was_named = named_;
    for (size_t page = first; page < end; page = bitmap_.FindNext(page + 1, end)) {
      if (WritePage(page)) continue;
      const long error = packed_.error;
      packed_ = before;
      packed_.error = error;
      packed_.next_page = start;
      named_ = was_named;
      return false;
    }
    bitmap_.ClearRange(first, end);
    packed_.next_page = end;
    return true;
  }

  bool PackPage(size_t page) noexcept {
    if (!WritePage(page)) return false;
    bitmap_.Clear(page);
    packed_.next_page = page + 1;
    return true;
  }

  // Pages from `page` on that will be packed next, as far as it is worth knowing.
  size_t DirtyRun(size_t page) const noexcept {
    const size_t left = job_.host_pages == 1 ? job_.most_pages - packed_.normal - packed_.zero
                                             : PageReader::kBatchPages;
    const size_t end = std::min(page + std::min(left, PageReader::kBatchPages), job_.to);
    return bitmap_.FindNextClear(page, end) - page;
  }

  PageReader::Content ContentOf(size_t page) noexcept {
    if (job_.reader != nullptr) return job_.reader->Read(page, DirtyRun(page));
    return {.bytes = job_.memory + page * kTargetPageBytes};
  }

  bool WritePage(size_t page) noexcept {
    const uint64_t offset = uint64_t{page} * kTargetPageBytes;
    const PageReader::Content content = ContentOf(page);
    packed_.error = content.error;
    if (content.error != 0) return false;
    const bool zero = content.bytes == nullptr || IsZero(content.bytes, kTargetPageBytes);
    const size_t need = NameBytes() + (zero ? kZeroRecordBytes : kPageRecordBytes);
    if (need > out_.size() - packed_.bytes) return false;
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
      CopyPage(to, content.bytes);
      ++packed_.normal;
    }
    packed_.bytes += need;
    return true;
  }

  const PackJob& job_;
  Bitmap bitmap_;
  Bytes out_;
  Packed packed_;
  bool named_ = false;
};

}  // namespace postcopy
