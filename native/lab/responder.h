// Threads that resolve faults natively, with each way of waiting for messages.
#pragma once

#include <node_api.h>

#include <atomic>
#include <cstdint>
#include <memory>

namespace postcopy::lab {

enum class Waiting : uint8_t { kBlocking = 0, kPoll = 1, kEpoll = 2, kBusy = 3 };

struct ResponderOptions {
  int fd = -1;
  Waiting waiting = Waiting::kBlocking;
  int cpu = -1;        // -1: any
  uint32_t batch = 1;  // messages per read, up to 64
  uint64_t page_bytes = 4096;
  uint64_t source = 0;  // content of missing pages; 0: UFFDIO_ZEROPAGE
};

// Fills missing faults, continues minor faults, unprotects write-protect faults; one page each.
class Responder {
 public:
  static constexpr napi_type_tag kTag = {0x706f7374636f7079, 0x6c61620000000002};

  // Its thread continues, and keeps a reference to the responder.
  static void Collect(const std::shared_ptr<Responder>&) noexcept {}

  explicit Responder(const ResponderOptions& options) noexcept : options_(options) {}

  void Run() noexcept;
  // Takes effect after the next message or soon; kBlocking needs that message.
  void Stop() noexcept { stop_.store(true); }

  std::atomic<int32_t> thread_id{0};
  std::atomic<uint64_t> messages{0};
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> refusals{0};
  std::atomic<int64_t> last_error{0};

 private:
  void Resolve(uint64_t flags, uint64_t address) noexcept;

  const ResponderOptions options_;
  std::atomic<bool> stop_{false};
};

}  // namespace postcopy::lab
