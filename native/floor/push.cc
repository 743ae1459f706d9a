#include "push.h"

#include <array>
#include <vector>

#include "clock.h"
#include "common/place_loop.h"
#include "pager.h"
#include "ram.h"

namespace postcopy::floor {

namespace {

// The batch size of our own source, and the receive buffer size of our own destination.
constexpr uint32_t kBatchPages = 128;
constexpr size_t kReceiveBytes = size_t{1} << 20;
constexpr size_t kStampBytes = 8;

size_t PackPage(uint8_t* to, uint64_t offset, const uint8_t* content) noexcept {
  if (IsZero(content, kTargetPageBytes)) {
    StoreBigEndian(to, offset | kFlagZero | kFlagContinue);
    to[kRecordHeaderBytes] = 0;
    return kZeroRecordBytes;
  }
  StoreBigEndian(to, offset | kFlagPage | kFlagContinue);
  CopyPage(to + kRecordHeaderBytes, content);
  return kPageRecordBytes;
}

class Destination {
 public:
  Destination(const Ram& ram, bool runs)
      : ram_(ram), runs_(runs), pager_(ram.address(), ram.length()), received_(ram.pages() / 8) {}

  // Places the complete records; returns their number.
  size_t Place(Incoming* in) { return runs_ ? PlaceRuns(in) : PlaceRecords(in); }

 private:
  size_t PlaceRecords(Incoming* in) const noexcept {
    size_t count = 0;
    Record record;
    for (size_t length = in->Peek(&record); length != 0; length = in->Peek(&record), ++count) {
      const uint64_t to = ram_.address() + record.offset;
      const uint64_t from =
          reinterpret_cast<uintptr_t>(in->bytes.data() + in->at + kRecordHeaderBytes);
      const long done = record.zero ? pager_.Zeropage(to, kTargetPageBytes, 0)
                                    : pager_.Copy(to, from, kTargetPageBytes, 0);
      if (done < 0) Die("A page could not be placed", -done);
      in->at += length;
    }
    return count;
  }

  size_t PlaceRuns(Incoming* in) noexcept {
    const Placed placed = PlaceLoop(pager_, ram_.address(), Bitmap(received_), in).Run();
    if (placed.stop == PlaceStop::kDuplicate) Die("A page was received twice: this is a bug.");
    if (placed.stop == PlaceStop::kIoctl) Die("A run of pages could not be placed", placed.error);
    return placed.normal + placed.zero;
  }

  const Ram& ram_;
  bool runs_;
  Pager pager_;
  std::vector<uint8_t> received_;  // only used by the placer of runs
};

}  // namespace

void PushSource(const Socket& socket, const PushOptions& options) {
  Ram ram(options.mib, options.zero_percent);
  ram.Fill();
  std::vector<uint8_t> batch(kBatchPages * kPageRecordBytes);
  socket.Tell();
  socket.Await();

  const uint64_t started = NowNs();
  for (uint32_t first = 0; first < ram.pages(); first += kBatchPages) {
    size_t bytes = 0;
    for (uint32_t page = first; page < first + kBatchPages; ++page) {
      bytes += PackPage(&batch[bytes], uint64_t{page} * kTargetPageBytes, ram.Page(page));
    }
    socket.Send(std::span(batch).first(bytes));
  }
  std::array<uint8_t, kStampBytes> stamp{};
  StoreBigEndian(stamp.data(), started);
  socket.Send(stamp);
}

void PushDestination(const Socket& socket, const PushOptions& options) {
  Ram ram(options.mib, options.zero_percent);
  ram.Populate();
  std::vector<uint8_t> buffer(kReceiveBytes);
  socket.Await();
  ram.Discard();
  Destination destination(ram, options.runs);
  socket.Tell();

  size_t have = 0;
  for (size_t placed = 0; placed < ram.pages();) {
    have += socket.ReceiveSome(std::span(buffer).subspan(have));
    Incoming in{.bytes = std::span(buffer).first(have), .used_length = ram.length()};
    placed += destination.Place(&in);
    have -= in.at;
    std::memmove(buffer.data(), buffer.data() + in.at, have);
  }
  const uint64_t ended = NowNs();

  // The remaining bytes are the start of the stamp.
  socket.Receive(std::span(buffer).subspan(have, kStampBytes - have));
  const double seconds = static_cast<double>(ended - LoadBigEndian(buffer.data())) / 1e9;
  for (uint32_t page = 0; page < ram.pages(); ++page) ram.Verify(page);
  std::printf("{\"seconds\":%.6f,\"gigabytesPerSecond\":%.6f}\n", seconds,
              static_cast<double>(ram.length()) / 1e9 / seconds);
}

}  // namespace postcopy::floor
