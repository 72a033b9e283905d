// SPDX-License-Identifier: Apache-2.0
// Criteria that read gradients: by hand, and against slow versions in double.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <Eigen/Dense>

#include <pare/prune/d_pruner.hpp>
#include <pare/score/gaprune.hpp>
#include <pare/score/grasp.hpp>
#include <pare/score/obd.hpp>
#include <pare/score/snip.hpp>
#include <pare/score/taylor.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using namespace pare;
using test::random_matrix;

namespace {

matrix<float> rows_of(std::vector<std::vector<float>> const& rows) {
  matrix<float> m(std::ssize(rows), std::ssize(rows[0]));
  for (index_t i = 0; i < m.rows(); ++i)
    for (index_t j = 0; j < m.cols(); ++j) m(i, j) = rows[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)];
  return m;
}

/// Adds one sample whose gradient is g.
template <class Corpus = any_corpus, class Stats>
void add(Stats& stats, matrix<float> const& g) {
  stats.template add_gradient<Corpus>(g.span());
  stats.template close<Corpus>(1);
}

/// Adds one position for each row: sqrt(p) in column j of output i, so that P is p / rows.
template <class Corpus, class Stats>
void add_positions(Stats& stats, matrix<float> const& p) {
  for (index_t i = 0; i < p.rows(); ++i) {
    matrix<float> x(p.cols(), 1);
    matrix<float> delta(p.rows(), 1);
    delta(i, 0) = 1.0f;
    for (index_t j = 0; j < p.cols(); ++j) x(j, 0) = std::sqrt(p(i, j));
    stats.template add<Corpus>(gradient_batch{x.span(), delta.span()});
    stats.template close<Corpus>(1);
  }
}

matrix<float> const& weights() {
  static matrix<float> const w = rows_of({{1, -2, 0.5, 0}, {-4, 3, 1, 2}, {0.25f, -1, 8, -0.5}});
  return w;
}
matrix<float> const& first_gradient() {
  static matrix<float> const g = rows_of({{2, 1, -4, 8}, {0, 1, -1, 0.5}, {4, 3, 0.5, -2}});
  return g;
}
matrix<float> const& second_gradient() {
  static matrix<float> const g = rows_of({{0, -3, 0, 0}, {2, 1, 1, 0.5}, {-4, 1, 0.5, 0}});
  return g;
}

}  // namespace

TEST_CASE("taylor, snip: |g w| of the mean gradient, by hand") {
  taylor::needs stats(weights().shape());
  add(stats, first_gradient());
  add(stats, second_gradient());  // mean: {1, -1, -2, 4}, {1, 1, 0, 0.5}, {0, 2, 0.5, -1}
  auto const s = score(weights(), taylor{}, stats);
  auto const expected = rows_of({{1, 2, 1, 0}, {4, 3, 0, 1}, {0, 2, 4, 0.5}});
  CHECK(test::same_bits(s, expected));
  CHECK(test::same_bits(score(weights(), snip{}, stats), expected));
  CHECK(default_scope<snip>() == scope::network);
  taylor_by_sample::needs magnitudes(weights().shape());
  add(magnitudes, first_gradient());
  add(magnitudes, second_gradient());  // mean of |g|: {1, 2, 2, 4}, {1, 1, 1, 0.5}, {4, 2, 0.5, 1}
  CHECK(test::same_bits(score(weights(), taylor_by_sample{}, magnitudes),
                        rows_of({{1, 4, 1, 0}, {4, 3, 1, 1}, {1, 2, 4, 0.5}})));
  auto const grows = score(weights(), taylor{.with_sign = true}, stats);
  auto const by_hand = rows_of({{-1, -2, 1, 0}, {4, -3, 0, -1}, {0, 2, -4, -0.5}});
  for (index_t i = 0; i < s.size(); ++i) CHECK(grows.data()[i] == by_hand.data()[i]);
}

TEST_CASE("obd, taylor_second_order: with the Fisher diagonal, by hand") {
  taylor_second_order::needs stats(weights().shape());
  add(stats, first_gradient());
  add(stats, second_gradient());
  statistics<fisher> only(weights().shape());
  add(only, first_gradient());
  add(only, second_gradient());
  auto const s = score(weights(), obd{}, only);
  // F: {2, 5, 8, 32}, {2, 1, 1, 0.25}, {16, 5, 0.25, 2}; w^2 / 2: {.5, 2, .125, 0}, {8, 4.5, .5, 2}, {1/32, .5, 32,
  // .125}
  auto const expected = rows_of({{1, 10, 1, 0}, {16, 4.5, 0.5, 0.5}, {0.5, 2.5, 8, 0.25}});
  CHECK(test::same_bits(s, expected));
  auto const mixed = score(weights(), taylor_second_order{}, stats);
  auto const by_hand = rows_of({{0, 8, 2, 0}, {20, 1.5, 0.5, 0.5}, {0.5, 4.5, 4, 0.25}});
  for (index_t i = 0; i < s.size(); ++i) CHECK(mixed.data()[i] == by_hand.data()[i]);
  CHECK_THROWS_AS(score(rows_of({{1, 2}}), obd{}, only), contract_violation);
  CHECK(std::string(position_obd::name()) == "obd-position");
}

