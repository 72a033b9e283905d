// SPDX-License-Identifier: Apache-2.0
// A pool of std::thread workers that live as long as it does.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#if defined(__linux__) && !defined(__ANDROID__)
#define PARE_PLACES_THREADS 1
#include <pthread.h>
#include <sched.h>
#endif

#include <pare/core/contract.hpp>
#include <pare/core/index.hpp>

namespace pare::inline PARE_ABI {

/// An execution of `threads` threads, the calling one included. `parallel` may be called from several threads (calls
/// wait for each other), but not from inside a body; from inside one of another pool only where pools are nested in one
/// order. A pool that a worker of another creates may use that worker's processor only.
///
/// Where it has as many threads as the program may use processors, each worker has one of its own (Linux), which
/// changes only when the caller comes to run there.
/// Parts are shared out in runs, the same ones to the same threads in each call, so that their data stays in the
/// caches; who is done early helps the others. A thread that finds nothing to do looks again for some 50 microseconds
/// before it sleeps: the layers of a network follow each other faster than a sleeper wakes. The caller waits for the
/// parts, not for the workers: one that the system did not let run delays nothing.
class thread_pool {
 public:
  /// Pre: threads >= 0; 0, which std::thread says where it does not know, counts as 1. Throws std::system_error where
  /// the system starts no more threads.
  explicit thread_pool(int threads = static_cast<int>(std::thread::hardware_concurrency())) {
    PARE_EXPECTS(threads >= 0, "thread_pool: the number of threads must not be negative");
    tickets_ = std::vector<ticket>(threads < 1 ? 1 : static_cast<std::size_t>(threads));
    struct unless_complete {
      thread_pool* pool;
      ~unless_complete() {
        if (pool != nullptr) pool->stop();
      }
    } started{this};
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { serve(static_cast<std::size_t>(i)); });
    started.pool = nullptr;
#if defined(PARE_PLACES_THREADS)
    places_ = sched_getaffinity(0, sizeof allowed_, &allowed_) == 0 && CPU_COUNT(&allowed_) > 1 &&
              threads >= CPU_COUNT(&allowed_);
    place_workers();
#endif
  }
  thread_pool(thread_pool const&) = delete;
  thread_pool& operator=(thread_pool const&) = delete;
  ~thread_pool() { stop(); }

  [[nodiscard]] int concurrency() const noexcept { return static_cast<int>(workers_.size()) + 1; }

  /// Pre: parts < 2^32. A body that throws beside others (memory may run out) ends the program: they would go on with
  /// what its caller had there.
  template <class Body>
  void parallel(index_t parts, Body&& body) {
    if (parts <= 1 || workers_.empty()) {
      for (index_t p = 0; p < parts; ++p) body(p);
      return;
    }
    std::lock_guard const one_call_at_a_time(calls_);
    place_workers();
    auto const generation = generation_.load(std::memory_order_relaxed) + 1;
    // No exchange of a ticket of the last generation succeeds from here on, so that who has seen the new parts, and
    // only then looks whether his part is among them, does nothing.
    for (ticket& t : tickets_) t.next.store(std::uint64_t{generation} << 32 | 0xffffffffu, std::memory_order_relaxed);
    call_.store([](void* b, index_t p) { (*static_cast<std::remove_reference_t<Body>*>(b))(p); },
                std::memory_order_relaxed);
    body_.store(const_cast<void*>(static_cast<void const*>(&body)), std::memory_order_relaxed);
    parts_.store(static_cast<std::uint64_t>(parts), std::memory_order_release);
    left_.store(static_cast<std::uint32_t>(parts), std::memory_order_relaxed);
    for (std::size_t i = 0; i < tickets_.size(); ++i)
      tickets_[i].next.store(std::uint64_t{generation} << 32 | first_part(i, static_cast<std::uint64_t>(parts)),
                             std::memory_order_release);
    generation_.store(generation, std::memory_order_release);
    generation_.notify_all();
    take_parts(generation, 0);
    for (std::uint32_t left = 1; left != 0;) left = changed(left_, left_.load(std::memory_order_acquire), 0);
  }

