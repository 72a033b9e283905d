// SPDX-License-Identifier: Apache-2.0
// Coupled units: their scores against loops over elements, their masks against networks from which they are gone.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <pare/select/groups.hpp>
#include <pare/select/select.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::axis;
using pare::contract_violation;
using pare::coupled_units;
using pare::extents;
using pare::index_t;
using pare::mask;
using pare::matrix;
using pare::matrix_span;
using pare::sparsity;
using pare::unit_scoring;
using pare::unit_slice;
using pare::test::random_matrix;
using normaliser = unit_scoring::normaliser;
using reduction = unit_scoring::reduction;

namespace {

matrix<float> make(index_t rows, index_t cols, std::vector<float> const& values) {
  matrix<float> m(rows, cols);
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = values[static_cast<std::size_t>(i)];
  return m;
}

std::vector<matrix_span<float const>> views(std::vector<matrix<float>> const& tensors) {
  std::vector<matrix_span<float const>> out;
  for (auto const& t : tensors) out.push_back(t.span());
  return out;
}

bool inside(unit_slice const& s, index_t row, index_t col) {
  index_t const i = s.along == axis::row ? row : col;
  return i >= s.first && i < s.first + s.count;
}

double slow_reduce(std::vector<double> const& v, reduction how) {
  double sum = 0.0;
  double squares = 0.0;
  double most = v.empty() ? 0.0 : v.front();
  for (double const x : v) sum += x, squares += x * x, most = std::max(most, x);
  if (how == reduction::mean) return v.empty() ? 0.0 : sum / static_cast<double>(v.size());
  if (how == reduction::max) return most;
  if (how == reduction::l2) return std::sqrt(squares);
  return how == reduction::abs_sum ? std::abs(sum) : sum;
}

std::vector<double> slow_scores(coupled_units const& g, std::vector<matrix<float>> const& scores, unit_scoring how) {
  std::size_t const members = g.units.empty() ? 0 : g.units[0].size();
  std::vector<std::vector<double>> by_unit(g.units.size());
  for (std::size_t m = 0; m < members; ++m) {
    std::vector<double> vector;
    for (auto const& unit : g.units) {
      auto const& t = scores[unit[m].tensor];
      std::vector<double> elements;
      for (index_t r = 0; r < t.rows(); ++r)
        for (index_t c = 0; c < t.cols(); ++c)
          if (inside(unit[m], r, c)) elements.push_back(static_cast<double>(t(r, c)));
      vector.push_back(slow_reduce(elements, how.elements));
    }
    double divisor = 1.0;
    if (how.over_units == normaliser::l2) divisor = slow_reduce(vector, reduction::l2);
    if (how.over_units == normaliser::mean) divisor = slow_reduce(vector, reduction::mean);
    for (std::size_t u = 0; u < vector.size(); ++u)
      by_unit[u].push_back(divisor == 0.0 ? vector[u] : vector[u] / divisor);
  }
  std::vector<double> out;
  for (auto const& v : by_unit) out.push_back(slow_reduce(v, how.members));
  return out;
}

constexpr reduction reductions[] = {reduction::sum, reduction::mean, reduction::max, reduction::l2, reduction::abs_sum};
constexpr normaliser normalisers[] = {normaliser::none, normaliser::l2, normaliser::mean};

}  // namespace

TEST_CASE("coupled units: three channels of a gated feed-forward network by hand") {
  std::vector<matrix<float>> const scores{
      make(3, 2, {1, 2, 0, 4, 2, 2}),   // gate: rows 3 4 4
      make(3, 2, {1, 0, 1, 1, 10, 0}),  // up: rows 1 2 10
      make(2, 3, {2, 1, 0, 1, 1, 1}),   // down: columns 3 2 1
  };
  auto const g = pare::couple(3, {{0, axis::row}, {1, axis::row}, {2, axis::column}});
  REQUIRE(g.units.size() == 3);
  CHECK(g.units[1] == std::vector<unit_slice>{{0, axis::row, 1, 1}, {1, axis::row, 1, 1}, {2, axis::column, 1, 1}});
  CHECK(pare::unit_scores(g, views(scores), {}) == std::vector<double>{7, 8, 15});
  auto const normed = pare::unit_scores(g, views(scores), {.over_units = normaliser::l2});
  double const expected[] = {3 / std::sqrt(41.0) + 1 / std::sqrt(105.0) + 3 / std::sqrt(14.0),
                             4 / std::sqrt(41.0) + 2 / std::sqrt(105.0) + 2 / std::sqrt(14.0),
                             4 / std::sqrt(41.0) + 10 / std::sqrt(105.0) + 1 / std::sqrt(14.0)};
  for (std::size_t u = 0; u < 3; ++u) CHECK(normed[u] == Approx(expected[u]).epsilon(1e-14));

  auto const keep = pare::keep_best(normed, sparsity{0.4});  // one goes: now the second
  CHECK(keep == std::vector<bool>{true, false, true});
  std::vector<extents> const shapes{{3, 2}, {3, 2}, {2, 3}};
  auto const masks = pare::group_masks(g, keep, shapes);
  for (index_t i = 0; i < 3; ++i)
    for (index_t j = 0; j < 2; ++j) {
      CHECK(masks[0](i, j) == (i != 1));
      CHECK(masks[1](i, j) == (i != 1));
      CHECK(masks[2](j, i) == (i != 1));
    }
  CHECK(pare::unit_costs(g, shapes) == std::vector<double>{6, 6, 6});
}

