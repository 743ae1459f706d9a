// Chooses the page that a vCPU touches next. The state has two words, so it can migrate with the
// guest and continue at the destination with the next touch.
#pragma once

#include <cstdint>

namespace postcopy::guest {

enum class Pattern : uint32_t { kIdle, kSweep, kRandom, kZipf, kChase };

struct Workload {
  Pattern pattern = Pattern::kIdle;
  uint32_t writes_percent = 0;
  uint32_t fill_percent = 0;
  uint64_t hot_pages = 0;      // of the whole machine; 0: all
  uint64_t touches_limit = 0;  // for each vCPU; 0: none
  double rate = 0;             // touches per second and vCPU; 0: unlimited
  uint64_t seed = 0;
};

// The pages of one vCPU. Slices are contiguous: no two vCPUs write the same page, or (except at the
// borders) the same page of the ledger.
struct Slice {
  uint32_t first;
  uint32_t count;
  uint32_t hot;   // only [first, first + hot) is touched while running
  uint32_t step;  // coprime to hot: i -> i + step visits every hot page before it returns

  static Slice Of(const Workload& workload, uint32_t pages, uint32_t vcpus,
                  uint32_t index) noexcept;

  // The page that a pointer chase visits after this page of the slice.
  uint32_t LinkOf(uint32_t page) const noexcept;
};

bool FilledAtStart(const Workload& workload, uint32_t page) noexcept;

struct GeneratorState {
  uint64_t random;
  uint64_t position;  // in the slice
};

struct Touch {
  uint32_t page;
  bool write;
};

class Generator {
 public:
  Generator() noexcept = default;
  Generator(const Workload& workload, const Slice& slice, uint32_t index) noexcept;

  Touch Next() noexcept;
  // Continues a pointer chase at the link of the page that was read.
  void Follow(uint32_t link) noexcept;

  const GeneratorState& state() const noexcept { return state_; }
  // False if no run of this workload can be in that state.
  bool Restore(const GeneratorState& state) noexcept;

 private:
  uint64_t Random() noexcept;

  Pattern pattern_ = Pattern::kIdle;
  uint32_t writes_percent_ = 0;
  Slice slice_{0, 1, 1, 0};
  double log_hot_ = 0;
  GeneratorState state_{0, 0};
};

}  // namespace postcopy::guest
