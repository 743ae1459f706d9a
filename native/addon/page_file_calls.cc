// Opens, describes and closes the files of saved RAM.
#include "calls.h"
#include "common/args.h"
#include "common/call_numbers.h"
#include "common/records.h"
#include "page_file.h"

namespace postcopy {

namespace {

using RunRow = Row<kPageFileRun, const double>;

// Returns false unless `rows` ascend without overlap inside `pages` pages and `files` files.
bool ToRuns(std::span<const double> rows, uint64_t pages, size_t files,
            std::vector<PageRun>* runs) {
  constexpr auto kMost = static_cast<double>(Args::kMaxSafeInteger);
  constexpr auto kLeastStride = static_cast<double>(kTargetPageBytes);
  uint64_t next = 0;
  runs->reserve(rows.size() / RunRow::kStride);
  for (size_t at = 0; at < rows.size(); at += RunRow::kStride) {
    const RunRow row(&rows[at]);
    PageRun run{};
    const bool valid = ToInteger(row.Get<"firstPage">(), 0, kMost, &run.first) &&
                       ToInteger(row.Get<"pageCount">(), 1, kMost, &run.count) &&
                       ToInteger(row.Get<"file">(), 0, static_cast<double>(files) - 1, &run.fd) &&
                       ToInteger(row.Get<"offset">(), 0, kMost, &run.offset) &&
                       ToInteger(row.Get<"strideBytes">(), kLeastStride,
                                 static_cast<double>(1 << 30), &run.stride) &&
                       run.first >= next && run.first < pages && run.count <= pages - run.first &&
                       run.count <= (Args::kMaxSafeInteger - run.offset) / run.stride;
    if (!valid) return false;
    next = run.first + run.count;
    runs->push_back(run);
  }
  return true;
}

}  // namespace

// (fds, lengthBytes, runs, data | undefined): a handle, or -errno.
Napi::Value PageFileOpen(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::span<const int32_t> fds = args.Int32s(0, "fds", 0);
  const uint64_t length = args.Number(1, "lengthBytes");
  const std::span<const double> rows = args.Float64s(2, "runs", 0);
  const bool sparse = !args.IsUndefined(3);
  const Bytes data = sparse ? args.Uint8s(3, "data") : Bytes();
  if (!args.ok()) return {};
  const uint64_t pages = length / kTargetPageBytes;
  args.Require(length > 0 && length % kTargetPageBytes == 0, "lengthBytes", "whole pages");
  args.Require(!sparse || data.size() >= (pages + 7) / 8, "data", "a bit per target page");
  std::vector<PageRun> runs;
  if (args.ok()) {
    args.Require(rows.size() % RunRow::kStride == 0 && ToRuns(rows, pages, fds.size(), &runs),
                 "runs", "ascending, without overlap, inside the block, of the given files");
  }
  if (!args.ok()) return {};
  std::shared_ptr<PageFile> file;
  const long result = PageFile::Open({fds.begin(), fds.end()}, length, std::move(runs),
                                     {data.begin(), data.end()}, &file);
  return result == 0 ? NewHandle(args.env(), std::move(file)) : Result(args, result);
}

Napi::Value PageFileAttach(const Napi::CallbackInfo& info) {
  Args args(info);
  const uint64_t id = args.Number(0, "id");
  if (!args.ok()) return {};
  auto file = Registry<PageFile>::Get().Find(id);
  return file == nullptr ? Result(args, -ENOENT) : NewHandle(args.env(), std::move(file));
}

Napi::Value PageFileInfo(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto file = args.Object<PageFile>(0, "file");
  if (!args.ok()) return {};
  return ObjectValue(args.env())
      .Number("id", static_cast<double>(file->id()))
      .Number("lengthBytes", static_cast<double>(file->length()))
      .value();
}

Napi::Value PageFileClose(const Napi::CallbackInfo& info) {
  Args args(info);
  auto* handle = args.HandleOf<PageFile>(0, "file");
  if (handle != nullptr) handle->object.reset();
  return {};
}

// (file, page, out): 1 and the rest of its run in `out`, with a descriptor as its file; 0 for a
// page that is zero.
Napi::Value PageFileFind(const Napi::CallbackInfo& info) {
  using Found = Row<kPageFileRun>;
  Args args(info);
  const auto file = args.Object<PageFile>(0, "file");
  const uint64_t page = args.Number(1, "page");
  const std::span<double> out = args.Float64s(2, "out", Found::kStride);
  if (!args.ok()) return {};
  const std::optional<PageRun> run = file->table().Find(page);
  if (!run) return Result(args, 0);
  const Found row(out.data());
  row.Set<"firstPage">(run->first);
  row.Set<"pageCount">(run->count);
  row.Set<"file">(run->fd);
  row.Set<"offset">(run->offset);
  row.Set<"strideBytes">(run->stride);
  return Result(args, 1);
}

}  // namespace postcopy
