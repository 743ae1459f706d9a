// Turns received records into pages: by plain copies, by a pager that may do less than requested,
// in a file, or as parts of larger host pages. For any input, memory must be what a naive reader
// makes of the consumed records, and nothing else may be written.
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "common/assemble_loop.h"
#include "common/load_loop.h"
#include "common/place_loop.h"
#include "common/store_loop.h"
#include "input.h"

namespace postcopy::fuzz {

namespace {

constexpr size_t kPages = 16;
constexpr uint64_t kUsedLength = kPages * kTargetPageBytes;

using Memory = std::vector<uint8_t>;

// Makes valid records, invalid ones, and arbitrary bytes.
std::vector<uint8_t> MakeRecords(Input* input) {
  std::vector<uint8_t> bytes;
  for (int count = 0; count < 24 && !input->empty(); ++count) {
    const uint8_t what = input->Byte();
    if (what % 8 == 7) {
      for (size_t i = 0; i < what / 8U; ++i) bytes.push_back(input->Byte());
      continue;
    }
    // A few pages are after the end of the block, or far away.
    const uint64_t page = what % 8 == 6 ? uint64_t{input->Byte()} << 44 : input->Byte() % 20;
    const bool zero = what % 8 < 2;
    const uint64_t flags =
        (zero ? kFlagZero : kFlagPage) | ((what & 0x40) != 0 ? 0 : kFlagContinue);
    bytes.resize(bytes.size() + kRecordHeaderBytes);
    StoreBigEndian(&bytes[bytes.size() - kRecordHeaderBytes], page * kTargetPageBytes | flags);
    const uint8_t fill = input->Byte();
    if (zero) {
      bytes.push_back(what == 1 ? fill : 0);
    } else {
      bytes.resize(bytes.size() + kTargetPageBytes, fill);
    }
  }
  // Sometimes the last record is truncated.
  bytes.resize(bytes.size() - std::min(bytes.size(), input->UpTo(64)));
  return bytes;
}

// The expected memory after a part of the records was consumed.
class Model {
 public:
  explicit Model(const Memory& memory) : memory_(memory) {}

  void Take(std::span<const uint8_t> taken) {
    for (size_t at = 0; at < taken.size();) {
      Record record;
      const size_t length = ParseRecord(taken.subspan(at), kUsedLength, &record);
      Demand(length != 0, "bytes were taken that are no record");
      uint8_t* page = memory_.data() + record.offset;
      if (record.zero)
        std::memset(page, 0, kTargetPageBytes);
      else
        std::memcpy(page, &taken[at + kRecordHeaderBytes], kTargetPageBytes);
      at += length;
    }
  }

  const Memory& memory() const { return memory_; }

 private:
  Memory memory_;
};

struct Pages {
  std::vector<uint8_t> received = std::vector<uint8_t>(kPages / 8);
  std::vector<uint8_t> zeroed = std::vector<uint8_t>(kPages / 8);
};

void Load(std::vector<uint8_t> bytes) {
  Pages pages;
  Memory memory(kUsedLength);
  Model model(memory);
  Incoming in{.bytes = bytes, .used_length = kUsedLength};
  const PageCounts loaded =
      LoadLoop(memory.data(), true, Bitmap(pages.received), Bitmap(pages.zeroed), &in).Run();
  model.Take(std::span(bytes).first(in.at));
  Demand(memory == model.memory(), "loaded pages");
  Record record;
  Demand(in.Peek(&record) == 0, "it stopped before a good record");
  Demand(loaded.normal + loaded.zero >= Bitmap(pages.received).Count(0, kPages), "counts");
}

// Does all, some or nothing of a request, depending on the input.
struct FakePager {
  Memory* memory;
  Input* input;

