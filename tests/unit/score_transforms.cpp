// SPDX-License-Identifier: Apache-2.0
// Score transforms and criteria made of criteria, against slow versions written from their formulas.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <pare/prune/layer_pruner.hpp>
#include <pare/score/activation_norm.hpp>
#include <pare/score/box_filter.hpp>
#include <pare/score/elementwise.hpp>
#include <pare/score/lamp_share.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/normalise.hpp>
#include <pare/score/random_score.hpp>
#include <pare/score/rank.hpp>
#include <pare/score/ria.hpp>
#include <pare/score/wanda.hpp>
#include <pare/select/select.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::extents;
using pare::index_t;
using pare::magnitude;
using pare::matrix;
using pare::scope;
using pare::test::random_matrix;

namespace {

using table = std::vector<std::vector<double>>;

matrix<float> of(std::vector<std::vector<float>> const& rows) {
  matrix<float> m(static_cast<index_t>(rows.size()), static_cast<index_t>(rows[0].size()));
  for (index_t i = 0; i < m.rows(); ++i)
    for (index_t j = 0; j < m.cols(); ++j) m(i, j) = rows[std::size_t(i)][std::size_t(j)];
  return m;
}

/// The example of all hand-worked numbers below.
matrix<float> three_by_four() { return of({{1, -2, 3, 4}, {0, 0, 0, 0}, {2, 2, -2, 2}}); }

void check(matrix<float> const& s, table const& expected, double tolerance = 1e-6) {
  REQUIRE(s.rows() == static_cast<index_t>(expected.size()));
  for (index_t i = 0; i < s.rows(); ++i)
    for (index_t j = 0; j < s.cols(); ++j) {
      INFO("row " << i << ", column " << j);
      double const e = expected[std::size_t(i)][std::size_t(j)];
      CHECK(static_cast<double>(s(i, j)) == Approx(e).epsilon(tolerance).margin(1e-30));
    }
}

table values(matrix<float> const& m) {
  table t(std::size_t(m.rows()), std::vector<double>(std::size_t(m.cols())));
  for (index_t i = 0; i < m.rows(); ++i)
    for (index_t j = 0; j < m.cols(); ++j) t[std::size_t(i)][std::size_t(j)] = static_cast<double>(m(i, j));
  return t;
}

/// Random scores of both signs or none, equal ones, zeros, one row, one column, huge and tiny ones.
std::vector<matrix<float>> samples(bool positive) {
  pare::random_source random(11);
  std::vector<matrix<float>> out;
  out.push_back(random_matrix(random, {7, 19}));
  out.push_back(random_matrix(random, {1, 33}));
  out.push_back(random_matrix(random, {9, 1}));
  out.push_back(random_matrix(random, {1, 1}));
  out.push_back(matrix<float>(4, 5));  // zeros
  matrix<float> equal(3, 7);
  for (index_t i = 0; i < equal.size(); ++i) equal.data()[i] = 0.1f;
  out.push_back(equal);
  auto tiny = random_matrix(random, {5, 6});
  for (index_t i = 0; i < tiny.size(); ++i) tiny.data()[i] *= 1e-10f;
  out.push_back(tiny);
  auto mixed = random_matrix(random, {6, 6});
  for (index_t i = 0; i < mixed.size(); ++i) mixed.data()[i] *= i % 3 == 0 ? 1e10f : (i % 3 == 1 ? 1e-10f : 0.0f);
  out.push_back(mixed);
  auto ties = random_matrix(random, {8, 8});
  for (index_t i = 0; i < ties.size(); ++i) ties.data()[i] = std::round(2.0f * ties.data()[i]);
  out.push_back(ties);
  if (positive)
    for (auto& m : out)
      for (index_t i = 0; i < m.size(); ++i) m.data()[i] = std::abs(m.data()[i]);
  return out;
}

template <class T>
matrix<float> applied(T const& transform, matrix<float> m) {
  transform.apply(m.span());
  return m;
}

/// The slow version of what works on a pool: f(pool's values in order, position) -> value.
template <class F>
table slow(matrix<float> const& m, scope pool, F f) {
  table out = values(m);
  if (pool == scope::row) {
    for (auto& row : out) {
      auto const before = row;
      for (std::size_t j = 0; j < row.size(); ++j) row[j] = f(before, j);
    }
    return out;
  }
  std::vector<double> all;
  for (auto const& row : out) all.insert(all.end(), row.begin(), row.end());
  for (std::size_t i = 0; i < out.size(); ++i)
    for (std::size_t j = 0; j < out[i].size(); ++j) out[i][j] = f(all, i * out[i].size() + j);
  return out;
}

double slow_zscore(std::vector<double> const& v, std::size_t at) {
  if (std::all_of(v.begin(), v.end(), [&](double x) { return x == v[0]; })) return 0.0;
  double mean = 0.0;
  for (double x : v) mean += x;
  mean /= double(v.size());
  double squares = 0.0;
  for (double x : v) squares += (x - mean) * (x - mean);
  return (v[at] - mean) / std::sqrt(squares / double(v.size() - 1));
}

double slow_min_max(std::vector<double> const& v, std::size_t at) {
  double const low = *std::min_element(v.begin(), v.end());
  double const high = *std::max_element(v.begin(), v.end());
  return low == high ? 0.0 : (v[at] - low) / (high - low);
}

double slow_share(std::vector<double> const& v, std::size_t at) {
  double sum = 0.0;
  for (double x : v) sum += std::abs(x);
  return sum == 0.0 ? 0.0 : v[at] / sum;
}

bool below(std::vector<double> const& v, std::size_t a, std::size_t b) { return v[a] != v[b] ? v[a] < v[b] : a < b; }

double slow_rank(std::vector<double> const& v, std::size_t at) {
  std::size_t lower = 0;
  for (std::size_t i = 0; i < v.size(); ++i) lower += below(v, i, at) ? 1 : 0;
  return double(lower) / double(v.size());
}

double slow_lamp(std::vector<double> const& v, std::size_t at) {
  double rest = v[at];
  for (std::size_t i = 0; i < v.size(); ++i) rest += below(v, at, i) ? v[i] : 0.0;
  return rest == 0.0 ? 0.0 : v[at] / rest;
}

}  // namespace

