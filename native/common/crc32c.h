// CRC-32C (Castagnoli), the CRC of iSCSI (RFC 3720, appendix B.4), for which processors have an
// instruction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace postcopy {

enum class CrcMethod : uint8_t { kBest, kPortable };

// `before`: the CRC of the bytes that precede these; 0 for none.
uint32_t Crc32c(uint32_t before, std::span<const uint8_t> bytes,
                CrcMethod method = CrcMethod::kBest) noexcept;

// The value of a page in the checksum of a RAM block: the remainder of CRC-32C without its two
// inversions. So a page of zeros has the value 0, like a page that is not there.
inline constexpr size_t kCrcPages = 3;  // pages at once: one alone waits for each step's result
void PageValues(const uint8_t* const* pages, size_t count, uint32_t* values) noexcept;

}  // namespace postcopy