TEST_CASE("grasp: w H g from two mean gradients, larger = keep") {
  grasp::needs stats(weights().shape());
  add<ahead_of_gradient>(stats, first_gradient());
  add<behind_gradient>(stats, second_gradient());  // difference: {2, 4, -4, 8}, {-2, 0, -2, 0}, {8, 2, 0, -2}
  auto const s = score(weights(), grasp{}, stats);
  auto const expected = rows_of({{2, -8, -2, 0}, {8, 0, -2, 0}, {2, -2, 0, 1}});
  for (index_t i = 0; i < s.size(); ++i) CHECK(s.data()[i] == expected.data()[i]);
}

TEST_CASE("gaprune: the published formula, in double") {
  random_source random(11);
  for (extents const shape : {extents{5, 6}, extents{1, 9}, extents{7, 1}}) {
    auto const w = random_matrix(random, shape);
    gaprune::needs stats(shape);
    std::vector<matrix<float>> general;
    std::vector<matrix<float>> domain;
    for (int s = 0; s < 3; ++s) {
      add<general_corpus>(stats, general.emplace_back(random_matrix(random, shape)));
      add<domain_corpus>(stats, domain.emplace_back(random_matrix(random, shape)));
    }
    auto const mean = [](std::vector<matrix<float>> const& all, index_t i, index_t j, int power) {
      double sum = 0.0;
      for (auto const& g : all) sum += std::pow(static_cast<double>(g(i, j)), power) / 3.0;
      return sum;
    };
    double norm_gen = 0.0;
    double norm_dom = 0.0;
    for (index_t i = 0; i < shape.rows; ++i)
      for (index_t j = 0; j < shape.cols; ++j) {
        norm_gen += std::pow(mean(general, i, j, 1), 2);
        norm_dom += std::pow(mean(domain, i, j, 1), 2);
      }
    auto const s = score(w, gaprune{.gain = 3.0}, stats);
    for (index_t i = 0; i < shape.rows; ++i)
      for (index_t j = 0; j < shape.cols; ++j) {
        double a = 0.0;
        for (index_t r = 0; r < shape.rows; ++r)
          for (index_t k = 0; k < shape.cols; ++k)
            if (std::abs(r - i) <= 1 && std::abs(k - j) <= 1)
              a += mean(general, r, k, 1) / std::sqrt(norm_gen) * mean(domain, r, k, 1) / std::sqrt(norm_dom) / 9.0;
        double const m = std::abs(static_cast<double>(w(i, j)));
        double const importance =
            (mean(domain, i, j, 2) - mean(general, i, j, 2)) * m * std::min(std::max(1.0 + 3.0 * a, 0.8), 1.2) +
            0.5 * std::sqrt(m + 1e-8);
        CHECK(s(i, j) == Approx(std::log(1.0 + std::exp(importance))).epsilon(1e-5));
      }
  }
}

TEST_CASE("gaprune: what the finishes do, and that all-equal scores fall back on magnitude") {
  gaprune::needs stats(weights().shape());
  for (int s = 0; s < 2; ++s) {
    add<general_corpus>(stats, first_gradient());
    add<domain_corpus>(stats, second_gradient());
  }
  auto const plain = score(weights(), gaprune{}, stats);
  auto const ranks = score(weights(), gaprune{.finished = gaprune::finish::rank}, stats);
  auto const scaled = score(weights(), gaprune{.finished = gaprune::finish::min_max}, stats);
  auto const sigmoid = score(weights(), gaprune{.finished = gaprune::finish::zscore_sigmoid}, stats);
  std::vector<float> sorted(plain.data(), plain.data() + plain.size());
  std::sort(sorted.begin(), sorted.end());
  double mean = 0.0;
  double square = 0.0;
  for (float const x : sorted) mean += static_cast<double>(x) / 12.0;
  for (float const x : sorted) square += std::pow(static_cast<double>(x) - mean, 2) / 11.0;
  for (index_t i = 0; i < plain.size(); ++i) {
    auto const x = static_cast<double>(plain.data()[i]);
    auto const below = std::lower_bound(sorted.begin(), sorted.end(), plain.data()[i]) - sorted.begin();
    CHECK(ranks.data()[i] == Approx(static_cast<double>(below) / 12.0).epsilon(1e-6));
    CHECK(scaled.data()[i] ==
          Approx((x - static_cast<double>(sorted.front())) / static_cast<double>(sorted.back() - sorted.front()))
              .margin(1e-6));
    CHECK(sigmoid.data()[i] == Approx(1.0 / (1.0 + std::exp(-(x - mean) / std::sqrt(square)))).epsilon(1e-5));
  }

  gaprune::needs nothing(extents{1, 3});
  auto const flat = score(rows_of({{1, 2, 3}}), gaprune{.c = 0.0}, nothing);  // S = softplus(0) for all
  CHECK(flat(0, 0) == Approx(std::log(2.0) * 0.75).epsilon(1e-6));
  CHECK(flat(0, 1) == Approx(std::log(2.0)).epsilon(1e-6));
  CHECK(flat(0, 2) == Approx(std::log(2.0) * 1.25).epsilon(1e-6));
  auto const zeros = score(rows_of({{0, 0, 0}}), gaprune{}, nothing);  // no NaN out of nothing
  CHECK(std::isfinite(zeros(0, 0)));
}

