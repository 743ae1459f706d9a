#include "scan.h"

namespace postcopy::guest {

void ScanResult::Add(const Finding& finding) {
  ++counts[static_cast<size_t>(finding.verdict)];
  if (findings.size() < kMaxFindings) findings.push_back(finding);
}

uint64_t FillSlice(const GuestMemory& memory, const Workload& workload, const ScanSlice& slice,
                   ScanControl& control) noexcept {
  uint64_t filled = 0;
  for (uint32_t page = slice.slice.first; page < slice.slice.first + slice.slice.count; ++page) {
    if (!control.Step()) return filled;
    if (!FilledAtStart(workload, page)) continue;
    WritePage(memory.Page(page), {slice.key, page, 1, slice.slice.LinkOf(page)});
    memory.SetVersion(page, 1);
    ++filled;
  }
  return filled;
}

void VerifySlice(const GuestMemory& memory, const ScanSlice& slice, ScanControl& control,
                 ScanResult& result) {
  const Slice& own = slice.slice;
  uint64_t sum = 0;
  for (uint32_t page = own.first; page < own.first + own.count; ++page) {
    const uint32_t version = memory.Version(page);
    const PageIdentity expected{slice.key, page, version, own.LinkOf(page)};
    if (!PageMatches(memory.Page(page), expected)) {
      result.Add(Diagnose(memory.Page(page), expected, memory.vcpu_pages()));
    }
    sum += version;
    if (!control.Step()) return;
  }
  result.pages += own.count;
  if (sum != slice.writes) {
    // Page and ledger can both be stale and still agree. The vCPU's count of writes is part of the
    // device state, not of RAM.
    result.Add({sum == 0 ? Verdict::kLost : Verdict::kStale, Block::kLedger,
                uint64_t{own.first} * sizeof(uint32_t), uint64_t{own.count} * sizeof(uint32_t), sum,
                slice.writes});
  }
}

void VerifyRest(const GuestMemory& memory, const std::vector<SealedPage>& sealed,
                ScanControl& control, ScanResult& result) {
  for (const SealedPage& seal : sealed) {
    const uint64_t* words = memory.Page(seal.page);
    const uint32_t checksum = Checksum(reinterpret_cast<const uint8_t*>(words), kPageBytes);
    if (checksum != seal.checksum) {
      const bool zero = PageMatches(words, {0, seal.page, 0, 0});
      result.Add({zero ? Verdict::kLost : Verdict::kCorrupt, Block::kRam,
                  uint64_t{seal.page} * kPageBytes, kPageBytes, checksum, seal.checksum});
    }
    if (!control.Step()) return;
  }
  result.pages += sealed.size();
  for (size_t entry = memory.vcpu_pages(); entry < memory.ledger_entries(); ++entry) {
    const uint32_t version = memory.Version(static_cast<uint32_t>(entry));
    if (version == 0) continue;
    result.Add({Verdict::kCorrupt, Block::kLedger, entry * sizeof(uint32_t), sizeof(uint32_t),
                version, 0});
  }
}

}  // namespace postcopy::guest