 private:
  using call_type = void (*)(void*, index_t);

  void stop() noexcept {
    stop_.store(true, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (std::thread& t : workers_) t.join();
  }

  /// Waits until `value` is no longer `old`, where that is not `wanted` already, and returns it.
  static std::uint32_t changed(std::atomic<std::uint32_t> const& value, std::uint32_t old, std::uint32_t wanted) {
    if (old == wanted) return old;
    for (int look = 0; look < 2000; ++look) {
      std::uint32_t const now = value.load(std::memory_order_acquire);
      if (now != old) return now;
      pause();
    }
    value.wait(old, std::memory_order_acquire);
    return value.load(std::memory_order_acquire);
  }
  static void pause() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
    asm volatile("yield");
#endif
  }

  /// The parts that a thread takes before it helps the others are [first_part(i), first_part(i + 1)): the same ones in
  /// each call of so many parts, so that their data stays in its caches.
  [[nodiscard]] std::uint64_t first_part(std::size_t thread, std::uint64_t parts) const noexcept {
    return parts * thread / tickets_.size();
  }
  /// Takes parts of one generation until none is left, a thread's own first. A ticket holds the generation and the next
  /// part of a thread: what was read of a generation that has ended meanwhile is thrown away, because then the exchange
  /// fails.
  void take_parts(std::uint32_t generation, std::size_t thread) noexcept {
    for (std::size_t i = 0; i < tickets_.size(); ++i) {
      std::size_t const of = (thread + i) % tickets_.size();
      for (;;) {
        std::uint64_t now = tickets_[of].next.load(std::memory_order_acquire);
        std::uint64_t const part = now & 0xffffffffu;
        if (now >> 32 != generation) return;
        if (part >= first_part(of + 1, parts_.load(std::memory_order_acquire))) break;
        call_type const call = call_.load(std::memory_order_relaxed);
        void* const body = body_.load(std::memory_order_relaxed);
        if (!tickets_[of].next.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) continue;
        call(body, static_cast<index_t>(part));
        if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_all();
      }
    }
  }
  /// Where the pool takes all processors that the program may use, the i-th worker stays on the i-th after the one that
  /// the caller runs on: some systems (virtual machines with two processors among them) leave all threads on one
  /// otherwise, and move the caller to a processor of which a worker only waits.
  void place_workers() noexcept {
#if defined(PARE_PLACES_THREADS)
    int const here = places_ ? sched_getcpu() : -1;
    if (here == here_ || here < 0 || !CPU_ISSET(here, &allowed_)) return;
    here_ = here;
    int cpu = here;
    for (std::thread& worker : workers_) {
      do cpu = (cpu + 1) % CPU_SETSIZE;
      while (!CPU_ISSET(cpu, &allowed_));
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      pthread_setaffinity_np(worker.native_handle(), sizeof one, &one);
    }
#endif
  }
  void serve(std::size_t thread) {
    std::uint32_t seen = 0;
    for (;;) {
      seen = changed(generation_, seen, seen + 1);
      if (stop_.load(std::memory_order_relaxed)) return;
      take_parts(seen, thread);
    }
  }

  struct alignas(64) ticket {
    std::atomic<std::uint64_t> next{0};
  };

  std::vector<ticket> tickets_;  // one a thread, the caller's first
  std::vector<std::thread> workers_;
  std::mutex calls_;
  std::atomic<std::uint32_t> generation_{0};
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> parts_{0};
  std::atomic<std::uint32_t> left_{0};
  std::atomic<call_type> call_{nullptr};
  std::atomic<void*> body_{nullptr};
#if defined(PARE_PLACES_THREADS)
  cpu_set_t allowed_{};  // when the pool was made
  bool places_ = false;
  int here_ = -1;  // where the caller was when workers were placed
#endif
};

}  // namespace pare::inline PARE_ABI

#undef PARE_PLACES_THREADS
