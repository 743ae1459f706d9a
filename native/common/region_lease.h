// Lends a mapping from one addon to another, by a C table, because C++ types must not cross a
// dlopen boundary.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>

namespace postcopy {

// Type tag of the External that holds a RegionLease*, so that no other pointer is accepted as one.
inline constexpr napi_type_tag kRegionLeaseTag = {0x706f7374636f7079, 0x7265676c65617365};

inline constexpr uint32_t kRegionLeaseVersion = 2;

// The table lives as long as its External, and does not keep the region mapped. Call retain()
// before the call that received the External returns; it returns null if the region was closed.
// Otherwise the mapping stays until release() of what it has returned. Any thread may call both.
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
