// SPDX-License-Identifier: Apache-2.0
// DARE's masks and merge, and the three ways to its divisor q, against slow versions.
#include <cmath>
#include <limits>
#include <vector>

#include <pare/prune/dare.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::dare_analytic;
using pare::dare_draw;
using pare::errc;
using pare::extents;
using pare::gram;
using pare::index_t;
using pare::mask;
using pare::matrix;
using pare::sparsity;
using pare::test::random_matrix;

namespace {

matrix<float> values(extents shape, std::vector<float> const& v) {
  matrix<float> m(shape);
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = v[static_cast<std::size_t>(i)];
  return m;
}

/// ||delta X - (kept delta) X / q||^2.
double output_change(matrix<float> const& delta, mask const& keep, matrix<float> const& x, double q) {
  double total = 0.0;
  for (index_t i = 0; i < delta.rows(); ++i)
    for (index_t n = 0; n < x.cols(); ++n) {
      double d = 0.0;
      for (index_t k = 0; k < delta.cols(); ++k)
        d += static_cast<double>(delta(i, k)) * static_cast<double>(x(k, n)) * (1.0 - (keep(i, k) ? 1.0 / q : 0.0));
      total += d * d;
    }
  return total;
}

}  // namespace

TEST_CASE("dare: drop and rescale, by hand") {
  auto const base = values({1, 4}, {1.0f, 2.0f, 3.0f, 4.0f});
  auto const tuned = values({1, 4}, {1.5f, 1.0f, 3.25f, 8.0f});
  auto const delta = pare::delta_of(tuned.span(), base.span());
  CHECK(pare::test::same_bits(delta, values({1, 4}, {0.5f, -1.0f, 0.25f, 4.0f})));
  mask const keep = pare::dare_mask(delta.span(), sparsity(0.5), dare_draw::magnitude);
  CHECK((!keep(0, 0) && keep(0, 1) && !keep(0, 2) && keep(0, 3)));
  auto const merged = pare::dare_merge(base.span(), delta.span(), keep, 0.5);
  CHECK(pare::test::same_bits(merged, values({1, 4}, {1.0f, 0.0f, 3.0f, 12.0f})));
  auto const whole = pare::dare_merge(base.span(), delta.span(), mask({1, 4}, true), 1.0);
  CHECK(pare::test::same_bits(whole, tuned));
}

TEST_CASE("dare: the draws drop what they say, and repeat with their seed") {
  extents const shape{40, 250};
  matrix<float> const delta(shape);  // random draws do not look at it
  for (double const p : {0.0, 0.1, 0.9, 0.999, 1.0}) {
    INFO(p);
    mask const exact = pare::dare_mask(delta.span(), sparsity(p), dare_draw::exact, 3);
    CHECK(exact.count() == shape.size() - sparsity(p).removed_of(shape.size()));
    mask const drawn = pare::dare_mask(delta.span(), sparsity(p), dare_draw::bernoulli, 3);
    double const n = static_cast<double>(shape.size());
    CHECK(std::abs(static_cast<double>(drawn.count()) - (1.0 - p) * n) <= 4.0 * std::sqrt(n * p * (1.0 - p)) + 1e-9);
    CHECK(drawn == pare::dare_mask(delta.span(), sparsity(p), dare_draw::bernoulli, 3));
    if (p == 0.1 || p == 0.9) {
      CHECK_FALSE(drawn == pare::dare_mask(delta.span(), sparsity(p), dare_draw::bernoulli, 4));
      CHECK_FALSE(exact == pare::dare_mask(delta.span(), sparsity(p), dare_draw::exact, 4));
      CHECK_FALSE(drawn.count() == exact.count());  // a count of its own
    }
  }
}

TEST_CASE("dare: 1/(1-p) keeps the sum of the changes on average") {
  pare::random_source random(5);
  extents const shape{1, 50};
  auto const delta = random_matrix(random, shape);
  matrix<float> const base(shape);
  double sum = 0.0;
  for (index_t j = 0; j < 50; ++j) sum += static_cast<double>(delta(0, j));
  double mean = 0.0;
  int const draws = 4000;
  for (int d = 0; d < draws; ++d) {
    mask const keep =
        pare::dare_mask(delta.span(), sparsity(0.8), dare_draw::bernoulli, static_cast<std::uint64_t>(d) * 7919u);
    auto const merged = pare::dare_merge(base.span(), delta.span(), keep, 1.0 - 0.8);
    for (index_t j = 0; j < 50; ++j) mean += static_cast<double>(merged(0, j)) / draws;
  }
  CHECK(mean == Approx(sum).margin(4.0 * std::sqrt(50.0 * 4.0 / draws)));
}