TEST_CASE("row_share, column_share, over_mean: computed by hand") {
  auto const w = three_by_four();
  check(pare::score(w, magnitude{} | pare::row_share{}),
        {{0.1, 0.2, 0.3, 0.4}, {0, 0, 0, 0}, {0.25, 0.25, 0.25, 0.25}});
  check(pare::score(w, magnitude{} | pare::column_share{}),
        {{1.0 / 3, 0.5, 0.6, 2.0 / 3}, {0, 0, 0, 0}, {2.0 / 3, 0.5, 0.4, 1.0 / 3}});
  check(pare::score(w, magnitude{} | pare::over_mean{}),  // the mean is 18 / 12
        {{2.0 / 3, 4.0 / 3, 2, 8.0 / 3}, {0, 0, 0, 0}, {4.0 / 3, 4.0 / 3, 4.0 / 3, 4.0 / 3}});
  check(pare::score(w, magnitude{} | pare::over_mean{scope::row}), {{0.4, 0.8, 1.2, 1.6}, {0, 0, 0, 0}, {1, 1, 1, 1}});
  check(applied(pare::row_share{}, w), {{0.1, -0.2, 0.3, 0.4}, {0, 0, 0, 0}, {0.25, 0.25, -0.25, 0.25}});
}

TEST_CASE("zscore, min_max: computed by hand") {
  auto const w = three_by_four();
  double const sd = std::sqrt(19.0 / 11.0);  // 46 - 12 * 1.5^2 = 19
  check(pare::score(w, magnitude{} | pare::zscore{}), {{-0.5 / sd, 0.5 / sd, 1.5 / sd, 2.5 / sd},
                                                       {-1.5 / sd, -1.5 / sd, -1.5 / sd, -1.5 / sd},
                                                       {0.5 / sd, 0.5 / sd, 0.5 / sd, 0.5 / sd}});
  double const row = std::sqrt(5.0 / 3.0);
  check(pare::score(w, magnitude{} | pare::zscore{scope::row}),
        {{-1.5 / row, -0.5 / row, 0.5 / row, 1.5 / row}, {0, 0, 0, 0}, {0, 0, 0, 0}});
  check(applied(pare::min_max{}, w),
        {{0.5, 0, 5.0 / 6, 1}, {1.0 / 3, 1.0 / 3, 1.0 / 3, 1.0 / 3}, {2.0 / 3, 2.0 / 3, 0, 2.0 / 3}});
  check(applied(pare::min_max{scope::row}, w), {{0.5, 0, 5.0 / 6, 1}, {0, 0, 0, 0}, {1, 1, 0, 1}});
}

