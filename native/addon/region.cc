#include "region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "common/registry.h"
#include "common/uapi.h"

namespace postcopy {

namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;

size_t BasePageSize() noexcept {
  return static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

uint8_t* MapBytes(size_t length, bool writable, int flags, int fd) noexcept {
  const int protection = PROT_READ | (writable ? PROT_WRITE : 0);
  void* address = ::mmap(nullptr, length, protection, flags, fd, 0);
  return address == MAP_FAILED ? nullptr : static_cast<uint8_t*>(address);
}

}  // namespace

long Region::Create(RegionKind kind, size_t length, bool alias, const std::string& name,
                    std::shared_ptr<Region>* out, const char** syscall) noexcept {
  std::unique_ptr<Region> region(new Region);
  region->kind_ = kind;
  region->page_size_ = kind == RegionKind::kHugetlb ? kHugePageBytes : BasePageSize();
  if (kind != RegionKind::kAnon) {
    const unsigned huge = kind == RegionKind::kHugetlb ? uapi::kMfdHugetlb | uapi::kMfdHuge2Mb : 0;
    *syscall = "memfd_create";
    region->fd_.Reset(::memfd_create(name.c_str(), uapi::kMfdCloexec | huge));
    if (!region->fd_) return -errno;
    *syscall = "ftruncate";
    const long truncated = CountOrErrnoUninterrupted(
        [&]() noexcept { return ::ftruncate(region->fd_.get(), static_cast<off_t>(length)); });
    if (truncated < 0) return truncated;
  }
  const long result = region->Map(length, alias, true, syscall);
  if (result == 0) Publish(std::move(region), out);
  return result;
}

long Region::OpenFile(int fd, size_t length, bool writable, std::shared_ptr<Region>* out,
                      const char** syscall) noexcept {
  std::unique_ptr<Region> region(new Region);
  region->kind_ = RegionKind::kFile;
  region->writable_ = writable;
  region->page_size_ = BasePageSize();
  *syscall = "fcntl";
  region->fd_.Reset(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!region->fd_) return -errno;
  struct stat status;
  *syscall = "fstat";
  if (::fstat(fd, &status) != 0) return -errno;
  *syscall = "mmap";
  // An access beyond the end of the file would raise SIGBUS.
  if (!S_ISREG(status.st_mode) || static_cast<uint64_t>(status.st_size) < length) return -EINVAL;
  struct statfs filesystem;
  *syscall = "fstatfs";
  if (::fstatfs(fd, &filesystem) != 0) return -errno;
  if (static_cast<int64_t>(filesystem.f_type) == uapi::kHugetlbfsMagic) {
    region->page_size_ = static_cast<size_t>(filesystem.f_bsize);
  }
  const long result = region->Map(length, false, writable, syscall);
  if (result == 0) Publish(std::move(region), out);
  return result;
}

long Region::Map(size_t length, bool alias, bool writable, const char** syscall) noexcept {
  *syscall = "mmap";
  if (length == 0 || length % page_size_ != 0) return -EINVAL;
  length_ = length;
  // No MAP_NORESERVE: a shortage must be ENOMEM here, not a signal or a misleading errno of
  // UFFDIO_COPY later.
  const int flags = kind_ == RegionKind::kAnon ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  address_ = MapBytes(length, writable, flags, fd_.get());
  if (address_ == nullptr) return -errno;
  if (alias) {
    alias_ = MapBytes(length, writable, flags, fd_.get());
    if (alias_ == nullptr) return -errno;
  }
  // Node starts programs by fork. Without this advice, each fork would copy page tables and make
  // the pages shared, so that UFFDIO_MOVE fails. The child would have a copy whose missing pages
  // read as zeros.
  *syscall = "madvise";
  for (uint8_t* address : {address_, alias_}) {
    if (address != nullptr && ::madvise(address, length, uapi::kMadvDontfork) != 0) return -errno;
  }
  return 0;
}

void Region::Publish(std::unique_ptr<Region> region, std::shared_ptr<Region>* out) noexcept {
  region->id_ = Registry<Region>::Get().NextId();
  *out = std::move(region);
  Registry<Region>::Get().Add((*out)->id_, *out);
}

Region::~Region() {
  if (id_ != 0) Registry<Region>::Get().Remove(id_);
  if (address_ != nullptr) ::munmap(address_, length_);
  if (alias_ != nullptr) ::munmap(alias_, length_);
}

}  // namespace postcopy