TEST_CASE("gaprune: as published it is magnitude pruning where Fisher values are those of a trained network") {
  random_source random(13);
  extents const shape{64, 64};
  auto w = random_matrix(random, shape);
  for (index_t i = 0; i < w.size(); ++i) w.data()[i] *= 0.02f;
  gaprune::needs stats(shape);
  gaprune_scaled::needs positions(shape);
  auto const lognormal = [&](float median) {  // of squared gradients, sigma 2
    matrix<float> m = random_matrix(random, shape);
    for (index_t i = 0; i < m.size(); ++i) m.data()[i] = median * std::exp(2.0f * 1.7f * m.data()[i]);
    return m;
  };
  auto const general = lognormal(1e-6f);
  auto const domain = lognormal(1e-6f);
  auto const root = [](matrix<float> m) {
    for (index_t i = 0; i < m.size(); ++i) m.data()[i] = std::sqrt(m.data()[i]);
    return m;
  };
  add<general_corpus>(stats, root(general));
  add<domain_corpus>(stats, root(domain));
  add_positions<general_corpus>(positions, general);
  add_positions<domain_corpus>(positions, domain);
  auto const half = [](matrix<float> const& s) { return select(s, unstructured{}, sparsity{0.5}); };
  matrix<float> magnitudes(shape);
  for (index_t i = 0; i < w.size(); ++i) magnitudes.data()[i] = std::abs(w.data()[i]);
  auto const by_magnitude = half(magnitudes);
  auto const agreement = [&](mask const& m) {
    index_t same = 0;
    for (index_t i = 0; i < shape.rows; ++i)
      for (index_t j = 0; j < shape.cols; ++j) same += m(i, j) == by_magnitude(i, j);
    return static_cast<double>(same) / static_cast<double>(shape.size());
  };
  CHECK(agreement(half(score(w, gaprune{}, stats))) > 0.999);
  CHECK(agreement(half(score(w, gaprune{.stored_as_half = true}, stats))) > 0.999);
  CHECK(agreement(half(score(w, gaprune_scaled{}, positions))) < 0.95);  // Fisher acts
  CHECK(agreement(half(score(w, gaprune_scaled{}, positions))) > 0.6);
}

TEST_CASE("gaprune: float16 between the stages loses what is below 3e-8") {
  CHECK(detail::through_half(1.0) == 1.0);
  CHECK(detail::through_half(2.9e-8) == 0.0);
  CHECK(detail::through_half(3e-8) == std::ldexp(1.0, -24));
  CHECK(detail::through_half(-1.0 / 3.0) == -0.333251953125);
  CHECK(detail::through_half(65504.0) == 65504.0);
  CHECK(std::isinf(detail::through_half(1e6)));
}