TEST_CASE("to_rank, lamp_share: computed by hand, equal scores by position") {
  auto const w = three_by_four();
  check(pare::score(w, magnitude{} | pare::to_rank{}), {{4 / 12.0, 5 / 12.0, 10 / 12.0, 11 / 12.0},
                                                        {0, 1 / 12.0, 2 / 12.0, 3 / 12.0},
                                                        {6 / 12.0, 7 / 12.0, 8 / 12.0, 9 / 12.0}});
  check(pare::score(w, magnitude{} | pare::to_rank{scope::row}),
        {{0, 0.25, 0.5, 0.75}, {0, 0.25, 0.5, 0.75}, {0, 0.25, 0.5, 0.75}});
  check(pare::score(w, magnitude{} | pare::lamp_share{}),  // suffix sums 18, 17, 15, 13, 11, 9, 7, 4
        {{1 / 18.0, 2 / 17.0, 3 / 7.0, 1}, {0, 0, 0, 0}, {2 / 15.0, 2 / 13.0, 2 / 11.0, 2 / 9.0}});
}

TEST_CASE("power, clip, softplus_of, sigmoid_of, box_filter: computed by hand") {
  auto const w = three_by_four();
  check(applied(pare::power{}, w), {{1, -4, 9, 16}, {0, 0, 0, 0}, {4, 4, -4, 4}});
  check(applied(pare::power{0.5}, of({{4, -9, 0}})), {{2, -3, 0}});
  check(applied(pare::clip{-1, 2.5}, w), {{1, -1, 2.5, 2.5}, {0, 0, 0, 0}, {2, 2, -1, 2}});
  check(applied(pare::softplus_of{}, of({{0, 1, -1, 1000, -1000, -50}})),
        {{0.69314718, 1.31326169, 0.31326169, 1000, 0, 1.92874985e-22}});
  check(applied(pare::sigmoid_of{}, of({{0, 1, -1, 1000, -1000}})), {{0.5, 0.73105858, 0.26894142, 1, 0}});
  check(applied(pare::sigmoid_of{2.0}, of({{2, -2}})), {{0.73105858, 0.26894142}});
  check(pare::score(w, magnitude{} | pare::box_filter{}), {{3 / 9.0, 6 / 9.0, 9 / 9.0, 7 / 9.0},
                                                           {7 / 9.0, 12 / 9.0, 15 / 9.0, 11 / 9.0},
                                                           {4 / 9.0, 6 / 9.0, 6 / 9.0, 4 / 9.0}});
}

