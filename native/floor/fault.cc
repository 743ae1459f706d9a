#include "fault.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "clock.h"
#include "pager.h"
#include "ram.h"

namespace postcopy::floor {

namespace {

using Request = std::array<uint8_t, 16>;
using PageRecord = std::array<uint8_t, kPageRecordBytes>;

// MIG_RP_MSG_REQ_PAGES, length of the rest, u64 BE start, u32 BE length: one page.
constexpr Request kRequest = {0, 4, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0};
constexpr size_t kStartAt = 4;
constexpr int kSilenceMs = 30'000;

// Distinct pages in a random order that is the same in every run.
std::vector<uint32_t> RandomPages(uint32_t pages, size_t count) {
  std::vector<uint32_t> order(pages);
  std::iota(order.begin(), order.end(), 0U);
  // NOLINTNEXTLINE(cert-msc32-c,cert-msc51-cpp): the same order is what makes runs comparable
  std::shuffle(order.begin(), order.end(), std::mt19937_64(1));
  order.resize(count);
  return order;
}

class Responder {
 public:
  Responder(const Ram& ram, const Pager& pager, const Socket& socket) noexcept
      : ram_(ram), pager_(pager), socket_(socket) {}

  // Serves faults until `count` pages are placed.
  void Serve(size_t count) noexcept {
    std::array<pollfd, 2> ready{{{.fd = pager_.fd(), .events = POLLIN, .revents = 0},
                                 {.fd = socket_.fd(), .events = POLLIN, .revents = 0}}};
    while (placed_ < count) {
      const int result = ::poll(ready.data(), ready.size(), kSilenceMs);
      if (result < 0) Die("poll(2)", errno);
      if (result == 0) Die("Neither a page fault nor a page was received for 30 seconds.");
      if (ready[0].revents != 0) RequestPage();
      if (ready[1].revents != 0) PlacePage();
    }
  }

 private:
  void RequestPage() const noexcept {
    uapi::UffdMsg fault{};
    if (::read(pager_.fd(), &fault, sizeof fault) != sizeof fault) Die("userfaultfd", errno);
    const uint64_t offset = fault.arg.pagefault.address - ram_.address();
    Request request = kRequest;
    StoreBigEndian(&request[kStartAt], offset - offset % kTargetPageBytes);
    socket_.Send(request);
  }

  void PlacePage() noexcept {
    have_ += socket_.ReceiveSome(std::span(answer_).subspan(have_));
    if (have_ < answer_.size()) return;
    have_ = 0;
    Record record;
    if (ParseRecord(answer_, ram_.length(), &record) != answer_.size()) {
      Die("The source answered with something else than a page: this is a bug.");
    }
    const uint64_t from = reinterpret_cast<uintptr_t>(&answer_[kRecordHeaderBytes]);
    const long done = pager_.Copy(ram_.address() + record.offset, from, kTargetPageBytes, 0);
    if (done < 0) Die("A page could not be placed", -done);
    ++placed_;
  }

  const Ram& ram_;
  const Pager& pager_;
  const Socket& socket_;
  PageRecord answer_{};
  size_t have_ = 0;
  size_t placed_ = 0;
};

// The smallest sample such that at least `part` of all samples do not exceed it.
double QuantileUs(const std::vector<uint64_t>& sorted_ns, double part) noexcept {
  const double rank = std::ceil(part * static_cast<double>(sorted_ns.size()));
  return static_cast<double>(sorted_ns[static_cast<size_t>(std::max(rank, 1.0)) - 1]) / 1e3;
}

void Print(std::vector<uint64_t> samples_ns) {
  std::sort(samples_ns.begin(), samples_ns.end());
  std::printf("{\"p50Us\":%.3f,\"p99Us\":%.3f,\"p999Us\":%.3f,\"maxUs\":%.3f,\"quantilesUs\":[",
              QuantileUs(samples_ns, 0.5), QuantileUs(samples_ns, 0.99),
              QuantileUs(samples_ns, 0.999), QuantileUs(samples_ns, 1));
  constexpr int kSteps = 200;
  for (int step = 0; step <= kSteps; ++step) {
    std::printf("%s%.3f", step == 0 ? "" : ",",
                QuantileUs(samples_ns, static_cast<double>(step) / kSteps));
  }
  std::printf("]}\n");
}

}  // namespace

void FaultSource(const Socket& socket, const FaultOptions& options) {
  Ram ram(options.mib, 0);
  ram.Fill();
  Request request{};
  PageRecord answer{};
  socket.Tell();
  for (size_t i = 0; i < options.count; ++i) {
    socket.Receive(request);
    const uint64_t offset = LoadBigEndian(&request[kStartAt]);
    if (offset % kTargetPageBytes != 0 || offset >= ram.length()) {
      Die("The destination asked for a page that there is not: this is a bug.");
    }
    StoreBigEndian(answer.data(), offset | kFlagPage | kFlagContinue);
    CopyPage(&answer[kRecordHeaderBytes],
             ram.Page(static_cast<uint32_t>(offset / kTargetPageBytes)));
    socket.Send(answer);
  }
}

void FaultDestination(const Socket& socket, const FaultOptions& options) {
  Ram ram(options.mib, 0);
  ram.Populate();
  const std::vector<uint32_t> pages = RandomPages(ram.pages(), options.count);
  std::vector<uint64_t> waited_ns(options.count);
  socket.Await();
  ram.Discard();
  const Pager pager(ram.address(), ram.length());

  std::thread toucher([&] {
    for (size_t i = 0; i < pages.size(); ++i) {
      const uint64_t from = NowNs();
      ram.Touch(pages[i]);
      waited_ns[i] = NowNs() - from;
    }
  });
  Responder(ram, pager, socket).Serve(options.count);
  toucher.join();

  for (const uint32_t page : pages) ram.Verify(page);
  Print(std::move(waited_ns));
}

}  // namespace postcopy::floor