  long Fill(uint64_t at, uint64_t length, const uint8_t* from) const noexcept {
    Demand(at % kTargetPageBytes == 0 && at + length <= memory->size(), "placed outside");
    Demand(length > 0 && length % kTargetPageBytes == 0, "placed no whole pages");
    const uint8_t choice = input->Byte();
    if (choice % 16 == 15) return choice < 128 ? -EEXIST : 0;
    const uint64_t pages =
        choice % 16 < 12 ? length / kTargetPageBytes : 1 + choice % (length / kTargetPageBytes);
    const uint64_t done = std::min(pages * kTargetPageBytes, length);
    if (from == nullptr)
      std::memset(memory->data() + at, 0, done);
    else
      std::memcpy(memory->data() + at, from, done);
    return static_cast<long>(done);
  }
  long Copy(uint64_t dst, uint64_t src, uint64_t length, uint64_t /*mode*/) const noexcept {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the ioctl takes addresses as numbers
    return Fill(dst, length, reinterpret_cast<const uint8_t*>(static_cast<uintptr_t>(src)));
  }
  long Zeropage(uint64_t start, uint64_t length, uint64_t /*mode*/) const noexcept {
    return Fill(start, length, nullptr);
  }
};

void Place(std::vector<uint8_t> bytes, Input* input) {
  const std::vector<uint8_t> original = bytes;
  Pages pages;
  Memory memory(kUsedLength, 0xee);
  Model model(memory);
  Incoming in{.bytes = bytes, .used_length = kUsedLength};
  const FakePager pager{.memory = &memory, .input = input};
  // Addresses begin at 0: the pager adds them to its own memory.
  const Placed placed = PlaceLoop(pager, 0, Bitmap(pages.received), &in).Run();
  model.Take(std::span(original).first(in.at));
  Demand(memory == model.memory(), "placed pages");
  Demand(Bitmap(pages.received).Count(0, kPages) == placed.normal + placed.zero, "counts");
  // Bytes that were not consumed are passed again, so they must be unchanged.
  Demand(std::equal(bytes.begin() + static_cast<ptrdiff_t>(in.at), bytes.end(),
                    original.begin() + static_cast<ptrdiff_t>(in.at)),
         "the records after it were changed");
  Record record;
  Demand(placed.stop != PlaceStop::kNone || in.Peek(&record) == 0, "stopped without a reason");
}

void Store(std::vector<uint8_t> bytes) {
  Pages pages;
  const UniqueFd fd(::memfd_create("fuzz", MFD_CLOEXEC));
  Demand(::ftruncate(fd.get(), kUsedLength) == 0, "no file");
  Memory memory(kUsedLength);
  Model model(memory);
  Incoming in{.bytes = bytes, .used_length = kUsedLength};
  const Stored stored =
      StoreLoop(fd.get(), Bitmap(pages.received), Bitmap(pages.zeroed), &in).Run();
  model.Take(std::span(bytes).first(in.at));
  Demand(stored.error == 0, "a file that takes nothing");
  Demand(::lseek(fd.get(), 0, SEEK_END) == static_cast<off_t>(kUsedLength), "the file's length");
  Demand(::pread(fd.get(), memory.data(), kUsedLength, 0) == static_cast<ssize_t>(kUsedLength),
         "read");
  Demand(memory == model.memory(), "stored pages");
}

void Assemble(std::vector<uint8_t> bytes, size_t host_pages) {
  Pages pages;
  Memory memory(kUsedLength);
  Model model(memory);
  Memory staging(host_pages * kTargetPageBytes);
  std::vector<int32_t> state(AssembleLoop::Words(host_pages));
  state[0] = -1;
  Incoming in{.bytes = bytes, .used_length = kUsedLength};
  PageCounts loaded;
  for (;;) {
    AssembleLoop assembly(staging, state);
    const auto stop = assembly.Run(Bitmap(pages.received), &in, &loaded);
    if (stop != AssembleLoop::kNone || state[0] < 0 || !assembly.Complete()) break;
    const size_t first = static_cast<size_t>(state[0]) * host_pages;
    Demand(first + host_pages <= kPages, "a host page outside of the region");
    std::memcpy(memory.data() + first * kTargetPageBytes, staging.data(), staging.size());
    Bitmap(pages.received).SetRange(first, first + host_pages);
    state[0] = -1;
  }
  model.Take(std::span(bytes).first(in.at));
  for (size_t page = 0; page < kPages; ++page) {
    if (!Bitmap(pages.received).Test(page)) continue;
    const size_t at = page * kTargetPageBytes;
    Demand(std::memcmp(&memory[at], &model.memory()[at], kTargetPageBytes) == 0, "assembled");
  }
}

void Run(Input input) {
  const uint8_t how = input.Byte();
  std::vector<uint8_t> bytes = MakeRecords(&input);
  bytes.shrink_to_fit();
  switch (how % 4) {
    case 0:
      return Load(bytes);
    case 1:
      return Place(bytes, &input);
    case 2:
      return Store(bytes);
    default:
      return Assemble(bytes, size_t{1} << (how / 4U % 5));
  }
}

}  // namespace

}  // namespace postcopy::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  postcopy::fuzz::Run({data, size});
  return 0;
}