TEST_CASE("gaprune_scaled: by hand, alone and with means over two layers") {
  // |W|, P_dom and P_gen of two layers; means over both: |W| 2, sqrt(P_dom) 2, sqrt(P_gen) 1
  auto const w1 = rows_of({{1, -3}});
  auto const w2 = rows_of({{4, 0}});
  gaprune_scaled::needs s1(w1.shape());
  gaprune_scaled::needs s2(w2.shape());
  add_positions<domain_corpus>(s1, rows_of({{1, 9}}));
  add_positions<general_corpus>(s1, rows_of({{4, 0}}));
  add_positions<domain_corpus>(s2, rows_of({{4, 4}}));
  add_positions<general_corpus>(s2, rows_of({{1, 1}}));
  gaprune_scaled by{};
  by.look(w1, s1);
  by.look(w2, s2);
  auto const a = score(w1, by, s1);
  CHECK(a(0, 0) == Approx((0.5 - 0.25 * 2.0) * 0.5 + 0.5 * std::sqrt(0.5)).epsilon(1e-6));
  CHECK(a(0, 1) == Approx((1.5 - 0.0) * 1.5 + 0.5 * std::sqrt(1.5)).epsilon(1e-6));
  auto const b = score(w2, by, s2);
  CHECK(b(0, 0) == Approx((1.0 - 0.25) * 2.0 + 0.5 * std::sqrt(2.0)).epsilon(1e-6));
  CHECK(b(0, 1) == 0.0f);
  auto const alone = score(w2, gaprune_scaled{}, s2);  // means 2, 2, 1 of its own
  CHECK(alone(0, 0) == Approx((1.0 - 0.25) * 2.0 + 0.5 * std::sqrt(2.0)).epsilon(1e-6));

  gaprune_row_aligned::needs s3(w1.shape());
  add_positions<domain_corpus>(s3, rows_of({{1, 9}}));
  add_positions<general_corpus>(s3, rows_of({{4, 0}}));
  // The gradients along the row: domain (1, 3), general (2, 0): cosine 1 / sqrt(10).
  auto const c = score(w1, gaprune_row_aligned{}, s3);
  CHECK(c(0, 0) == Approx((0.5 - 0.25 * 2.0) * 0.5 + 0.5 * std::sqrt(0.5)).epsilon(1e-6));
  CHECK(c(0, 1) == Approx(1.5 * (1.0 + 0.2 / std::sqrt(10.0)) * 1.5 + 0.5 * std::sqrt(1.5)).epsilon(1e-6));

  gaprune_scaled::needs none(w1.shape());
  auto const without = score(w1, gaprune_scaled{}, none);  // no data: the order of the magnitudes
  CHECK((without(0, 0) > 0.0f && without(0, 1) > without(0, 0)));
}

TEST_CASE("d_pruner: against its formula with the inverse of the Hessian") {
  random_source random(17);
  extents const shape{4, 6};
  auto const w = random_matrix(random, shape);
  auto const x = random_matrix(random, {6, 40});
  auto const g = random_matrix(random, shape);
  d_pruner::needs stats(shape);
  stats.add<general_corpus>(x.span());
  add<domain_corpus>(stats, g);
  for (bool const cubic : {false, true}) {
    d_pruner const by{.lambda = 100.0, .cubic = cubic};
    auto const done = by.prune(w.span(), stats, unstructured{}, sparsity{0.5});
    REQUIRE(done);
    Eigen::MatrixXd h = Eigen::MatrixXd::Zero(6, 6);
    for (index_t i = 0; i < 6; ++i)
      for (index_t j = 0; j < 6; ++j)
        for (index_t n = 0; n < 40; ++n) h(i, j) += static_cast<double>(x(i, n)) * static_cast<double>(x(j, n));
    double const mean = h.diagonal().mean();
    h.diagonal().array() += 0.01 * mean;
    matrix<float> expected(shape);
    for (index_t j = 0; j < 6; ++j) {
      // u_jj^2 is the first entry of the inverse of what is left of H from column j on
      double const square = h.bottomRightCorner(6 - j, 6 - j).inverse()(0, 0);
      for (index_t i = 0; i < 4; ++i) {
        auto const m = std::abs(static_cast<double>(w(i, j)));
        auto const d = std::abs(static_cast<double>(g(i, j)));
        double const refined = d + 2.0 * 100.0 * 0.03 * 0.03 * (m * m / square) * d * d;
        expected(i, j) = static_cast<float>(refined * m + 0.5 * d * d * m * m + (cubic ? m * m * m : 0.0));
      }
    }
    CHECK(done->keep == select(expected, unstructured{}, sparsity{0.5}));
    for (index_t i = 0; i < 4; ++i)
      for (index_t j = 0; j < 6; ++j) CHECK(done->weights(i, j) == (done->keep(i, j) ? w(i, j) : 0.0f));
  }
  auto const blocks = d_pruner{.block_columns = 4}.prune(w.span(), stats, unstructured{}, sparsity{0.5});
  REQUIRE(blocks);
  CHECK(blocks->keep.count() == 12);
  index_t first = 0;
  for (index_t i = 0; i < 4; ++i)
    for (index_t j = 0; j < 4; ++j) first += blocks->keep(i, j);
  CHECK(first == 8);
  auto const of_four = d_pruner{}.prune(random_matrix(random, {4, 8}).span(), d_pruner::needs(extents{4, 8}),
                                        n_of_m<2, 4>{}, sparsity{0.5});
  REQUIRE_FALSE(of_four);  // nothing was seen
  CHECK(of_four.error().code == errc::missing);
}