TEST_CASE("dare_q_by_output: changes the outputs less than any other q") {
  pare::random_source random(7);
  for (double const p : {0.3, 0.7, 0.95}) {
    extents const shape{6, 20};
    auto const delta = random_matrix(random, shape);
    auto x = random_matrix(random, {20, 30});
    for (index_t n = 0; n < 30; ++n)
      for (index_t k = 1; k < 20; ++k) x(k, n) += 0.8f * x(k - 1, n);
    gram g(20);
    g.add(x.span());
    mask const keep = pare::dare_mask(delta.span(), sparsity(p), dare_draw::exact, 11);
    double const q = pare::dare_q_by_output(delta.span(), keep, g).value();
    double const least = output_change(delta, keep, x, q);
    for (double const other : {0.5 * q, 0.98 * q, 1.02 * q, 2.0 * q})
      CHECK(least < output_change(delta, keep, x, other));
    double const tried = pare::dare_search(0.2 * q, 2.0 * q, 0.05 * q,
                                           [&](double trial) { return output_change(delta, keep, x, trial); });
    CHECK(tried == Approx(q).epsilon(0.006));
  }
  auto const delta = values({1, 2}, {1.0f, 1.0f});  // by hand: Y = x1 + x2 = (1, 1), Y' = x1 = (1, 0)
  matrix<float> x = values({2, 2}, {1.0f, 0.0f, 0.0f, 1.0f});
  mask one({1, 2});
  one.set(0, 0);
  gram g(2);
  g.add(x.span());
  CHECK(pare::dare_q_by_output(delta.span(), one, g).value() == Approx(1.0));
  gram doubled(2);  // x2 = x1: half of it must count twice
  x = values({2, 2}, {1.0f, 2.0f, 1.0f, 2.0f});
  doubled.add(x.span());
  CHECK(pare::dare_q_by_output(delta.span(), one, doubled).value() == Approx(0.5));

  CHECK(pare::dare_q_by_output(delta.span(), mask({1, 2}), g).error().code == errc::out_of_range);
  gram opposed(2);  // x2 = -2 x1: what is kept points away from the whole
  x = values({2, 1}, {1.0f, -2.0f});
  opposed.add(x.span());
  CHECK(pare::dare_q_by_output(delta.span(), one, opposed).error().code == errc::out_of_range);
  CHECK(pare::dare_q_by_output(matrix<float>(1, 2).span(), one, g).error().code == errc::out_of_range);
  auto const bad = values({1, 2}, {std::numeric_limits<float>::infinity(), 1.0f});
  CHECK(pare::dare_q_by_output(bad.span(), one, g).error().code == errc::not_finite);
  CHECK_THROWS_AS(pare::dare_q_by_output(delta.span(), one, gram(3)), pare::contract_violation);
  CHECK_THROWS_AS(pare::dare_q_by_output(delta.span(), mask({2, 1}), g), pare::contract_violation);
}

TEST_CASE("dare_search: two grids, bounds kept, ties and NaN") {
  std::vector<double> asked;
  double const q = pare::dare_search(0.1, 0.5, 0.1, [&](double v) {
    asked.push_back(v);
    return std::abs(v - 0.33);
  });
  CHECK(q == Approx(0.33));
  REQUIRE(asked.size() == 5 + 19);
  CHECK(asked[0] == Approx(0.1));
  CHECK(asked[4] == Approx(0.5));
  CHECK(asked[5] == Approx(0.21));
  CHECK(asked.back() == Approx(0.39));
  CHECK(pare::dare_search(0.1, 0.5, 0.1, [](double v) { return v; }) == Approx(0.1));
  CHECK(pare::dare_search(0.1, 0.5, 0.1, [](double v) { return -v; }) == Approx(0.5));
  CHECK(pare::dare_search(0.1, 0.5, 0.1, [](double) { return 1.0; }) == Approx(0.1));
  CHECK(pare::dare_search(0.2, 0.2, 1.0, [](double) { return std::nan(""); }) == Approx(0.2));
  CHECK_THROWS_AS(pare::dare_search(0.0, 0.5, 0.1, [](double v) { return v; }), pare::contract_violation);
}

