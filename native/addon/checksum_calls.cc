// Checksums of pages, for files of RAM.
#include <algorithm>
#include <array>
#include <cstring>

#include "calls.h"
#include "common/args.h"
#include "common/crc32c.h"

namespace postcopy {

namespace {

constexpr size_t kValueBytes = sizeof(uint32_t);

// Collects pages, so that their values are computed several at a time.
class PageChecksums {
 public:
  explicit PageChecksums(Bytes values) : values_(values) {}

  void Add(size_t index, const uint8_t* page) noexcept {
    pages_[count_] = page;
    indexes_[count_] = index;
    if (++count_ == kCrcPages) Flush();
  }

  void Flush() noexcept {
    std::array<uint32_t, kCrcPages> values;
    PageValues(pages_.data(), count_, values.data());
    for (size_t i = 0; i < count_; ++i) Set(indexes_[i], values[i]);
    count_ = 0;
  }

  void Set(size_t index, uint32_t value) noexcept {
    std::memcpy(values_.data() + index * kValueBytes, &value, kValueBytes);
  }

 private:
  Bytes values_;
  std::array<const uint8_t*, kCrcPages> pages_{};
  std::array<size_t, kCrcPages> indexes_{};
  size_t count_ = 0;
};

}  // namespace

// (values, firstPage, bytes, start, end): where it stopped. `values` has a u32 for each page from
// `firstPage` on; it stops at a record of another page, and at records that storeRecords leaves.
Napi::Value ChecksumRecords(const Napi::CallbackInfo& info) {
  Args args(info);
  const Bytes values = args.Uint8s(0, "values");
  const uint64_t first = args.Number(1, "firstPage", Args::kMaxSafeInteger / kTargetPageBytes);
  const Bytes bytes = args.Uint8s(2, "bytes");
  const uint64_t start = args.Number(3, "start");
  const uint64_t end = args.Number(4, "end");
  args.Require(start <= end && end <= bytes.size(), "start and end", "ascending and inside bytes");
  if (!args.ok()) return {};
  const uint64_t pages = values.size() / kValueBytes;
  Incoming in{.bytes = bytes.first(end),
              .at = start,
              .used_length = std::min(first + pages, Args::kMaxSafeInteger / kTargetPageBytes) *
                             kTargetPageBytes};
  PageChecksums checksums(values);
  Record record;
  for (size_t length = in.Peek(&record); length != 0; length = in.Peek(&record)) {
    const uint64_t page = record.offset / kTargetPageBytes;
    if (page < first) break;
    if (record.zero) {
      checksums.Flush();  // an earlier record may be of the same page
      checksums.Set(page - first, 0);
    } else {
      checksums.Add(page - first, bytes.data() + in.at + kRecordHeaderBytes);
    }
    in.at += length;
  }
  checksums.Flush();
  return Result(args, static_cast<int64_t>(in.at));
}

// (bytes, values)
Napi::Value ChecksumPages(const Napi::CallbackInfo& info) {
  Args args(info);
  const Bytes bytes = args.Uint8s(0, "bytes");
  const Bytes values = args.Uint8s(1, "values");
  const size_t pages = bytes.size() / kTargetPageBytes;
  args.Require(bytes.size() % kTargetPageBytes == 0, "bytes", "whole pages");
  args.Require(values.size() >= pages * kValueBytes, "values", "a u32 per page");
  if (!args.ok()) return {};
  PageChecksums checksums(values);
  for (size_t page = 0; page < pages; ++page) {
    checksums.Add(page, bytes.data() + page * kTargetPageBytes);
  }
  checksums.Flush();
  return {};
}

// (before, bytes, portable): the CRC-32C.
Napi::Value Crc32cOf(const Napi::CallbackInfo& info) {
  Args args(info);
  const uint64_t before = args.Number(0, "before", UINT32_MAX);
  const Bytes bytes = args.Uint8s(1, "bytes");
  const bool portable = args.Flag(2, "portable");
  if (!args.ok()) return {};
  const CrcMethod method = portable ? CrcMethod::kPortable : CrcMethod::kBest;
  return Result(args, static_cast<int64_t>(Crc32c(static_cast<uint32_t>(before), bytes, method)));
}

}  // namespace postcopy
