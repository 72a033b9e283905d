// SPDX-License-Identifier: Apache-2.0
// Every selection against one brute-force reading of the count rule and the tie rule.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include <pare/format/bsr.hpp>
#include <pare/select/select.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::any_pattern;
using pare::extents;
using pare::index_t;
using pare::mask;
using pare::matrix;
using pare::matrix_span;
using pare::scope;
using pare::sparsity;
using pare::unstructured;

namespace {

struct unit {
  float score;
  std::size_t layer;
  index_t row, col;
};

/// Removes the first `removed` units of the pool in the documented order.
void remove_by_definition(std::vector<unit> pool, index_t removed, extents size, std::vector<mask>& masks) {
  // The pool is built in the order of (layer, row, column), which a stable sort keeps for ties.
  std::stable_sort(pool.begin(), pool.end(), [](unit const& a, unit const& b) { return a.score < b.score; });
  for (index_t i = 0; i < removed; ++i) {
    unit const& u = pool[static_cast<std::size_t>(i)];
    for (index_t r = 0; r < size.rows; ++r)
      for (index_t c = 0; c < size.cols; ++c) masks[u.layer].set(u.row * size.rows + r, u.col * size.cols + c, false);
  }
}

void add_units(std::vector<unit>& pool, matrix<float> const& scores, std::size_t layer, index_t first, index_t last,
               extents size) {
  for (index_t r = first; r < last; ++r)
    for (index_t c = 0; c < scores.cols() / size.cols; ++c) {
      float sum = 0.0f;
      for (index_t i = 0; i < size.rows; ++i)
        for (index_t j = 0; j < size.cols; ++j) sum += scores(r * size.rows + i, c * size.cols + j);
      pool.push_back({sum, layer, r, c});
    }
}

mask by_definition(matrix<float> const& scores, extents size, double s, scope where) {
  std::vector<mask> masks{mask(scores.shape(), true)};
  index_t const rows = scores.rows() / size.rows;
  index_t const step = where == scope::row ? 1 : rows;
  for (index_t r = 0; r < rows; r += step) {
    std::vector<unit> pool;
    add_units(pool, scores, 0, r, r + step, size);
    auto const removed = static_cast<index_t>(std::floor(s * static_cast<double>(pool.size())));
    remove_by_definition(pool, removed, size, masks);
  }
  return masks.front();
}

/// Few different values: many ties.
matrix<float> coarse_scores(pare::random_source& random, extents shape, index_t values) {
  matrix<float> m(shape);
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(random.below(values)) - 1.0f;
  return m;
}

constexpr double fractions[] = {0.0, 0.1, 0.29, 1.0 / 3.0, 0.5, 0.999, 1.0};

}  // namespace

TEST_CASE("select: removes exactly floor(s n) elements, for every n up to 200 and every scope") {
  pare::random_source random(21);
  for (index_t n = 0; n <= 200; ++n) {
    auto const scores = coarse_scores(random, {2, n}, 5);
    for (double const s : fractions) {
      auto const of_row = static_cast<index_t>(std::floor(s * static_cast<double>(n)));
      auto const of_matrix = static_cast<index_t>(std::floor(s * static_cast<double>(2 * n)));
      auto const rows = pare::select(scores, unstructured{}, sparsity{s}, scope::row);
      for (index_t r = 0; r < 2; ++r) REQUIRE(n - rows.row_count(r) == of_row);
      REQUIRE(2 * n - pare::select(scores, unstructured{}, sparsity{s}).count() == of_matrix);
    }
  }
}

TEST_CASE("select: of equal scores the lower (row, column) is removed first") {
  auto const keep = pare::select(matrix<float>(3, 4), unstructured{}, sparsity{0.5});
  for (index_t i = 0; i < 12; ++i) CHECK(keep(i / 4, i % 4) == (i >= 6));
  auto const per_row = pare::select(matrix<float>(3, 4), unstructured{}, sparsity{0.5}, scope::row);
  for (index_t i = 0; i < 12; ++i) CHECK(per_row(i / 4, i % 4) == (i % 4 >= 2));
}

