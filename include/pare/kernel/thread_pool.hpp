// SPDX-License-Identifier: Apache-2.0
// A pool of std::thread workers that live as long as it does.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include <pare/core/contract.hpp>
#include <pare/core/index.hpp>

namespace pare::inline PARE_ABI {

/// An execution of `threads` threads, the calling one included. `parallel` may be called from several threads (calls
/// wait for each other), but not from inside a body.
class thread_pool {
 public:
  /// Pre: threads >= 0; 0, which std::thread says where it does not know, counts as 1.
  explicit thread_pool(int threads = static_cast<int>(std::thread::hardware_concurrency())) {
    PARE_EXPECTS(threads >= 0, "thread_pool: the number of threads must not be negative");
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { serve(); });
  }
  thread_pool(thread_pool const&) = delete;
  thread_pool& operator=(thread_pool const&) = delete;
  ~thread_pool() {
    {
      std::lock_guard const lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : workers_) t.join();
  }

  [[nodiscard]] int concurrency() const noexcept { return static_cast<int>(workers_.size()) + 1; }

  template <class Body>
  void parallel(index_t parts, Body&& body) {
    if (parts <= 1 || workers_.empty()) {
      for (index_t p = 0; p < parts; ++p) body(p);
      return;
    }
    std::lock_guard const one_call_at_a_time(calls_);
    {
      std::lock_guard const lock(mutex_);
      call_ = [](void* b, index_t p) { (*static_cast<std::remove_reference_t<Body>*>(b))(p); };
      body_ = const_cast<void*>(static_cast<void const*>(&body));
      parts_ = parts;
      next_.store(0, std::memory_order_relaxed);
      busy_ = static_cast<int>(workers_.size());
      ++generation_;
    }
    wake_.notify_all();
    take_parts(call_, body_, parts);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  using call_type = void (*)(void*, index_t);

  void take_parts(call_type call, void* body, index_t parts) {
    for (index_t p = next_.fetch_add(1); p < parts; p = next_.fetch_add(1)) call(body, p);
  }
  void serve() {
    unsigned seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      seen = generation_;
      call_type const call = call_;
      void* const body = body_;
      index_t const parts = parts_;
      lock.unlock();
      take_parts(call, body, parts);
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::vector<std::thread> workers_;
  std::mutex calls_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  std::atomic<index_t> next_{0};
  call_type call_ = nullptr;
  void* body_ = nullptr;
  index_t parts_ = 0;
  int busy_ = 0;
  unsigned generation_ = 0;
  bool stop_ = false;
};

}  // namespace pare::inline PARE_ABI
