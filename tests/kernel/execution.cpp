// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <thread>
#include <vector>

#include <pare/kernel/matmul.hpp>
#include <pare/kernel/thread_pool.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::execution_ref;
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

TEST_CASE("thread_pool: survives many small pieces of work and being destroyed at once") {
  for (int i = 0; i < 50; ++i) thread_pool(4);
  thread_pool pool(4);
  bool good = true;
  for (int i = 0; i < 2000; ++i) good = good && runs_each_part_once(pool, i % 7);
  CHECK(good);
}

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