TEST_CASE("select: agrees with the definition for elements and blocks, with and without ties") {
  pare::random_source random(22);
  extents const units[] = {{1, 1}, {4, 1}, {1, 4}, {2, 3}, {4, 4}, {12, 12}};
  for (extents const size : units)
    for (index_t const values : {2, 4, 1000000})
      for (double const s : fractions)
        for (scope const where : {scope::row, scope::matrix}) {
          auto const scores = coarse_scores(random, {24, 36}, values);
          INFO("unit " << size.rows << "x" << size.cols << " sparsity " << s << " values " << values);
          auto const keep = pare::select(scores, any_pattern(size, 0, 0), sparsity{s}, where);
          REQUIRE(keep == by_definition(scores, size, s, where));
          REQUIRE(pare::admits(any_pattern(size, 0, 0), keep));
        }
}

TEST_CASE("select: the type of a pattern and its run-time form give the same mask") {
  pare::random_source random(23);
  auto const scores = pare::test::random_matrix(random, {8, 24});
  CHECK(pare::select(scores, pare::block<4, 2>{}, sparsity{0.4}) ==
        pare::select(scores, any_pattern(pare::block<4, 2>{}), sparsity{0.4}));
  CHECK(pare::select(scores, pare::n_of_m<3, 8>{}) == pare::select(scores, any_pattern(pare::n_of_m<3, 8>{})));
}

TEST_CASE("select: every N:M with M up to 32 keeps the N highest of each M, ties by position") {
  pare::random_source random(24);
  for (index_t m = 2; m <= 32; ++m)
    for (index_t n = 1; n < m; ++n) {
      auto const scores = coarse_scores(random, {3, 4 * m}, 1 + random.below(2 * m));
      mask expected(scores.shape(), true);
      for (index_t r = 0; r < 3; ++r)
        for (index_t g = 0; g < 4 * m; g += m) {
          std::vector<unit> pool;
          for (index_t c = g; c < g + m; ++c) pool.push_back({scores(r, c), 0, r, c});
          std::vector<mask> one{expected};
          remove_by_definition(pool, m - n, {1, 1}, one);
          expected = one.front();
        }
      INFO(n << ":" << m);
      auto const keep = pare::select(scores, any_pattern({1, 1}, n, m));
      REQUIRE(keep == expected);
      REQUIRE(keep.count() == 3 * 4 * n);
    }
}

TEST_CASE("select: -Inf goes first, -0 and +0 are equal, Inf goes last") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  constexpr float tiny = std::numeric_limits<float>::denorm_min();
  std::array<float, 8> const values{inf, 0.0f, -0.0f, -inf, tiny, -tiny, std::numeric_limits<float>::lowest(), 1.0f};
  std::array<index_t, 8> const order{3, 6, 5, 1, 2, 4, 7, 0};
  matrix_span<float const> const scores(values.data(), 1, 8);
  mask expected({1, 8}, true);
  for (index_t removed = 0; removed <= 8; ++removed) {
    CHECK(pare::select(scores, unstructured{}, pare::exactly(removed, 8)) == expected);
    if (removed < 8) expected.set(0, order[static_cast<std::size_t>(removed)], false);
  }
}

TEST_CASE("select: scores are read through any strides") {
  pare::random_source random(25);
  auto const scores = pare::test::random_matrix(random, {12, 8});
  auto const t = scores.span().transposed();
  CHECK(pare::select(t, unstructured{}, sparsity{0.3}) ==
        pare::select(matrix<float>(t), unstructured{}, sparsity{0.3}));
  CHECK(pare::select(t, pare::n_of_m<2, 4>{}) == pare::select(matrix<float>(t), pare::n_of_m<2, 4>{}));
}

TEST_CASE("select: matrices without elements have masks without elements") {
  for (extents const s : {extents{0, 0}, extents{0, 8}, extents{8, 0}}) {
    CHECK(pare::select(matrix<float>(s), unstructured{}, sparsity{0.5}).shape() == s);
    CHECK(pare::select(matrix<float>(s), unstructured{}, sparsity{0.5}, scope::row).shape() == s);
    CHECK(pare::select(matrix<float>(s), pare::n_of_m<2, 4>{}).shape() == s);
    CHECK(pare::select(matrix<float>(s), pare::block<4, 4>{}, sparsity{1.0}).shape() == s);
  }
}