TEST_CASE("score transforms: are what their formulas say, on zeros, equal scores, single rows and columns, 1e-10") {
  for (auto const& m : samples(false)) {
    for (scope const pool : {scope::row, scope::matrix}) {
      check(applied(pare::zscore{pool}, m), slow(m, pool, slow_zscore), 2e-6);
      check(applied(pare::min_max{pool}, m), slow(m, pool, slow_min_max));
      check(applied(pare::to_rank{pool}, m), slow(m, pool, slow_rank));
      check(applied(pare::over_mean{pool}, m),
            slow(m, pool, [](auto const& v, std::size_t at) { return slow_share(v, at) * double(v.size()); }));
    }
    check(applied(pare::row_share{}, m), slow(m, scope::row, slow_share));
    matrix<float> const turned(m.span().transposed());
    matrix<float> const columns(applied(pare::row_share{}, turned).span().transposed());
    check(applied(pare::column_share{}, m), values(columns));
    table box = values(m);
    for (index_t i = 0; i < m.rows(); ++i)
      for (index_t j = 0; j < m.cols(); ++j) {
        double sum = 0.0;
        for (index_t r = i - 1; r <= i + 1; ++r)
          for (index_t c = j - 1; c <= j + 1; ++c)
            if (r >= 0 && r < m.rows() && c >= 0 && c < m.cols()) sum += static_cast<double>(m(r, c));
        box[std::size_t(i)][std::size_t(j)] = sum / 9.0;
      }
    check(applied(pare::box_filter{}, m), box);
  }
  for (auto const& m : samples(true)) check(applied(pare::lamp_share{}, m), slow(m, scope::matrix, slow_lamp));
}

TEST_CASE("score transforms: write through any strides") {
  pare::random_source random(3);
  auto const m = random_matrix(random, {5, 8});
  auto by_columns = m;
  pare::row_share{}.apply(by_columns.span().transposed());
  check(by_columns, values(applied(pare::column_share{}, m)));
  auto ranked = m;
  pare::to_rank{}.apply(ranked.span().transposed());
  check(ranked, values(applied(pare::to_rank{}, m)));  // no two scores are equal, so positions do not matter
  auto smooth = m;
  pare::box_filter{}.apply(smooth.span().transposed());
  check(smooth, values(applied(pare::box_filter{}, m)));
}

TEST_CASE("score transforms: a NaN stays one, and so does all that is computed from it") {
  float const nan = std::numeric_limits<float>::quiet_NaN();
  auto const m = of({{1, nan, 3}, {4, 5, 6}});
  auto const nans = [](matrix<float> const& s) {
    std::vector<bool> out;
    for (index_t i = 0; i < s.size(); ++i) out.push_back(std::isnan(s.data()[i]));
    return out;
  };
  std::vector<bool> const all(6, true);
  std::vector<bool> const row{true, true, true, false, false, false};
  std::vector<bool> const one{false, true, false, false, false, false};
  CHECK(nans(applied(pare::zscore{}, m)) == all);
  CHECK(nans(applied(pare::min_max{}, m)) == all);
  CHECK(nans(applied(pare::to_rank{}, m)) == all);
  CHECK(nans(applied(pare::lamp_share{}, m)) == all);
  CHECK(nans(applied(pare::over_mean{}, m)) == all);
  CHECK(nans(applied(pare::zscore{scope::row}, m)) == row);
  CHECK(nans(applied(pare::min_max{scope::row}, m)) == row);
  CHECK(nans(applied(pare::to_rank{scope::row}, m)) == row);
  CHECK(nans(applied(pare::row_share{}, m)) == row);
  CHECK(nans(applied(pare::column_share{}, m)) == std::vector<bool>{false, true, false, false, true, false});
  CHECK(nans(applied(pare::power{}, m)) == one);
  CHECK(nans(applied(pare::clip{}, m)) == one);
  CHECK(nans(applied(pare::softplus_of{}, m)) == one);
  CHECK(nans(applied(pare::sigmoid_of{}, m)) == one);
}

