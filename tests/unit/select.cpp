// SPDX-License-Identifier: Apache-2.0
// Every selection against one brute-force reading of the count rule and the tie rule.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <pare/format/bsr.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/random_score.hpp>
#include <pare/score/ria.hpp>
#include <pare/score/wanda.hpp>
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

TEST_CASE("select: scores of every size: the order of floats, whatever their bits") {
  pare::random_source random(27);
  for (extents const shape : {extents{1, 700}, extents{37, 19}, extents{64, 64}}) {
    matrix<float> scores(shape);
    for (index_t i = 0; i < shape.size(); ++i) {
      auto bits = static_cast<std::uint32_t>(random.bits());
      if (i % 3 == 0) bits &= 0x807fffffu;                           // denormals and zeros
      if (i % 5 == 0) bits = (bits & 0x800007ffu) | 0x3f800000u;     // differ in the last bits only
      if ((bits & 0x7f800000u) == 0x7f800000u) bits &= 0xff800000u;  // no NaN
      scores.data()[i] = std::bit_cast<float>(bits);
    }
    for (double const s : fractions)
      for (scope const where : {scope::row, scope::matrix})
        CHECK(pare::select(scores, unstructured{}, sparsity(s), where) == by_definition(scores, {1, 1}, s, where));
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

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Scores that a search by sampling and interpolation may take for others: n of the given kind.
matrix<float> hard_scores(pare::random_source& random, int kind, index_t n) {
  matrix<float> m(1, n);
  for (index_t i = 0; i < n; ++i) {
    float& x = m.data()[i];
    auto const bits = static_cast<std::uint32_t>(random.bits());
    switch (kind) {
      case 0:  // as scores of weights are
        x = std::abs(random.normal());
        break;
      case 1:  // any float but NaN
        x = std::bit_cast<float>(bits);
        if (x != x) x = (bits & 1u) != 0 ? infinity : -infinity;
        break;
      case 2:  // zeros of both signs, and denormal numbers of both signs around them
        x = static_cast<float>(random.below(5) - 2) * std::numeric_limits<float>::denorm_min();
        if (x == 0.0f && (bits & 1u) != 0) x = -0.0f;
        break;
      case 3:  // ascending, so that samples are not alike
        x = static_cast<float>(i);
        break;
      case 4:  // descending over all magnitudes
        x = std::ldexp(1.0f, static_cast<int>(120 - i % 240));
        break;
      case 5:  // most are equal; the others are far off
        x = random.below(50) == 0 ? random.normal() * 1e30f : 1.0f;
        break;
      case 6:  // neighbours: every key of a narrow range, often
        x = std::bit_cast<float>(0xbf800000u + (bits & 7u));
        break;
      case 7:  // half infinite
        x = (bits & 1u) != 0 ? infinity : (bits & 2u) != 0 ? -infinity : random.normal();
        break;
      default:  // ever denser towards 1 from below: the density has no scale
        x = 1.0f - std::ldexp(random.uniform(), -static_cast<int>(random.below(24)));
    }
  }
  return m;
}
constexpr int kinds = 9;

}  // namespace

TEST_CASE("select: is exact in pools that are searched by sample, whatever the scores") {
  pare::random_source random(27);
  for (int kind = 0; kind < kinds; ++kind)
    for (index_t const n : {63, 64, 65, 127, 128, 129, 1000, 4099, 20000}) {
      auto const scores = hard_scores(random, kind, n);
      auto const as_columns = matrix_span<float const>(scores.data(), n, 1);
      index_t const drawn = random.below(n + 1);
      for (index_t const k : {index_t{0}, index_t{1}, n / 64, n / 3, n / 2, drawn, n - n / 64, n - 1, n}) {
        sparsity const s = pare::exactly(k, n);
        INFO("kind " << kind << ", " << k << " of " << n);
        mask const expected = by_definition(scores, {1, 1}, s.value, scope::matrix);
        REQUIRE(n - expected.count() == k);
        REQUIRE(pare::select(scores, unstructured{}, s, scope::row) == expected);
        REQUIRE(pare::select(scores, unstructured{}, s) == expected);
        auto const column = pare::select(as_columns, unstructured{}, s);  // one score a row
        for (index_t i = 0; i < n; ++i) REQUIRE(column(i, 0) == expected(0, i));
      }
    }
}

TEST_CASE("select: pools of several rows, contiguous or not, agree with the definition") {
  pare::random_source random(28);
  for (int kind = 0; kind < kinds; ++kind)
    for (double const s : fractions) {
      auto scores = hard_scores(random, kind, 37 * 130);
      matrix<float> const shaped(matrix_span<float const>(scores.data(), 37, 130));
      matrix<float> const turned(shaped.span().transposed());
      INFO("kind " << kind << " sparsity " << s);
      for (scope const where : {scope::row, scope::matrix}) {
        mask const expected = by_definition(shaped, {1, 1}, s, where);
        REQUIRE(pare::select(shaped, unstructured{}, sparsity{s}, where) == expected);
        REQUIRE(pare::select(turned.span().transposed(), unstructured{}, sparsity{s}, where) == expected);
      }
    }
}

TEST_CASE("cut_finder: passes over the scores are few, and bounded where they are hard") {
  pare::random_source random(29);
  for (int kind = 0; kind < kinds; ++kind)
    for (index_t const k : {index_t{1}, index_t{3000}, index_t{10000}, index_t{17777}, index_t{20000}}) {
      auto const scores = hard_scores(random, kind, 20000);
      int passes = 0;
      auto const each_row = [&](auto f) {
        ++passes;
        f(scores.data(), scores.size());
      };
      pare::detail::cut_finder find;
      auto const at = find(each_row, scores.size(), k);
      INFO("kind " << kind << ", k " << k << ", passes " << passes);
      REQUIRE(passes <= (kind == 0 ? 8 : 100));
      index_t lower = 0;
      index_t equal = 0;
      for (index_t i = 0; i < scores.size(); ++i) {
        lower += scores.data()[i] < at.score ? 1 : 0;
        equal += scores.data()[i] == at.score ? 1 : 0;
      }
      CHECK(lower + at.ties == k);
      CHECK(at.ties + at.stay == equal);
      CHECK(at.ties > 0);
    }
}

TEST_CASE("select: a NaN is found wherever it lies, whatever is removed") {
  pare::random_source random(30);
  for (index_t const n : {1, 63, 64, 65, 129, 5000})
    for (index_t const at : {index_t{0}, n / 2, n - 1})
      for (double const s : fractions) {
        auto scores = hard_scores(random, 0, n);
        scores.data()[at] = -std::numeric_limits<float>::quiet_NaN();
        INFO(at << " of " << n << ", sparsity " << s);
        for (scope const where : {scope::row, scope::matrix})
          REQUIRE_THROWS_AS(pare::select(scores, unstructured{}, sparsity{s}, where), pare::contract_violation);
        if (n > 1) REQUIRE_THROWS_AS(pare::select(scores, any_pattern({1, 1}, 1, n)), pare::contract_violation);
        std::vector<matrix_span<float const>> const layers{std::as_const(scores).span()};
        REQUIRE_THROWS_AS(pare::network_removals(layers, sparsity{s}), pare::contract_violation);
      }
}

TEST_CASE("select: N:M of groups wider than any mask word, and of infinities and zeros") {
  pare::random_source random(31);
  for (int kind = 0; kind < kinds; ++kind)
    for (index_t const m : {2, 3, 4, 8, 48, 64, 65, 100, 300}) {
      matrix<float> const scores(matrix_span<float const>(hard_scores(random, kind, 6 * m).data(), 2, 3 * m));
      for (index_t const n : {index_t{1}, m / 2, m - 1}) {
        INFO("kind " << kind << ", " << n << ":" << m);
        auto const keep = pare::select(scores, any_pattern({1, 1}, n, m));
        for (index_t g = 0; g < 6; ++g) {  // each group is a pool of its own
          matrix_span<float const> const group(scores.data() + g * m, 1, m);
          mask const expected = by_definition(matrix<float>(group), {1, 1}, pare::exactly(m - n, m).value, scope::row);
          for (index_t i = 0; i < m; ++i) REQUIRE(keep(g / 3, g % 3 * m + i) == expected(0, i));
        }
      }
    }
}

TEST_CASE("select: blocks of any width are whole in the mask") {
  pare::random_source random(32);
  for (extents const size : {extents{1, 2}, {3, 5}, {2, 63}, {1, 64}, {2, 65}, {1, 200}}) {
    auto const scores = coarse_scores(random, {6 * size.rows, 7 * size.cols}, 1000);
    for (scope const where : {scope::row, scope::matrix})
      for (double const s : fractions)
        REQUIRE(pare::select(scores, any_pattern(size, 0, 0), sparsity{s}, where) ==
                by_definition(scores, size, s, where));
  }
}

namespace {

/// select(w, by, ...) against select(score(w, by), ...) for one layer in several forms.
template <class Criterion, class W>
void check_fused(W const& w, Criterion const& by, typename Criterion::needs const& stats) {
  auto const scores = pare::score(w, by, stats);
  INFO(Criterion::name());
  for (double const s : {0.0, 0.5, 0.77})
    for (scope const where : {scope::row, scope::matrix}) {
      REQUIRE(pare::select(w, by, stats, unstructured{}, sparsity{s}, where) ==
              pare::select(scores, unstructured{}, sparsity{s}, where));
      REQUIRE(pare::select(w, by, stats, pare::block<3, 2>{}, sparsity{s}, where) ==
              pare::select(scores, pare::block<3, 2>{}, sparsity{s}, where));
    }
  REQUIRE(pare::select(w, by, stats, unstructured{}, sparsity{0.5}) ==
          pare::select(scores, unstructured{}, sparsity{0.5}, pare::default_scope<Criterion>()));
  REQUIRE(pare::select(w, by, stats, pare::n_of_m<2, 4>{}) == pare::select(scores, pare::n_of_m<2, 4>{}));
  REQUIRE(pare::select(w, by, stats, pare::n_of_m<2, 4, 3>{}) == pare::select(scores, pare::n_of_m<2, 4, 3>{}));
}

}  // namespace

TEST_CASE("select: from weights gives the mask of their scores") {
  pare::random_source random(33);
  for (extents const shape : {extents{21, 136}, extents{3, 4}, extents{0, 8}, extents{6, 0}}) {
    auto const w = pare::test::random_matrix(random, shape);
    auto const x = pare::test::random_matrix(random, {shape.cols, 5});
    pare::statistics<pare::input_norms> stats(shape.cols);
    stats.add(x.span());
    matrix<float> const turned(w.span().transposed());
    auto const check_all = [&](auto const& weights) {
      check_fused(weights, pare::wanda{}, stats);
      check_fused(weights, pare::magnitude{}, {});
      check_fused(weights, pare::ria{}, stats);  // does not score row by row
      check_fused(weights, pare::random_score{7}, {});
    };
    check_all(w);
    check_all(turned.span().transposed());
    check_all(pare::cast<pare::bf16>(w));
  }
  pare::statistics<pare::input_norms> const other(5);
  CHECK_THROWS_AS(pare::select(matrix<float>(3, 4), pare::wanda{}, other, unstructured{}, sparsity{0.5}),
                  pare::contract_violation);
  CHECK_THROWS_AS(
      pare::select(matrix<float>(3, 4), pare::magnitude{}, pare::statistics<>{}, pare::block<2, 2>{}, sparsity{0.5}),
      pare::contract_violation);
}

TEST_CASE("network_removals: counts what select_network removes, for layers of any strides and empty ones") {
  pare::random_source random(34);
  for (int kind = 0; kind < kinds; ++kind)
    for (double const s : fractions) {
      std::vector<matrix<float>> layers;
      for (extents const shape : {extents{30, 100}, extents{0, 4}, extents{71, 9}, extents{1, 1}}) {
        auto const scores = hard_scores(random, kind, shape.size());
        layers.emplace_back(matrix_span<float const>(scores.data(), shape.rows, shape.cols));
      }
      std::vector<matrix_span<float const>> views;
      std::vector<mask> expected;
      std::vector<unit> pool;
      matrix<float> const turned(layers[2].span().transposed());
      for (std::size_t l = 0; l < layers.size(); ++l) {
        views.push_back(l == 2 ? turned.span().transposed() : std::as_const(layers[l]).span());
        expected.emplace_back(layers[l].shape(), true);
        add_units(pool, layers[l], l, 0, layers[l].rows(), {1, 1});
      }
      auto const removed = static_cast<index_t>(std::floor(s * static_cast<double>(pool.size())));
      remove_by_definition(pool, removed, {1, 1}, expected);
      INFO("kind " << kind << " sparsity " << s);
      REQUIRE(pare::select_network(views, unstructured{}, sparsity{s}) == expected);
      auto const counts = pare::network_removals(views, sparsity{s});
      for (std::size_t l = 0; l < layers.size(); ++l) REQUIRE(counts[l] == layers[l].size() - expected[l].count());
    }
}

TEST_CASE("order_key: keys of neighbouring floats are neighbouring integers, and give the float back") {
  using pare::detail::order_key;
  using pare::detail::score_of;
  for (float const x : {-infinity, -1.0f, -std::numeric_limits<float>::denorm_min(), 0.0f, 1e-40f, 1.0f, 3e38f}) {
    CHECK(order_key(std::nextafter(x, infinity)) == order_key(x) + 1);
    CHECK(score_of(order_key(x)) == x);
  }
  CHECK(order_key(-0.0f) == 0);
  CHECK(order_key(infinity) == -order_key(-infinity));
}