TEST_CASE("head_groups: a key-value head goes with the query heads that it serves") {
  // 4 query heads, 2 key-value heads of 2 dimensions; hidden size 3.
  std::vector<extents> const shapes{{8, 3}, {4, 3}, {4, 3}, {3, 8}};
  auto const g = pare::head_groups({}, 4, 2, 2);
  REQUIRE(g.units.size() == 2);
  auto const masks = pare::group_masks(g, {false, true}, shapes);
  for (index_t d = 0; d < 3; ++d) {
    for (index_t i = 0; i < 8; ++i) {
      CHECK(masks[0](i, d) == (i >= 4));
      CHECK(masks[3](d, i) == (i >= 4));
    }
    for (index_t i = 0; i < 4; ++i) {
      CHECK(masks[1](i, d) == (i >= 2));
      CHECK(masks[2](i, d) == (i >= 2));
    }
  }
  auto const swapped = pare::head_groups({.query = 3, .key = 2, .value = 1, .output = 0}, 2, 2, 5);
  CHECK(swapped.units[1] ==
        std::vector<unit_slice>{
            {3, axis::row, 5, 5}, {2, axis::row, 5, 5}, {1, axis::row, 5, 5}, {0, axis::column, 5, 5}});
  // FLAP's 512 / 3 is the cost of a head without sharing, of 128 dimensions, to that of a neuron.
  index_t const hidden = 256;
  std::vector<extents> const attention{{256, hidden}, {256, hidden}, {256, hidden}, {hidden, 256}};
  std::vector<extents> const feed_forward{{64, hidden}, {64, hidden}, {hidden, 64}};
  double const head = pare::unit_costs(pare::head_groups({}, 2, 2, 128), attention)[0];
  double const neuron =
      pare::unit_costs(pare::couple(64, {{0, axis::row}, {1, axis::row}, {2, axis::column}}), feed_forward)[0];
  CHECK(head / neuron == Approx(512.0 / 3.0).epsilon(1e-14));
}

TEST_CASE("unit_scores: agree with loops over elements, for all reductions and normalisers") {
  pare::random_source random(31);
  std::vector<matrix<float>> scores;
  for (extents const shape : {extents{12, 5}, {6, 7}, {4, 18}, {1, 6}, {12, 12}})
    scores.push_back(random_matrix(random, shape));
  for (index_t i = 0; i < 42; ++i) scores[1].data()[i] = 0.0f;  // a member without scores
  for (index_t i = 0; i < 72; ++i) scores[2].data()[i] *= i % 2 == 0 ? 1e-10f : 1e8f;
  std::vector<coupled_units> groups{
      pare::couple(6,
                   {{0, axis::row, 2}, {1, axis::row}, {2, axis::column, 3}, {3, axis::column}, {4, axis::column, 2}}),
      pare::couple(4, {{4, axis::row, 3}, {4, axis::column, 3}}),
      pare::couple(1, {{0, axis::row, 12}}),
      pare::couple(3, {{0, axis::row, 0}, {1, axis::row, 2}}),  // slices of nothing
      pare::couple(0, {{0, axis::row}}),
      pare::couple(2, {}),
      // Given by hand: units of different sizes that leave gaps.
      {{{{0, axis::row, 0, 1}, {2, axis::column, 4, 5}}, {{0, axis::row, 7, 5}, {2, axis::column, 0, 1}}}},
  };
  for (auto const& g : groups)
    for (reduction const elements : reductions)
      for (normaliser const over : normalisers)
        for (reduction const members : reductions) {
          unit_scoring const how{elements, over, members};
          auto const fast = pare::unit_scores(g, views(scores), how);
          auto const slow = slow_scores(g, scores, how);
          REQUIRE(fast.size() == slow.size());
          for (std::size_t u = 0; u < fast.size(); ++u)
            REQUIRE(fast[u] == Approx(slow[u]).epsilon(1e-10).margin(1e-12));
        }
}