TEST_CASE("score transforms: an empty matrix has nothing to change") {
  for (extents const shape : {extents{0, 4}, extents{4, 0}}) {
    CHECK(applied(pare::zscore{scope::row}, matrix<float>(shape)).size() == 0);
    CHECK(applied(pare::to_rank{}, matrix<float>(shape)).size() == 0);
    CHECK(applied(pare::lamp_share{}, matrix<float>(shape)).size() == 0);
    CHECK(applied(pare::column_share{}, matrix<float>(shape)).size() == 0);
    CHECK(applied(pare::box_filter{}, matrix<float>(shape)).size() == 0);
  }
}

TEST_CASE("score transforms: settings without a meaning are a contract violation") {
  auto const m = three_by_four();
  CHECK_THROWS_AS(applied(pare::power{0.0}, m), pare::contract_violation);
  CHECK_THROWS_AS(applied(pare::clip{1.0, 0.0}, m), pare::contract_violation);
  CHECK_THROWS_AS(applied(pare::sigmoid_of{0.0}, m), pare::contract_violation);
  CHECK_THROWS_AS(applied(pare::zscore{scope::network}, m), pare::contract_violation);
  CHECK_THROWS_AS(applied(pare::to_rank{scope::network}, m), pare::contract_violation);
  CHECK_THROWS_AS(applied(pare::lamp_share{}, m), pare::contract_violation);  // a negative score
}

TEST_CASE("lamp_share, to_rank: keep the order of removal within a layer, ties and all") {
  for (auto const& m : samples(true))
    for (double const s : {0.1, 0.5, 0.77}) {
      auto const plain = pare::select(m, pare::unstructured{}, pare::sparsity{s});
      CHECK(pare::select(applied(pare::lamp_share{}, m), pare::unstructured{}, pare::sparsity{s}) == plain);
      CHECK(pare::select(applied(pare::to_rank{}, m), pare::unstructured{}, pare::sparsity{s}) == plain);
    }
}

TEST_CASE("lamp_share: over a network, a layer keeps at least its highest weight") {
  pare::random_source random(5);
  auto const large = random_matrix(random, {6, 6});
  auto small = random_matrix(random, {6, 6});
  for (index_t i = 0; i < small.size(); ++i) small.data()[i] *= 1e-4f;
  auto const by = magnitude{} | pare::power{2.0} | pare::lamp_share{};
  matrix<float> const scores[] = {pare::score(large, by), pare::score(small, by)};
  pare::matrix_span<float const> const spans[] = {scores[0].span(), scores[1].span()};
  auto const keep = pare::select_network(spans, pare::unstructured{}, pare::sparsity{70.0 / 72.0});
  CHECK(keep[0].count() == 1);
  CHECK(keep[1].count() == 1);
}

TEST_CASE("composition: wanda from its pieces is wanda, bit by bit") {
  pare::random_source random(21);
  auto const w = random_matrix(random, {6, 10});
  pare::wanda::needs stats(10);
  auto x = random_matrix(random, {10, 13});
  for (index_t n = 0; n < 13; ++n) x(4, n) = 0.0f;  // an input that never is active
  stats.add(x.span());
  auto const pieces = magnitude{} * pare::activation_norm{};
  CHECK(pare::test::same_bits(pare::score(w, pieces, stats), pare::score(w, pare::wanda{}, stats)));
}

