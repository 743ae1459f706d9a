// The floor of the benchmarks: the least time that two processes on this host need for the work of
// postcopy, with nothing between them and the kernel. Prints one line of JSON.
//
//   floor push records|runs --mib N [--zero-percent Z]
//   floor fault --count N [--mib M]
#include <charconv>
#include <map>
#include <span>
#include <string_view>

#include "common/records.h"
#include "ends.h"
#include "fault.h"
#include "push.h"

namespace postcopy::floor {

namespace {

using Words = std::span<char* const>;

constexpr const char* kUsage =
    "Usage: floor push records|runs --mib N [--zero-percent Z], or floor fault --count N [--mib "
    "M (default 256)], with N and M from 1 (M up to 1048576), and Z up to 100.";
constexpr uint64_t kMostMib = uint64_t{1} << 20;
constexpr uint64_t kFaultMib = 256;
constexpr uint64_t kPagesPerMib = (1U << 20) / kTargetPageBytes;

// Options and their numbers. An unknown option is an error.
class Numbers {
 public:
  explicit Numbers(Words words) {
    if (words.size() % 2 != 0) Die(kUsage);
    for (size_t i = 0; i < words.size(); i += 2) {
      const std::string_view text = words[i + 1];
      uint64_t value = 0;
      const auto [end, error] = std::from_chars(text.begin(), text.end(), value);
      if (error != std::errc() || end != text.end()) Die(kUsage);
      if (!values_.emplace(words[i], value).second) Die(kUsage);
    }
  }

  uint64_t Take(std::string_view name, uint64_t least, uint64_t most) {
    const auto found = values_.find(name);
    if (found == values_.end()) Die(kUsage);
    const uint64_t value = found->second;
    if (value < least || value > most) Die(kUsage);
    values_.erase(found);
    return value;
  }

  uint64_t Take(std::string_view name, uint64_t least, uint64_t most, uint64_t otherwise) {
    return values_.contains(name) ? Take(name, least, most) : otherwise;
  }

  void End() const {
    if (!values_.empty()) Die(kUsage);
  }

 private:
  std::map<std::string_view, uint64_t> values_;
};

int Push(Words words) {
  if (words.empty()) Die(kUsage);
  const std::string_view mode = words[0];
  if (mode != "records" && mode != "runs") Die(kUsage);
  Numbers numbers(words.subspan(1));
  const PushOptions options{
      .runs = mode == "runs",
      .mib = numbers.Take("--mib", 1, kMostMib),
      .zero_percent = static_cast<uint32_t>(numbers.Take("--zero-percent", 0, 100, 0))};
  numbers.End();
  return RunEnds([&](const Socket& socket) { PushSource(socket, options); },
                 [&](const Socket& socket) { PushDestination(socket, options); });
}

int Fault(Words words) {
  Numbers numbers(words);
  const uint64_t mib = numbers.Take("--mib", 1, kMostMib, kFaultMib);
  const FaultOptions options{.count = numbers.Take("--count", 1, kMostMib * kPagesPerMib),
                             .mib = mib};
  numbers.End();
  if (options.count > mib * kPagesPerMib) {
    Die("--count is more than the pages of --mib: each page is touched once.");
  }
  return RunEnds([&](const Socket& socket) { FaultSource(socket, options); },
                 [&](const Socket& socket) { FaultDestination(socket, options); });
}

int Run(Words words) {
  if (::sysconf(_SC_PAGESIZE) != static_cast<long>(kTargetPageBytes)) {
    Die("floor needs host pages of 4 KiB; this host has others.");
  }
  if (words.empty()) Die(kUsage);
  const std::string_view what = words[0];
  if (what == "push") return Push(words.subspan(1));
  if (what == "fault") return Fault(words.subspan(1));
  Die(kUsage);
}

}  // namespace

}  // namespace postcopy::floor

int main(int count, char** words) {
  return postcopy::floor::Run(std::span<char* const>(words, static_cast<size_t>(count)).subspan(1));
}
