#include "page_file.h"

#include <fcntl.h>

#include "common/registry.h"

namespace postcopy {

long PageFile::Open(const std::vector<int>& fds, size_t length, std::vector<PageRun> runs,
                    std::vector<uint8_t> data, std::shared_ptr<PageFile>* out) noexcept {
  std::vector<UniqueFd> own;
  for (const int fd : fds) {
    own.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!own.back()) return -errno;
  }
  for (PageRun& run : runs) run.fd = own[static_cast<size_t>(run.fd)].get();
  std::shared_ptr<PageFile> file(
      new PageFile(std::move(own), length, PageTable(std::move(runs), std::move(data))));
  file->id_ = Registry<PageFile>::Get().NextId();
  Registry<PageFile>::Get().Add(file->id_, file);
  *out = std::move(file);
  return 0;
}

PageFile::PageFile(std::vector<UniqueFd> fds, size_t length, PageTable table) noexcept
    : fds_(std::move(fds)), length_(length), table_(std::move(table)) {}

PageFile::~PageFile() {
  Registry<PageFile>::Get().Remove(id_);
}

}  // namespace postcopy