TEST_CASE("select: rows that share an N:M choice keep the inputs whose scores sum highest") {
  matrix<float> scores(4, 4);
  float const values[] = {5, 1, 2, 0,  // rows 0 and 1 share: sums 5 7 3 9
                          0, 6, 1, 9,  //
                          1, 2, 8, 7,  // rows 2 and 3: sums 1 2 8 8, and of equal ones the first goes
                          0, 0, 0, 1};
  for (index_t i = 0; i < 16; ++i) scores.data()[i] = values[i];
  auto const keep = pare::select(scores, pare::n_of_m<1, 2, 2>{});
  CHECK(pare::admits(pare::n_of_m<1, 2, 2>{}, keep));
  CHECK(keep.count() == 8);
  for (index_t const r : {0, 1}) CHECK((keep(r, 1) && keep(r, 3)));
  for (index_t const r : {2, 3}) CHECK((keep(r, 1) && keep(r, 3)));
  CHECK(pare::compress<pare::bsr<2, 1, float>>(scores, keep).full_blocks());
  CHECK_FALSE(pare::admits(pare::n_of_m<1, 2, 2>{}, pare::select(scores, pare::n_of_m<1, 2>{})));
  CHECK_THROWS_AS(pare::select(matrix<float>(3, 4), pare::n_of_m<1, 2, 2>{}), pare::contract_violation);
}

TEST_CASE("select: what has no answer is a contract violation") {
  matrix<float> scores(4, 6);
  CHECK_THROWS_AS(pare::select(scores, pare::n_of_m<2, 4>{}), pare::contract_violation);
  CHECK_THROWS_AS(pare::select(scores, pare::block<4, 4>{}, sparsity{0.5}), pare::contract_violation);
  CHECK_THROWS_AS(pare::select(scores, any_pattern({1, 1}, 1, 2), sparsity{0.5}), pare::contract_violation);
  CHECK_THROWS_AS(pare::select(scores, any_pattern()), pare::contract_violation);
  CHECK_THROWS_AS(pare::select(scores, unstructured{}, sparsity{0.5}, scope::network), pare::contract_violation);
  scores(3, 5) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(pare::select(scores, unstructured{}, sparsity{0.5}), pare::contract_violation);
  CHECK_THROWS_AS(pare::select(scores, pare::n_of_m<1, 2>{}), pare::contract_violation);
  scores(3, 5) = std::numeric_limits<float>::infinity();
  scores(2, 5) = -std::numeric_limits<float>::infinity();
  CHECK_NOTHROW(pare::select(scores, unstructured{}, sparsity{0.5}));
  CHECK_THROWS_AS(pare::select(scores, pare::block<2, 1>{}, sparsity{0.5}), pare::contract_violation);  // Inf - Inf
}

TEST_CASE("unit_scores: are the sums over the blocks") {
  matrix<float> scores(2, 4);
  for (index_t i = 0; i < 8; ++i) scores.data()[i] = static_cast<float>(i);
  auto const sums = pare::unit_scores(scores.span(), pare::block<2, 2>{});
  CHECK(sums.shape() == extents{1, 2});
  CHECK(sums(0, 0) == 10.0f);
  CHECK(sums(0, 1) == 18.0f);
}

TEST_CASE("exactly: the count rule gives back the count, for all counts and large n") {
  for (index_t n = 0; n <= 300; ++n)
    for (index_t k = 0; k <= n; ++k) REQUIRE(pare::exactly(k, n).removed_of(n) == k);
  for (index_t const n : {index_t{1} << 24, (index_t{1} << 31) + 7, (index_t{1} << 40) + 1})
    for (index_t const k : {index_t{0}, index_t{1}, n / 3, n / 2 + 1, n - 1, n})
      REQUIRE(pare::exactly(k, n).removed_of(n) == k);
}

TEST_CASE("select_network: one pool over all layers, exact, ties by layer before row and column") {
  pare::random_source random(26);
  for (extents const size : {extents{1, 1}, extents{2, 2}})
    for (index_t const values : {1, 3, 1000000})
      for (double const s : fractions) {
        std::vector<matrix<float>> layers;
        for (extents const shape : {extents{4, 6}, extents{10, 2}, extents{2, 2}, extents{6, 8}})
          layers.push_back(coarse_scores(random, shape, values));
        std::vector<matrix_span<float const>> views;
        std::vector<mask> expected;
        std::vector<unit> pool;
        for (std::size_t l = 0; l < layers.size(); ++l) {
          views.push_back(std::as_const(layers[l]).span());
          expected.emplace_back(layers[l].shape(), true);
          add_units(pool, layers[l], l, 0, layers[l].rows() / size.rows, size);
        }
        auto const removed = static_cast<index_t>(std::floor(s * static_cast<double>(pool.size())));
        remove_by_definition(pool, removed, size, expected);
        INFO("sparsity " << s << " values " << values);
        REQUIRE(pare::select_network(views, any_pattern(size, 0, 0), sparsity{s}) == expected);
      }
}