TEST_CASE("keep_best: exact counts and the tie rule, over units of several groups") {
  std::vector<double> const scores{3, 1, 1, 2, 1, 0, -0.0, 5};
  CHECK(pare::keep_best(scores, sparsity{0.5}) ==
        std::vector<bool>{true, false, false, true, true, false, false, true});
  CHECK(pare::keep_best(scores, sparsity{0.12}) == std::vector<bool>(8, true));
  CHECK(pare::keep_best(scores, sparsity{0.13}) == std::vector<bool>{true, true, true, true, true, false, true, true});
  CHECK(pare::keep_best(scores, sparsity{1.0}) == std::vector<bool>(8, false));
  CHECK(pare::keep_best({}, sparsity{0.5}).empty());
  pare::random_source random(2);
  for (index_t n = 1; n < 60; ++n) {
    std::vector<double> s;
    for (index_t i = 0; i < n; ++i) s.push_back(static_cast<double>(random.below(4)));
    for (double const f : {0.0, 0.1, 0.29, 0.5, 0.999, 1.0}) {
      matrix<float> row(1, n);
      for (index_t i = 0; i < n; ++i) row(0, i) = static_cast<float>(s[static_cast<std::size_t>(i)]);
      auto const expected = pare::select(row, pare::unstructured{}, sparsity{f});
      auto const keep = pare::keep_best(s, sparsity{f});
      for (index_t i = 0; i < n; ++i) REQUIRE(keep[static_cast<std::size_t>(i)] == expected(0, i));
      REQUIRE(pare::keep_by_cost(s, std::vector<double>(s.size(), 1.0), sparsity{f}) == keep);
    }
  }
}

TEST_CASE("keep_by_cost: removes in order while the cost fits, or up to the nearest cost") {
  std::vector<double> const scores{5, 1, 2, 3, 4};
  std::vector<double> const costs{10, 20, 5, 40, 25};  // 100 in all; removed in the order 20 5 40 25 10
  auto const removed = [&](double s) {
    auto const keep = pare::keep_by_cost(scores, costs, sparsity{s});
    return std::count(keep.begin(), keep.end(), false);
  };
  CHECK(removed(0.0) == 0);
  CHECK(removed(0.19) == 0);
  CHECK(removed(0.2) == 1);
  CHECK(removed(0.25) == 2);
  CHECK(removed(0.64) == 2);  // 40 does not fit, and what comes after it stays, though 25 would
  CHECK(removed(0.65) == 3);
  CHECK(removed(0.9) == 4);
  CHECK(removed(1.0) == 5);
  CHECK(pare::keep_by_cost(scores, costs, sparsity{0.25}) == std::vector<bool>{true, false, false, true, true});
  auto const nearest = [&](double s) {
    auto const keep = pare::keep_by_cost(scores, costs, sparsity{s}, pare::budget_end::nearest);
    return std::count(keep.begin(), keep.end(), false);
  };
  CHECK(nearest(0.0) == 0);
  CHECK(nearest(0.1) == 0);  // 0 and 20 are as near
  CHECK(nearest(0.11) == 1);
  CHECK(nearest(0.44) == 2);  // 25 and 65
  CHECK(nearest(0.46) == 3);
  CHECK(nearest(1.0) == 5);
}

