// How one addon hands a mapping to another: a C table, since C++ types must not cross a dlopen
// border.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>

namespace postcopy {

// Type tag of the External that carries a RegionLease*, so that no other pointer is taken for one.
inline constexpr napi_type_tag kRegionLeaseTag = {0x706f7374636f7079, 0x7265676c65617365};

inline constexpr uint32_t kRegionLeaseVersion = 2;

// The table lives as long as its External and keeps nothing mapped by itself: call retain() before
// the call that brought the External returns. The mapping then stays until release() of what
// retain() gave, which is null if the region was closed. Both may be called by any thread.
struct RegionLease {
  uint32_t version;
  void* owner;
  uint8_t* address;
  size_t length_bytes;
  size_t page_size_bytes;
  void* (*retain)(void* owner);
  void (*release)(void* retained);
};

}  // namespace postcopy
