// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <chrono>
#include <exception>
#include <fstream>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__) && !defined(__ANDROID__)
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <pare/kernel/matmul.hpp>
#include <pare/kernel/thread_pool.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::execution_ref;
using pare::extents;
using pare::index_t;
using pare::matrix;
using pare::thread_pool;

namespace {

/// Every part runs once and is done when parallel() returns.
template <class E>
bool runs_each_part_once(E& exec, index_t parts) {
  std::vector<std::atomic<int>> runs(static_cast<std::size_t>(parts));
  exec.parallel(parts, [&](index_t p) { ++runs[static_cast<std::size_t>(p)]; });
  for (auto const& n : runs)
    if (n != 1) return false;
  return true;
}

/// Counts how often it is asked, and runs the parts backwards.
struct backwards {
  int calls = 0;
  [[nodiscard]] int concurrency() const noexcept { return 3; }
  template <class Body>
  void parallel(index_t parts, Body&& body) {
    ++calls;
    for (index_t p = parts; p-- > 0;) body(p);
  }
};

/// Runs something else after each part, as a thread of a scheduler may.
template <class F>
struct interrupted {
  F between;
  [[nodiscard]] int concurrency() const noexcept { return 2; }
  template <class Body>
  void parallel(index_t parts, Body&& body) {
    for (index_t p = 0; p < parts; ++p) {
      body(p);
      between();
    }
  }
};

}  // namespace

TEST_CASE("execution: every kind runs each part exactly once") {
  pare::sequential one;
  execution_ref none;
  for (index_t const parts : {0, 1, 2, 3, 7, 100, 1000}) {
    CHECK(runs_each_part_once(one, parts));
    CHECK(runs_each_part_once(none, parts));
    for (int threads = 0; threads <= 5; ++threads) {
      thread_pool pool(threads);
      CHECK(pool.concurrency() == std::max(threads, 1));
      CHECK(runs_each_part_once(pool, parts));
      execution_ref ref(pool);
      CHECK(ref.concurrency() == pool.concurrency());
      CHECK(runs_each_part_once(ref, parts));
    }
  }
  CHECK_THROWS_AS(thread_pool(-1), pare::contract_violation);
}

#if defined(__linux__) && !defined(__ANDROID__)
TEST_CASE("thread_pool: where the system starts no more threads, it says so, and the others end") {
  rlim_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlim_t const used = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
  if (used == 0 || used > rlim_t{1} << 38) {
    WARN("skipped: the address space of this program cannot be limited (sanitizers reserve much of it)");
    return;
  }
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  rlimit const little{used + (rlim_t{512} << 20), before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_AS, &little) == 0);
  bool refused = false;
  try {
    thread_pool pool(5000);
  } catch (std::system_error const&) {
    refused = true;
  }
  REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
  CHECK(refused);
}
#endif

TEST_CASE("thread_pool: survives many small pieces of work and being destroyed at once") {
  for (int i = 0; i < 50; ++i) thread_pool(4);
  thread_pool pool(4);
  bool good = true;
  for (int i = 0; i < 300000; ++i) good = good && runs_each_part_once(pool, i % 7);  // so many to meet rare orders
  CHECK(good);
}

#if defined(__linux__) && !defined(__ANDROID__)
TEST_CASE(
    "thread_pool: a body that throws on the caller's thread ends the program before a worker reads what is gone") {
  pid_t const child = fork();
  if (child == 0) {
    std::set_terminate([] { _exit(42); });
    try {
      thread_pool pool(2);
      auto const caller = std::this_thread::get_id();
      pool.parallel(2, [&](index_t) {
        if (std::this_thread::get_id() == caller) throw std::bad_alloc();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));  // so that the caller takes a part too
      });
    } catch (std::bad_alloc const&) {
    }
    _exit(0);
  }
  REQUIRE(child > 0);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 42));
}

TEST_CASE("thread_pool: a worker leaves the processor that the caller comes to") {
  cpu_set_t allowed;
  REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  if (CPU_COUNT(&allowed) != 2) return;  // with more, a third one may be where the caller goes
  thread_pool pool(2);
  for (int move = 0; move < 3; ++move)
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
      std::atomic<int> arrived{0};
      std::atomic<int> here{0};
      auto const caller = std::this_thread::get_id();
      // Each part waits for the other one, so that both threads take one.
      auto const deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
      pool.parallel(2, [&](index_t) {
        if (std::this_thread::get_id() != caller && sched_getcpu() == cpu) ++here;
        ++arrived;
        while (arrived < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
      });
      CHECK(here == 0);
    }
  CHECK(sched_setaffinity(0, sizeof allowed, &allowed) == 0);
}
#endif