TEST_CASE("drop_units: a masked feed-forward network is the one without the channels; the hidden dimension likewise") {
  pare::random_source random(6);
  index_t const hidden = 5;
  index_t const channels = 9;
  std::vector<matrix<float>> w{random_matrix(random, {channels, hidden}), random_matrix(random, {channels, hidden}),
                               random_matrix(random, {hidden, channels})};
  std::vector<extents> const shapes{w[0].shape(), w[1].shape(), w[2].shape()};
  auto const run = [](std::vector<matrix<float>> const& net, matrix<float> const& x) {
    matrix<double> y(net[2].rows(), 1);
    for (index_t c = 0; c < net[0].rows(); ++c) {
      double gate = 0.0;
      double up = 0.0;
      for (index_t k = 0; k < net[0].cols(); ++k) {
        gate += static_cast<double>(net[0](c, k) * x(k, 0));
        up += static_cast<double>(net[1](c, k) * x(k, 0));
      }
      for (index_t o = 0; o < y.rows(); ++o)
        y(o, 0) += static_cast<double>(net[2](o, c)) * (gate / (1.0 + std::exp(-gate)) * up);
    }
    return y;
  };
  auto const g = pare::couple(channels, {{0, axis::row}, {1, axis::row}, {2, axis::column}});
  auto const keep = pare::keep_best(pare::unit_scores(g, views(w), {.elements = reduction::l2}), sparsity{0.5});
  auto const masks = pare::group_masks(g, keep, shapes);
  auto masked = w;
  for (std::size_t t = 0; t < 3; ++t) pare::apply(masks[t], masked[t]);
  std::vector<matrix<float>> small{matrix<float>(5, hidden), matrix<float>(5, hidden), matrix<float>(hidden, 5)};
  index_t at = 0;
  for (index_t c = 0; c < channels; ++c) {
    if (!keep[static_cast<std::size_t>(c)]) continue;
    for (index_t k = 0; k < hidden; ++k) {
      small[0](at, k) = w[0](c, k);
      small[1](at, k) = w[1](c, k);
      small[2](k, at) = w[2](k, c);
    }
    ++at;
  }
  REQUIRE(at == 5);
  auto const x = random_matrix(random, {hidden, 1});
  auto const a = run(masked, x);
  auto const b = run(small, x);
  for (index_t o = 0; o < hidden; ++o) CHECK(a(o, 0) == Approx(b(o, 0)).epsilon(1e-12));

  // The hidden dimension: readers by column, writers by row. Channels dropped before stay dropped.
  auto const residual = pare::couple(hidden, {{0, axis::column}, {1, axis::column}, {2, axis::row}});
  auto both = masks;
  pare::drop_units(residual, {true, false, true, true, false}, both);
  for (index_t c = 0; c < channels; ++c)
    for (index_t k = 0; k < hidden; ++k) {
      bool const stays = keep[static_cast<std::size_t>(c)] && k != 1 && k != 4;
      CHECK(both[0](c, k) == stays);
      CHECK(both[2](k, c) == stays);
    }
}

TEST_CASE("coupled units: what they must refuse") {
  std::vector<matrix<float>> const t{matrix<float>(4, 3), matrix<float>(3, 4)};
  std::vector<extents> const shapes{{4, 3}, {3, 4}};
  auto const scores = views(t);
  coupled_units const beyond{{{{0, axis::row, 3, 2}}}};
  coupled_units const missing{{{{2, axis::row, 0, 1}}}};
  coupled_units const uneven{{{{0, axis::row, 0, 1}}, {{0, axis::row, 1, 1}, {1, axis::row, 0, 1}}}};
  coupled_units const unlike{{{{0, axis::row, 0, 1}}, {{0, axis::column, 1, 1}}}};
  for (auto const* g : {&beyond, &missing, &uneven, &unlike})
    CHECK_THROWS_AS(pare::unit_scores(*g, scores, {}), contract_violation);
  CHECK_THROWS_AS(pare::group_masks(beyond, {false}, shapes), contract_violation);
  CHECK_THROWS_AS(pare::group_masks(missing, {false}, shapes), contract_violation);
  CHECK_THROWS_AS(pare::unit_costs(missing, shapes), contract_violation);
  CHECK_THROWS_AS(pare::group_masks(unlike, {false}, shapes), contract_violation);  // two units
  CHECK_THROWS_AS(pare::couple(-1, {}), contract_violation);
  CHECK_THROWS_AS(pare::head_groups({}, 6, 4, 2), contract_violation);
  CHECK_THROWS_AS(pare::head_groups({}, 4, 0, 2), contract_violation);
  std::vector<double> const nan{1.0, std::nan("")};
  CHECK_THROWS_AS(pare::keep_best(nan, sparsity{0.5}), contract_violation);
  CHECK_THROWS_AS(pare::keep_by_cost(nan, std::vector<double>{1, 1}, sparsity{0.5}), contract_violation);
  CHECK_THROWS_AS(pare::keep_by_cost(std::vector<double>{1, 1}, std::vector<double>{1}, sparsity{0.5}),
                  contract_violation);
  CHECK_THROWS_AS(pare::keep_by_cost(std::vector<double>{1, 1}, std::vector<double>{1, -1}, sparsity{0.5}),
                  contract_violation);
}
