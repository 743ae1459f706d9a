// The pages of a RAM block in files that this process only reads, shared by all threads that hold a
// handle. The files are closed when the last one is released.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/page_table.h"
#include "common/sys.h"

namespace postcopy {

class PageFile {
 public:
  static constexpr napi_type_tag kTag = {0x706f7374636f7079, 0x7061676566696c65};

  // `runs` are for `table` and name files by their index in `fds`, which are duplicated. Returns 0,
  // or -errno.
  static long Open(const std::vector<int>& fds, size_t length, std::vector<PageRun> runs,
                   std::vector<uint8_t> data, std::shared_ptr<PageFile>* out) noexcept;

  // A collected handle just releases the files.
  static void Collect(std::shared_ptr<PageFile> file) noexcept { file.reset(); }

  PageFile(const PageFile&) = delete;
  PageFile& operator=(const PageFile&) = delete;
  ~PageFile();

  uint64_t id() const noexcept { return id_; }
  size_t length() const noexcept { return length_; }
  const PageTable& table() const noexcept { return table_; }

 private:
  PageFile(std::vector<UniqueFd> fds, size_t length, PageTable table) noexcept;

  uint64_t id_ = 0;
  std::vector<UniqueFd> fds_;
  size_t length_;
  PageTable table_;
};

}  // namespace postcopy