TEST_CASE("composition: RIA from its pieces is ria up to rounding") {
  auto const pieces =
      ((magnitude{} | pare::column_share{}) + (magnitude{} | pare::row_share{})) * pare::activation_norm{0.5};
  static_assert(pare::criterion<std::remove_const_t<decltype(pieces)>>);
  static_assert(std::same_as<decltype(pieces)::needs, pare::ria::needs>);
  static_assert(pare::default_scope<std::remove_const_t<decltype(pieces)>>() == pare::default_scope<pare::ria>());
  pare::random_source random(8);
  auto x = random_matrix(random, {9, 17});
  for (index_t n = 0; n < 17; ++n) x(2, n) = 0.0f;
  pare::ria::needs stats(9);
  stats.add(x.span());
  auto w = random_matrix(random, {7, 9});
  for (index_t i = 0; i < 7; ++i) w(i, 5) = 0.0f;  // a column and a row of zeros, and tiny weights
  for (index_t j = 0; j < 9; ++j) w(3, j) = 0.0f;
  for (index_t j = 0; j < 9; ++j) w(6, j) *= 1e-10f;
  auto const expected = pare::score(w, pare::ria{}, stats);
  check(pare::score(w, pieces, stats), values(expected), 1e-6);
  check(pare::score(pare::cast<pare::bf16>(w), pieces, stats),
        values(pare::score(pare::cast<pare::bf16>(w), pare::ria{}, stats)), 1e-6);

  pare::select_by<std::remove_const_t<decltype(pieces)>> const pruner{pieces};
  auto const pruned = pruner.prune(w.span(), stats, pare::n_of_m<1, 3>{}, pare::sparsity{0.0});
  REQUIRE(pruned);
  CHECK(pruned->keep == pare::select(expected, pare::n_of_m<1, 3>{}));
}

TEST_CASE("composition: needs the statistics of its parts, each once, and competes where the first part does") {
  using pare::input_norms;
  using pare::statistics;
  using both = decltype(pare::wanda{} + pare::ria{});
  using with_none = decltype(magnitude{} * pare::random_score{});
  using right = decltype(magnitude{} + pare::wanda{});
  static_assert(std::same_as<both::needs, statistics<input_norms>>);
  static_assert(std::same_as<with_none::needs, statistics<>>);
  static_assert(std::same_as<right::needs, statistics<input_norms>>);
  static_assert(pare::default_scope<both>() == scope::row);
  static_assert(pare::default_scope<right>() == scope::matrix);
  static_assert(pare::default_scope<decltype(pare::wanda{} | pare::to_rank{})>() == scope::row);
  static_assert(!pare::score_transform<magnitude>);
  static_assert(!pare::criterion<pare::row_share>);
  auto const w = three_by_four();
  check(pare::score(w, magnitude{} + magnitude{}), {{2, 4, 6, 8}, {0, 0, 0, 0}, {4, 4, 4, 4}});
  check(pare::score(w, magnitude{} * (magnitude{} | pare::row_share{}) | pare::power{0.5}),
        {{std::sqrt(0.1), std::sqrt(0.4), std::sqrt(0.9), std::sqrt(1.6)},
         {0, 0, 0, 0},
         {std::sqrt(0.5), std::sqrt(0.5), std::sqrt(0.5), std::sqrt(0.5)}});
}

TEST_CASE("activation_norm: statistics of a layer with another number of inputs are a contract violation") {
  CHECK_THROWS_AS(pare::score(three_by_four(), pare::activation_norm{}, pare::activation_norm::needs(3)),
                  pare::contract_violation);
}

namespace {

/// Scores by the share of the largest weight of all layers that it was shown.
struct share_of_network {
  using needs = pare::statistics<>;
  float largest = 0.0f;

  void look(pare::matrix_span<float const> w, needs const&) {
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) largest = std::max(largest, std::abs(w(i, j)));
  }
  template <pare::matrix_view W>
  void score(W const& weights, auto const&, pare::score_sink<float> out) const {
    auto const w = pare::as_span(weights);
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) out(i, j) = std::abs(w(i, j)) / largest;
  }
};

}  // namespace

TEST_CASE("composition: a criterion that looks at the whole network is shown it through transforms, sums, products") {
  auto const other = of({{8, -16}});
  auto const w = of({{4, -8}});
  auto by = (magnitude{} * (share_of_network{} | pare::power{1.0})) + magnitude{};
  by.look(other.span(), pare::statistics<>{});
  by.look(w.span(), pare::statistics<>{});
  check(pare::score(w, by), {{4 + 1, 8 + 4}});
  static_assert(!pare::detail::looks<decltype(magnitude{} + magnitude{}), pare::statistics<>>);
  static_assert(!pare::detail::looks<decltype(magnitude{} | pare::row_share{}), pare::statistics<>>);
}
