// SPDX-License-Identifier: Apache-2.0
// FLAP's importance of input features and its compensation in the bias, by hand and against samples.
#include <cmath>
#include <limits>
#include <vector>

#include <pare/prune/flap.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::errc;
using pare::extents;
using pare::flap_metric;
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

}  // namespace

TEST_CASE("flap: the three metrics, the choice and the bias, by hand") {
  auto const w = values({2, 4}, {1.0f, -2.0f, 0.0f, 3.0f, -1.0f, 1.0f, 0.0f, 0.5f});
  std::vector<double> const mean{2.0, -1.0, 5.0, 0.0};
  std::vector<double> const variance{5.0, 3.0, 10.0, 0.25};
  auto const wifv = pare::flap_scores(w.span(), mean, variance);
  CHECK(wifv[0] == Approx(5.0 * 2.0));
  CHECK(wifv[1] == Approx(3.0 * 5.0));
  CHECK(wifv[2] == 0.0f);
  CHECK(wifv[3] == Approx(0.25 * 9.25));
  auto const ifv = pare::flap_scores(w.span(), mean, variance, flap_metric::ifv);
  for (std::size_t j = 0; j < 4; ++j) CHECK(static_cast<double>(ifv[j]) == variance[j]);
  auto const wifn = pare::flap_scores(w.span(), mean, variance, flap_metric::wifn);
  CHECK(wifn[0] == Approx(1.0 * 3.0));
  CHECK(wifn[1] == Approx(1.5 * 2.0));
  CHECK(wifn[2] == 0.0f);
  CHECK(wifn[3] == Approx(1.75 * 0.5));

  std::vector<float> bias{10.0f, 20.0f};
  auto const p = pare::prune_features(w.span(), bias, mean, variance, sparsity(0.75)).value();
  CHECK(pare::test::same_bits(p.weights, values({2, 4}, {0.0f, -2.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f})));
  CHECK(p.keep.count() == 2);
  CHECK((p.keep(0, 1) && p.keep(1, 1)));
  CHECK(bias == std::vector<float>{12.0f, 18.0f});
  std::vector<float> assigned{10.0f, 20.0f};
  CHECK(pare::prune_features(w.span(), assigned, mean, variance, sparsity(0.75), flap_metric::wifv,
                             pare::bias_update::assign));
  CHECK(assigned == std::vector<float>{2.0f, -2.0f});
}

TEST_CASE("flap: the compensated bias keeps the outputs' mean and is the best bias, for any mask") {
  pare::random_source random(3);
  extents const shape{5, 12};
  index_t const samples = 40;
  auto const w = random_matrix(random, shape);
  auto x = random_matrix(random, {12, samples});
  for (index_t k = 0; k < 12; ++k)
    for (index_t n = 0; n < samples; ++n) x(k, n) += static_cast<float>(k) - 4.0f;
  std::vector<double> mean(12, 0.0);
  for (index_t k = 0; k < 12; ++k)
    for (index_t n = 0; n < samples; ++n)
      mean[static_cast<std::size_t>(k)] += static_cast<double>(x(k, n)) / static_cast<double>(samples);
  mask const keep = pare::test::random_mask(random, shape, 0.4f);
  std::vector<float> bias{1.0f, -2.0f, 0.0f, 1e-10f, 100.0f};
  std::vector<float> const before = bias;
  pare::compensate_bias(w.span(), keep, mean, bias);
  auto const error = [&](index_t i, double b) {
    double sum = 0.0;
    for (index_t n = 0; n < samples; ++n) {
      double d = static_cast<double>(before[static_cast<std::size_t>(i)]) - b;
      for (index_t k = 0; k < 12; ++k)
        if (!keep(i, k)) d += static_cast<double>(w(i, k)) * static_cast<double>(x(k, n));
      sum += d * d;
    }
    return sum;
  };
  for (index_t i = 0; i < 5; ++i) {
    double const b = static_cast<double>(bias[static_cast<std::size_t>(i)]);
    CHECK(error(i, b) < error(i, b + 0.01));
    CHECK(error(i, b) < error(i, b - 0.01));
  }
}

TEST_CASE("flap: equal scores, no rows, one column, everything removed") {
  std::vector<double> const ones(3, 1.0);
  std::vector<float> bias(2, 0.0f);
  auto const w = values({2, 3}, {1.0f, 1.0f, 1.0f, 2.0f, 2.0f, 2.0f});
  auto const p = pare::prune_features(w.span(), bias, ones, ones, sparsity(0.34)).value();
  CHECK((!p.keep(0, 0) && p.keep(0, 1) && p.keep(0, 2)));  // of equal ones the first goes
  auto const all = pare::prune_features(w.span(), bias, ones, ones, sparsity(1.0)).value();
  CHECK(all.keep.count() == 0);
  CHECK(bias == std::vector<float>{4.0f, 8.0f});
  auto const none = pare::prune_features(w.span(), bias, ones, ones, sparsity(0.0)).value();
  CHECK(pare::test::same_bits(none.weights, w));
  CHECK(bias == std::vector<float>{4.0f, 8.0f});
  for (auto const by : {flap_metric::wifv, flap_metric::ifv, flap_metric::wifn}) {
    auto const empty =
        pare::prune_features(matrix<float>(0, 3).span(), std::span<float>(), ones, ones, sparsity(0.5), by).value();
    CHECK(empty.keep.shape() == extents{0, 3});
  }
}

TEST_CASE("flap: statistics that are not finite or of another layer") {
  matrix<float> const w(2, 3);
  std::vector<double> const ones(3, 1.0);
  std::vector<double> bad{1.0, std::numeric_limits<double>::quiet_NaN(), 1.0};
  std::vector<float> bias{1.0f, 2.0f};
  CHECK(pare::prune_features(w.span(), bias, bad, ones, sparsity(0.5)).error().code == errc::not_finite);
  CHECK(pare::prune_features(w.span(), bias, ones, bad, sparsity(0.5)).error().code == errc::not_finite);
  CHECK(bias == std::vector<float>{1.0f, 2.0f});
  std::vector<double> const two(2, 1.0);
  CHECK_THROWS_AS(pare::flap_scores(w.span(), two, ones), pare::contract_violation);
  CHECK_THROWS_AS(pare::flap_scores(w.span(), ones, two), pare::contract_violation);
  std::vector<float> one(1);
  CHECK_THROWS_AS(pare::compensate_bias(w.span(), mask({2, 3}), ones, one), pare::contract_violation);
  CHECK_THROWS_AS(pare::compensate_bias(w.span(), mask({3, 2}), ones, bias), pare::contract_violation);
}