TEST_CASE("thread_pool: calls from several threads wait for each other") {
  thread_pool pool(3);
  std::atomic<int> failures{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t)
    callers.emplace_back([&] {
      for (int i = 0; i < 300; ++i)
        if (!runs_each_part_once(pool, 1 + i % 9)) ++failures;
    });
  for (auto& t : callers) t.join();
  CHECK(failures == 0);
}

TEST_CASE("matmul: two threads that share a pool and an operand get the same bits as one") {
  pare::random_source random(91);
  auto const w = pare::test::random_matrix(random, {90, 200});
  auto const sparse = pare::compress<pare::bitmap<float>>(w, pare::test::random_mask(random, {90, 200}, 0.5f));
  pare::dense<float> const dense(w);
  auto const x = pare::test::random_matrix(random, {200, 75});
  matrix<float> by_sparse(90, 75);
  matrix<float> by_dense(90, 75);
  pare::matmul(sparse, x, by_sparse);
  pare::matmul(dense, x, by_dense);

  thread_pool pool(2);
  std::atomic<int> failures{0};
  auto const work = [&](auto const& operand, matrix<float> const& expected) {
    for (int i = 0; i < 40; ++i) {
      matrix<float> y(90, 75);
      execution_ref exec(pool);
      pare::matmul(operand, x, y, pare::identity{}, exec);
      if (!pare::test::same_bits(y, expected)) ++failures;
    }
  };
  std::thread a([&] { work(sparse, by_sparse); });
  std::thread b([&] { work(dense, by_dense); });
  a.join();
  b.join();
  CHECK(failures == 0);
}

TEST_CASE("matmul: asks an execution only for products worth it, and does not mind the order of the parts") {
  pare::random_source random(92);
  auto const w = pare::test::random_matrix(random, {61, 150});
  auto const sparse = pare::compress<pare::bitmap<float>>(w, pare::test::random_mask(random, {61, 150}, 0.5f));
  backwards exec;
  execution_ref ref(exec);
  for (index_t const n : {2, 140}) {
    auto const x = pare::test::random_matrix(random, {150, n});
    matrix<float> expected(61, n);
    matrix<float> y(61, n);
    pare::matmul(sparse, x, expected);
    pare::matmul(sparse, x, y, pare::identity{}, ref);
    CHECK(pare::test::same_bits(y, expected));
    CHECK((exec.calls > 0) == (sparse.nnz() * n >= pare::detail::parallel_threshold));
  }
}

TEST_CASE("pack_panel: in parts it packs what it packs at once") {
  using arch = pare::simd::default_arch;
  pare::random_source random(94);
  for (index_t const inputs : {0, 1, 63, 64, 65, 200})
    for (index_t const block : {0, 64, 128})
      for (bool const token_major : {false, true}) {
        index_t const width = 32;
        index_t const count = 21;
        auto const values = pare::test::random_matrix(random, {inputs, 40});
        matrix<float> const turned(values.span().transposed());
        auto const x = token_major ? turned.span().transposed() : values.span();
        auto const packed = [&](index_t parts) {
          matrix<float> out(pare::detail::panel_rows(inputs, block), width);
          for (index_t i = 0; i < out.size(); ++i) out.data()[i] = -7.0f;
          index_t const step = pare::detail::panel_step(block);
          index_t const steps = pare::ceil_div(inputs, step);
          for (index_t p = parts; p-- > 0;) {
            index_t const end = p + 1 < parts ? steps * (p + 1) / parts * step : inputs;
            pare::detail::pack_panel<arch>(x, steps * p / parts * step, end, 5, count, width, block, out.data());
          }
          return out;
        };
        auto const whole = packed(1);
        INFO(inputs << " inputs, blocks of " << block << ", token-major " << token_major);
        for (index_t k = 0; k < inputs; ++k)
          for (index_t j = 0; j < width; ++j)
            REQUIRE(whole(pare::detail::panel_row(k, block), j) == (j < count ? x(k, 5 + j) : 0.0f));
        for (index_t row = 0; row < whole.rows() && block != 0; row += block + 1)
          for (index_t j = 0; j < width; ++j) REQUIRE(whole(row, j) == 0.0f);
        for (index_t const parts : {2, 3})
          if (parts <= pare::ceil_div(inputs, pare::detail::panel_step(block)))
            REQUIRE(pare::test::same_bits(packed(parts), whole));
      }
}

