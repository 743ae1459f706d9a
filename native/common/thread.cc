#include "thread.h"

#include <signal.h>

#include <memory>
#include <utility>

namespace postcopy {

namespace {

constexpr size_t kStackBytes = size_t{256} * 1024;

struct Start {
  std::string name;
  std::function<void()> body;
};

void* Run(void* argument) {
  const std::unique_ptr<Start> start(static_cast<Start*>(argument));
  pthread_setname_np(pthread_self(), start->name.c_str());
  start->body();
  return nullptr;
}

int StartThread(const std::string& name, std::function<void()> body, int detach_state,
                pthread_t* thread) noexcept {
  // A thread name has at most 15 bytes; the kernel rejects longer ones.
  auto start = std::make_unique<Start>(Start{name.substr(0, 15), std::move(body)});
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, detach_state);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // the new thread inherits the mask
  const int error = pthread_create(thread, &attributes, Run, start.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (error == 0) static_cast<void>(start.release());  // the thread deletes it
  return -error;
}

}  // namespace

int StartDetachedThread(const std::string& name, std::function<void()> body) noexcept {
  pthread_t thread;
  return StartThread(name, std::move(body), PTHREAD_CREATE_DETACHED, &thread);
}

int StartJoinableThread(const std::string& name, std::function<void()> body,
                        pthread_t* thread) noexcept {
  return StartThread(name, std::move(body), PTHREAD_CREATE_JOINABLE, thread);
}

}  // namespace postcopy
