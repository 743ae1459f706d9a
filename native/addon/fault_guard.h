// Ends a process in which a thread waits for a page that no thread will place.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/sys.h"
#include "common/thread.h"

namespace postcopy {

// Runs a native thread, which sleeps until Begin(). From then on it reads the messages of the
// userfaultfd. It places pages that were received as zeros, for all threads. It ends the process
// when the guarded thread waits for a page that was not received. Other threads that wait for such
// a page stay blocked: the next thread that serves faults has to wake all ranges.
//
// The thread is started in advance: the worker that it replaces may end when no thread can be made,
// and without running JavaScript again.
class FaultGuard {
 public:
  static constexpr napi_type_tag kTag = {0x706f7374636f7079, 0x6775617264000001};

  // Called when the environment that served faults has ended without Stop().
  static void Collect(const std::shared_ptr<FaultGuard>& guard) noexcept { guard->Begin(); }

  // 0 or -errno. `fd` must stay open until Stop() has returned.
  static long Start(int fd, uint32_t thread_id, std::shared_ptr<FaultGuard>* out);

  FaultGuard(const FaultGuard&) = delete;
  FaultGuard& operator=(const FaultGuard&) = delete;
  ~FaultGuard() { Stop(); }

  // Pages of the range: a bitmap of the environment that serves faults. Begin() copies it.
  struct PageSet {
    std::span<const uint8_t> live;
    std::vector<uint8_t> copy;

    void Freeze() noexcept;
    bool HasAll(uint64_t page, uint64_t pages) const noexcept;
  };

  struct Range {
    uint64_t length;
    uint64_t page_size;
    std::string before;
    std::string after;
    PageSet received;
    PageSet zeroed;  // received as zeros, may still be missing
  };

  // Adds a range, or replaces one with the same start. The message for a page of it is `before`,
  // the offset in the range, `after`. Its bitmaps must stay valid until Begin() or Stop().
  void Describe(uint64_t start, Range range);
  // Does nothing after Stop().
  void Begin() noexcept;
  // Returns when the thread has ended. May be called by several threads.
  void Stop() noexcept;

 private:
  enum class State : uint8_t { kIdle, kBegun, kStopped };

  FaultGuard(int fd, UniqueFd event, uint32_t thread_id) noexcept
      : fd_(fd), event_(std::move(event)), thread_id_(thread_id) {}

  void Enter(State state) noexcept;
  void Run() noexcept;
  State AwaitChange() noexcept;
  void WakeAll() noexcept;
  void ReadMessages() noexcept;
  void Serve(uint64_t address, uint32_t thread_id) noexcept;
  bool PlaceZeros(uint64_t page, uint64_t page_size) const noexcept;
  bool Wake(uint64_t start, uint64_t length) const noexcept;

  const int fd_;
  const UniqueFd event_;
  const uint32_t thread_id_;
  pthread_t thread_{};
  std::once_flag joined_;
  std::mutex mutex_;  // guards the members below
  State state_ = State::kIdle;
  std::map<uint64_t, Range> ranges_;  // by start
  std::vector<uint8_t> zeros_;        // as long as the largest page
};

}  // namespace postcopy
