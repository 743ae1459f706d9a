// Packs dirty pages into records, and checks with a naive reader that the records have the pages.
// They are read from memory, or from a file whose reads fail or are short, depending on the input.
#include <array>
#include <optional>
#include <vector>

#include "common/pack_loop.h"
#include "input.h"

namespace postcopy::fuzz {

namespace {

constexpr size_t kMostPages = 24;
constexpr int kFile = 1 << 20;  // not a descriptor: ReadFile() simulates it
constexpr size_t kFileOffset = 100;

struct Setting {
  bool is_file;
  bool wait;
  size_t stride;  // of the pages in the file
  size_t host_pages;
  size_t pages;
  std::vector<uint8_t> name;
  std::vector<uint8_t> memory;
  std::vector<uint8_t> dirty;
  std::vector<uint8_t> data;  // pages of the file that are not zero
  std::vector<uint8_t> file;

  PageTable Table() const {
    return PageTable(
        {{.first = 0, .count = pages, .fd = kFile, .offset = kFileOffset, .stride = stride}}, data);
  }
};

Setting Prepare(Input* input) {
  Setting setting;
  const uint8_t kind = input->Byte();
  setting.is_file = (kind & 0x80) != 0;
  setting.wait = (kind & 0x40) != 0;
  setting.stride = (kind & 0x20) != 0 ? kPageRecordBytes : kTargetPageBytes;
  setting.host_pages = size_t{1} << (kind % 3);
  setting.pages = (1 + input->UpTo(kMostPages / 4 - 1)) * 4;
  setting.name.assign(input->Byte() % 8 == 7 ? 255 : input->Byte() % 3, 'n');
  setting.memory.assign(setting.pages * kTargetPageBytes, 0);
  setting.dirty.assign((setting.pages + 7) / 8, 0);
  setting.data.assign(setting.dirty.size(), 0xff);
  setting.file.assign(kFileOffset + setting.pages * setting.stride, 0xa5);
  for (size_t page = 0; page < setting.pages; ++page) {
    const uint8_t choice = input->Byte();
    uint8_t* content = setting.memory.data() + page * kTargetPageBytes;
    // Zeros, the same byte everywhere, or one nonzero byte.
    if (choice % 4 == 1) std::memset(content, choice, kTargetPageBytes);
    if (choice % 4 == 2) content[input->UpTo(kTargetPageBytes - 1)] = 1;
    if ((choice & 0x80) != 0) Bitmap(setting.dirty).Set(page);
    // The file has old bytes in place of a page without data.
    if (setting.is_file && (choice & 0x40) != 0) {
      Bitmap(setting.data).Clear(page);
      std::memset(content, 0, kTargetPageBytes);
    } else {
      std::memcpy(setting.file.data() + kFileOffset + page * setting.stride, content,
                  kTargetPageBytes);
    }
  }
  return setting;
}

// The simulated file of kFile.
struct File {
  std::span<const uint8_t> content;
  bool wait = false;
  Input* input = nullptr;
  long failure = 0;  // the error that the packer has to report
};

File file;

ssize_t ReadFile(int fd, const iovec& target, off_t offset, int flags) noexcept {
  size_t length = target.iov_len;
  const auto at = static_cast<size_t>(offset);
  Demand(fd == kFile, "a descriptor of something else");
  Demand(file.failure == 0, "a read after one that failed");
  Demand(length > 0, "an empty read");
  Demand((flags == 0) == file.wait, "waits, or does not");
  Demand(at + length <= file.content.size(), "a read of what is after the file's end");
  constexpr std::array<int, 4> kErrors = {EIO, EAGAIN, ENOMEM, EBADF};
  const uint8_t choice = file.input->Byte();
  switch (choice % 8) {
    case 4:  // the file was truncated
      file.failure = ENODATA;
      return 0;
    case 5:
      errno = flags != 0 && choice >= 0x80 ? EOPNOTSUPP : EINTR;
      if (errno == EOPNOTSUPP) file.failure = EAGAIN;
      return -1;
    case 6:
      errno = kErrors[choice / 8 % kErrors.size()];
      if (errno == EAGAIN && flags == 0) errno = EIO;
      file.failure = errno;
      return -1;
    case 7:
      length = 1 + file.input->UpTo(length - 1);
      break;
    default:
      break;
  }
  std::memcpy(target.iov_base, file.content.data() + at, length);
  return static_cast<ssize_t>(length);
}

// Reads the records of one call and marks each page in `seen`.
void Check(const Setting& setting, std::span<const uint8_t> bytes, size_t from, size_t to,
           std::vector<uint8_t>* seen) {
  bool first = true;
  for (size_t at = 0; at < bytes.size();) {
    Demand(bytes.size() - at >= kZeroRecordBytes, "half a record");
    const uint64_t word = LoadBigEndian(bytes.data() + at);
    const uint64_t flags = word & (kTargetPageBytes - 1);
    const uint64_t offset = word - flags;
    at += kRecordHeaderBytes;
    const bool named = first && !setting.name.empty();
    Demand(((flags & kFlagContinue) == 0) == named, "the name is missing, or not expected");
    if (named) {
      Demand(bytes[at] == setting.name.size(), "another name");
      Demand(std::memcmp(&bytes[at + 1], setting.name.data(), setting.name.size()) == 0, "name");
      at += 1 + setting.name.size();
    }
    const size_t page = offset / kTargetPageBytes;
    Demand(page >= from && page < to && !Bitmap(*seen).Test(page),
           "a page outside of the range, or sent again");
    Bitmap(*seen).Set(page);
    const uint8_t* content = setting.memory.data() + offset;
    if ((flags & kFlagPage) != 0) {
      Demand(std::memcmp(&bytes[at], content, kTargetPageBytes) == 0, "other bytes");
      at += kTargetPageBytes;
    } else {
      Demand(bytes[at] == 0 && IsZero(content, kTargetPageBytes), "not zero");
      at += 1;
    }
    first = false;
  }
}

void Run(Input input) {
  Setting setting = Prepare(&input);
  const std::vector<uint8_t> before = setting.dirty;
  std::vector<uint8_t> seen(setting.dirty.size());
  const PageTable table = setting.Table();
  for (int call = 0; call < 8 && !input.empty(); ++call) {
    const size_t units = setting.pages / setting.host_pages;
    const size_t first = input.UpTo(units);
    const size_t last = first + input.UpTo(units - first);
    std::vector<uint8_t> out(input.UpTo(6 * kPageRecordBytes));
    std::optional<PageReader> reader;
    const PackJob job{.memory = setting.is_file ? nullptr : setting.memory.data(),
                      .from = first * setting.host_pages,
                      .to = last * setting.host_pages,
                      .host_pages = setting.host_pages,
                      .most_pages = input.Byte() % size_t{16},
                      .name = setting.name,
                      .reader = setting.is_file ? &reader.emplace(table, setting.wait) : nullptr};
    file = {.content = setting.file, .wait = setting.wait, .input = &input};
    const Packed packed = PackLoop(job, Bitmap(setting.dirty), Bytes(out)).Run();
    Demand(packed.bytes <= out.size(), "more bytes than there is room");
    Demand(packed.next_page >= job.from && packed.next_page <= job.to, "next page");
    Demand(packed.error == file.failure, "another error than that of the file");
    Demand(packed.error == 0 || Bitmap(setting.dirty).FindNext(packed.next_page, setting.pages) <
                                    packed.next_page + setting.host_pages,
           "an error of a page that is not owed");
    std::vector<uint8_t> again(setting.dirty.size());
    Check(setting, std::span(out).first(packed.bytes), job.from, job.to, &again);
    Demand(Bitmap(again).Count(0, setting.pages) == packed.normal + packed.zero, "counts");
    for (size_t page = 0; page < setting.pages; ++page) {
      if (!Bitmap(again).Test(page)) continue;
      Demand(!Bitmap(seen).Test(page), "a page that was packed before");
      Bitmap(seen).Set(page);
    }
  }
  for (size_t page = 0; page < setting.pages; ++page) {
    std::vector<uint8_t> initially = before;
    const bool owed = Bitmap(initially).Test(page);
    Demand(owed == (Bitmap(seen).Test(page) || Bitmap(setting.dirty).Test(page)),
           "lost or made up");
    Demand(!(Bitmap(seen).Test(page) && Bitmap(setting.dirty).Test(page)), "packed and dirty");
  }
}

}  // namespace

}  // namespace postcopy::fuzz

// Replaces preadv2() of the C library, which nothing else here calls.
extern "C" ssize_t preadv2(int fd, const iovec* targets, int count, off_t offset, int flags) {
  return count == 1 ? postcopy::fuzz::ReadFile(fd, *targets, offset, flags) : -1;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  postcopy::fuzz::Run({data, size});
  return 0;
}