TEST_CASE("dare_analytic: q by hand, and against the formula point by point") {
  // One row, c = -100, p = 0.9, eta = 1, gamma chosen so that ln(2 / (1 - gamma)) = ln 8. The first term falls from 0
  // at q = 0.1; Phi(0.9) = -0.8 / ln(1/9) = 0.364. The zero of the sum is what the grid comes closest to.
  auto const delta = values({1, 1}, {-100.0f});
  std::vector<double> const one{1.0};
  dare_analytic const method{.eta = 1.0, .gamma = 0.75, .stop = 1.0};
  double const q = method.layer(delta.span(), one, sparsity(0.9));
  auto const value = [](double at) {
    return (1.0 - 0.1 / at) * -100.0 + 0.8 / std::log(9.0) * 1e4 / (4.0 * at * at) + std::log(8.0);
  };
  double best = 0.1;  // |value| falls along the whole range here
  for (int k = 100; k < 999; ++k)
    if (std::abs(value(0.001 * k)) < std::abs(value(best))) best = 0.001 * k;
  CHECK(q == Approx(best));
  CHECK(best == Approx(0.998));

  pare::random_source random(13);
  for (double const p : {0.5, 0.8, 0.99}) {
    extents const shape{7, 9};
    auto const d = random_matrix(random, shape);
    std::vector<double> mean;
    for (int j = 0; j < 9; ++j) mean.push_back(3.0 * static_cast<double>(random.normal()));
    std::vector<float> bias;
    for (int i = 0; i < 7; ++i) bias.push_back(random.normal());
    dare_analytic const whole{.eta = 0.6, .stop = 2.0};  // no row ends the walk
    auto const rows = whole.rows(d.span(), mean, sparsity(p), bias);
    double sum = 0.0;
    for (index_t i = 0; i < 7; ++i) {
      auto const at = [&](double trial) {
        double first = static_cast<double>(bias[std::size_t(i)]);
        double second = first * first;
        for (index_t j = 0; j < 9; ++j) {
          double const c = static_cast<double>(d(i, j)) * mean[std::size_t(j)];
          first += c;
          second += c * c;
        }
        double const phi = p == 0.5 ? 0.5 : (1.0 - 2.0 * p) / std::log((1.0 - p) / p);
        return std::abs(0.6 * (1.0 - (1.0 - p) / trial) * first + 0.36 * phi * second / (4.0 * trial * trial) +
                        std::log(2.0 / 0.05));
      };
      double const chosen = rows[std::size_t(i)];
      sum += chosen;
      CHECK(chosen >= 1.0 - p - 1e-9);
      for (int k = static_cast<int>(std::lround((1.0 - p) * 1000.0)); k < 999; ++k)
        CHECK(at(chosen) <= at(0.001 * k) * (1.0 + 1e-9));
    }
    CHECK(whole.layer(d.span(), mean, sparsity(p), bias) == Approx(sum / 7.0));
  }
}

TEST_CASE("dare_analytic: the walk ends where enough rows were worse than before") {
  // Without changes every q is equal: all rows stop at the second point; with stop = 0 none is tried.
  matrix<float> const none(4, 3);
  std::vector<double> const mean(3, 1.0);
  for (double const q : dare_analytic{.stop = 1.0}.rows(none.span(), mean, sparsity(0.9))) CHECK(q == Approx(0.101));
  for (double const q : dare_analytic{.stop = 0.0}.rows(none.span(), mean, sparsity(0.9))) CHECK(q == Approx(0.1));
  CHECK_THROWS_AS(dare_analytic{}.rows(none.span(), mean, sparsity(1.0)), pare::contract_violation);
  CHECK_THROWS_AS(dare_analytic{}.rows(none.span(), mean, sparsity(0.0)), pare::contract_violation);
  CHECK_THROWS_AS(dare_analytic{}.rows(none.span(), std::vector<double>(2, 1.0), sparsity(0.5)),
                  pare::contract_violation);
  CHECK_THROWS_AS(dare_analytic{}.layer(matrix<float>(0, 3).span(), mean, sparsity(0.5)), pare::contract_violation);
  CHECK_THROWS_AS(pare::dare_merge(none.span(), none.span(), mask({4, 3}), 0.0), pare::contract_violation);
  CHECK_THROWS_AS(pare::dare_merge(none.span(), none.span(), mask({3, 4}), 1.0), pare::contract_violation);
  CHECK_THROWS_AS(pare::delta_of(none.span(), matrix<float>(3, 4).span()), pare::contract_violation);
}