TEST_CASE("matmul: the same bits for any number of threads, both layouts, every operand for many columns") {
  pare::random_source random(95);
  extents const shape{530, 330};
  auto const w = pare::test::random_matrix(random, shape);
  auto const format = pare::compress<pare::bitmap<float>>(w, pare::test::random_mask(random, shape, 0.4f));
  auto const wide = pare::test::random_matrix(random, {330, 140});
  matrix<float> const tokens(wide.span().transposed());
  auto const check = [&]<class O>() {
    O const operand = pare::lay_out<O>(format, pare::machine_for<O>(), 140);
    matrix<float> expected(530, 140);
    pare::matmul(operand, wide, expected);
    for (int const threads : {2, 3, 5}) {
      INFO(O::name() << " on " << threads << " threads");
      thread_pool pool(threads);
      matrix<float> y(530, 140);
      pare::matmul(operand, wide, y, pare::identity{}, pool);
      REQUIRE(pare::test::same_bits(y, expected));
      matrix<float> z(140, 530);
      pare::matmul(operand, tokens.span().transposed(), z.span().transposed(), pare::identity{}, pool);
      REQUIRE(pare::test::same_bits(matrix<float>(z.span().transposed()), expected));
    }
  };
  pare::type_list<pare::row_pairs<float>, pare::sliced_ell<float>, pare::dense_tiles<float>>::for_each(check);
}

TEST_CASE("split_rows: equal blocks are shared out equally") {
  // 16 blocks of rows that differ by little: two for each of eight runs, never three for one.
  pare::random_source random(96);
  extents const shape{4096, 128};
  auto const keep = pare::test::random_mask(random, shape, 0.3f);
  auto const format = pare::compress<pare::bitmap<float>>(pare::test::random_matrix(random, shape), keep);
  auto machine = pare::machine_for<pare::row_pairs<float>>();
  machine.intel = false;
  pare::row_pairs<float> const w(format, machine);
  REQUIRE(w.block_rows() == 256);
  index_t ends[9];
  REQUIRE(pare::detail::split_rows<pare::simd::default_arch>(w, 8, ends) == 8);
  for (index_t i = 0; i <= 8; ++i) CHECK(ends[i] == 512 * i);
}

TEST_CASE("split_rows: runs follow each other, cover all rows, and are balanced on stored elements") {
  pare::random_source random(93);
  for (index_t const rows : {0, 1, 2, 17, 300})
    for (index_t const parts : {1, 2, 3, 8, 256})
      for (float const density : {0.0f, 0.3f}) {
        auto keep = pare::test::random_mask(random, {rows, 64}, density);
        if (rows > 4)
          for (index_t c = 0; c < 64; ++c) keep.set(1, c);  // one heavy row
        auto const w = pare::compress<pare::csr<float>>(matrix<float>(rows, 64), keep);
        std::vector<index_t> ends(static_cast<std::size_t>(parts) + 1, -1);
        index_t const count = pare::detail::split_rows<pare::simd::default_arch>(w, parts, ends.data());
        REQUIRE((count <= parts && ends[0] == 0));
        for (index_t p = 0; p < count; ++p) {
          auto const i = static_cast<std::size_t>(p);
          REQUIRE(ends[i] < ends[i + 1]);
          index_t weight = 0;
          for (index_t r = ends[i]; r < ends[i + 1]; ++r) weight += w.row_nnz(r) + 1;
          // Never more than its share and one row above it.
          REQUIRE(weight <= (w.nnz() + rows) / parts + 1 + 2 * 65);
        }
        REQUIRE(ends[static_cast<std::size_t>(count)] == rows);
      }
}

TEST_CASE("matmul: a thread whose working memory something else has used packs X again") {
  pare::random_source random(71);
  extents const shape{1024, 128};
  index_t const n = 33;
  auto const format = pare::compress<pare::bitmap<float>>(pare::test::random_matrix(random, shape),
                                                          pare::test::random_mask(random, shape, 0.5f));
  pare::row_pairs<float> const w(format, pare::machine_for<pare::row_pairs<float>>());
  matrix<float> const x = pare::test::random_matrix(random, {shape.cols, n});
  matrix<float> const other_x = pare::test::random_matrix(random, {shape.cols, n});
  matrix<float> expected(shape.rows, n);
  matrix<float> y(shape.rows, n);
  matrix<float> other_y(shape.rows, n);
  pare::matmul(w, x, expected);
  auto const other = [&] { pare::matmul(w, other_x, other_y); };
  pare::matmul(w, x, y, pare::identity{}, interrupted<decltype(other)>{other});
  CHECK(pare::test::same_bits(y, expected));
}
