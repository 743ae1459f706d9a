// A mapping that this process made, shared by all threads that hold a handle or a lease. It is
// unmapped when the last one is released.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "common/sys.h"

namespace postcopy {

enum class RegionKind : uint8_t { kAnon = 0, kMemfd = 1, kHugetlb = 2, kFile = 3 };

class Region {
 public:
  static constexpr napi_type_tag kTag = {0x706f7374636f7079, 0x726567696f6e0001};

  // Each returns 0, or -errno with the name of the failed call in *syscall.
  static long Create(RegionKind kind, size_t length, bool alias, const std::string& name,
                     std::shared_ptr<Region>* out, const char** syscall) noexcept;
  static long OpenFile(int fd, size_t length, bool writable, std::shared_ptr<Region>* out,
                       const char** syscall) noexcept;

  // A collected handle just releases the mapping.
  static void Collect(std::shared_ptr<Region> region) noexcept { region.reset(); }

  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region();

  uint64_t id() const noexcept { return id_; }
  RegionKind kind() const noexcept { return kind_; }
  uint8_t* address() const noexcept { return address_; }
  uint8_t* alias() const noexcept { return alias_; }
  size_t length() const noexcept { return length_; }
  size_t page_size() const noexcept { return page_size_; }
  bool writable() const noexcept { return writable_; }
  int fd() const noexcept { return fd_.get(); }

  bool Contains(uint64_t offset, uint64_t length) const noexcept {
    return offset <= length_ && length <= length_ - offset;
  }

 private:
  Region() noexcept = default;
  long Map(size_t length, bool alias, bool writable, const char** syscall) noexcept;
  static void Publish(std::unique_ptr<Region> region, std::shared_ptr<Region>* out) noexcept;

  uint64_t id_ = 0;
  RegionKind kind_ = RegionKind::kAnon;
  uint8_t* address_ = nullptr;
  uint8_t* alias_ = nullptr;
  size_t length_ = 0;
  size_t page_size_ = 0;
  bool writable_ = true;
  UniqueFd fd_;
};

}  // namespace postcopy
