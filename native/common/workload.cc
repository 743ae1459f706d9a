#include "workload.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "content.h"

namespace postcopy::guest {
namespace {

constexpr uint64_t kWeyl = 0x9e3779b97f4a7c15;

// A number in [0, bound) by multiplication; the bias is bound / 2^32.
uint32_t Below(uint64_t random, uint32_t bound) noexcept {
  return static_cast<uint32_t>((random >> 32) * bound >> 32);
}

}  // namespace

Slice Slice::Of(const Workload& workload, uint32_t pages, uint32_t vcpus, uint32_t index) noexcept {
  const auto border = [&](uint64_t i) { return static_cast<uint32_t>(pages * i / vcpus); };
  Slice slice{border(index), border(index + uint64_t{1}) - border(index), 0, 0};
  const uint64_t share = workload.hot_pages == 0 ? slice.count : workload.hot_pages / vcpus;
  slice.hot = static_cast<uint32_t>(std::clamp<uint64_t>(share, 1, slice.count));
  slice.step = static_cast<uint32_t>(slice.hot * 0.6180339887498949);  // steps spread evenly
  while (std::gcd(slice.step, slice.hot) != 1) ++slice.step;
  return slice;
}

uint32_t Slice::LinkOf(uint32_t page) const noexcept {
  const uint32_t position = page - first;
  if (position >= hot) return page;
  return first + static_cast<uint32_t>((uint64_t{position} + step) % hot);
}

bool FilledAtStart(const Workload& workload, uint32_t page) noexcept {
  return Below(Mix(workload.seed ^ (page + 1) * kWeyl), 100) < workload.fill_percent;
}

Generator::Generator(const Workload& workload, const Slice& slice, uint32_t index) noexcept
    : pattern_(workload.pattern),
      writes_percent_(workload.writes_percent),
      slice_(slice),
      log_hot_(std::log(slice.hot + 1.0)),
      state_{Mix(workload.seed + index), 0} {}

uint64_t Generator::Random() noexcept {
  state_.random += kWeyl;
  return Mix(state_.random);
}

Touch Generator::Next() noexcept {
  const bool write = Below(Random(), 100) < writes_percent_;
  uint64_t position = state_.position;
  switch (pattern_) {
    case Pattern::kIdle:
    case Pattern::kChase:  // Follow() moves on
      break;
    case Pattern::kSweep:
      state_.position = (position + 1) % slice_.hot;
      break;
    case Pattern::kRandom:
      position = Below(Random(), slice_.hot);
      break;
    case Pattern::kZipf: {
      // The k-th most popular page has probability ln((k + 1) / k) / ln(hot + 1), roughly in
      // proportion to 1 / k.
      const double unit = static_cast<double>(Random() >> 11) * 0x1p-53;
      const auto rank = static_cast<uint64_t>(std::exp(unit * log_hot_)) - 1;
      position = std::min<uint64_t>(rank, slice_.hot - 1) * slice_.step % slice_.hot;  // scattered
      break;
    }
  }
  return {slice_.first + static_cast<uint32_t>(position), write};
}

void Generator::Follow(uint32_t link) noexcept {
  if (pattern_ == Pattern::kChase) state_.position = link - slice_.first;
}

bool Generator::Restore(const GeneratorState& state) noexcept {
  if (state.position >= slice_.hot) return false;
  state_ = state;
  return true;
}

}  // namespace postcopy::guest
