// Compares the page bitmap with a naive one.
#include "common/bitmap.h"

#include <vector>

#include "input.h"

namespace postcopy::fuzz {

namespace {

constexpr size_t kMostPages = 300;

using Plain = std::vector<bool>;

size_t CountPlain(const Plain& plain, size_t from, size_t to) {
  size_t count = 0;
  for (size_t page = from; page < to; ++page) count += plain[page] ? 1 : 0;
  return count;
}

size_t FindPlain(const Plain& plain, size_t from, size_t to, bool value) {
  while (from < to && plain[from] != value) ++from;
  return from;
}

size_t FillPlain(Plain* plain, size_t from, size_t to, bool value) {
  size_t changed = 0;
  for (size_t page = from; page < to; ++page) {
    changed += (*plain)[page] != value ? 1 : 0;
    (*plain)[page] = value;
  }
  return changed;
}

size_t RoundOutPlain(Plain* plain, size_t to, size_t host_pages) {
  size_t changed = 0;
  for (size_t start = 0; start < to; start += host_pages) {
    const size_t end = host_pages < to - start ? start + host_pages : to;
    if (CountPlain(*plain, start, end) > 0) changed += FillPlain(plain, start, end, true);
  }
  return changed;
}

void Run(Input input) {
  // Sized to the byte, so that the sanitizer detects an access beyond the end.
  const size_t bytes = 1 + input.UpTo(kMostPages / 8);
  std::vector<uint8_t> bits(bytes);
  Bitmap bitmap(bits);
  Plain plain(bytes * 8);
  while (!input.empty()) {
    const uint8_t what = input.Byte();
    const size_t from = input.UpTo(plain.size());
    const size_t to = from + input.UpTo(plain.size() - from);
    switch (what % 7) {
      case 0:
        Demand(bitmap.SetRange(from, to) == FillPlain(&plain, from, to, true), "SetRange");
        break;
      case 1:
        Demand(bitmap.ClearRange(from, to) == FillPlain(&plain, from, to, false), "ClearRange");
        break;
      case 2:
        Demand(bitmap.Count(from, to) == CountPlain(plain, from, to), "Count");
        break;
      case 3:
        Demand(bitmap.FindNext(from, to) == FindPlain(plain, from, to, true), "FindNext");
        break;
      case 4:
        Demand(bitmap.FindNextClear(from, to) == FindPlain(plain, from, to, false),
               "FindNextClear");
        break;
      case 5: {
        const size_t host_pages = 1 + from;
        Demand(bitmap.RoundOut(to, host_pages) == RoundOutPlain(&plain, to, host_pages),
               "RoundOut");
        break;
      }
      default:
        if (from == plain.size()) break;
        if ((what & 0x80) != 0) {
          bitmap.Set(from);
          plain[from] = true;
        } else {
          bitmap.Clear(from);
          plain[from] = false;
        }
    }
  }
  for (size_t page = 0; page < plain.size(); ++page) {
    Demand(bitmap.Test(page) == plain[page], "a bit differs");
  }
}

}  // namespace

}  // namespace postcopy::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  postcopy::fuzz::Run({data, size});
  return 0;
}
