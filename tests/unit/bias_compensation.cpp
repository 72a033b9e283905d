// SPDX-License-Identifier: Apache-2.0
// Compensation in the bias, by hand and against samples.
#include <vector>

#include <pare/prune/bias_compensation.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::extents;
using pare::index_t;
using pare::mask;
using pare::matrix;
using pare::test::random_matrix;

namespace {

matrix<float> values(extents shape, std::vector<float> const& v) {
  matrix<float> m(shape);
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = v[static_cast<std::size_t>(i)];
  return m;
}

}  // namespace

TEST_CASE("compensate_bias: by hand, added or assigned") {
  auto const w = values({2, 4}, {1.0f, -2.0f, 0.0f, 3.0f, -1.0f, 1.0f, 0.0f, 0.5f});
  std::vector<double> const mean{2.0, -1.0, 5.0, 0.0};
  mask keep({2, 4});
  keep.set(0, 1);
  keep.set(1, 1);
  std::vector<float> bias{10.0f, 20.0f};
  pare::compensate_bias(w.span(), keep, mean, bias);
  CHECK(bias == std::vector<float>{12.0f, 18.0f});
  pare::compensate_bias(w.span(), keep, mean, bias, pare::bias_update::assign);
  CHECK(bias == std::vector<float>{2.0f, -2.0f});
  pare::compensate_bias(w.span(), mask({2, 4}, true), mean, bias);  // nothing removed
  CHECK(bias == std::vector<float>{2.0f, -2.0f});
}

TEST_CASE("compensate_bias: the compensated bias keeps the outputs' mean and is the best bias, for any mask") {
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

TEST_CASE("compensate_bias: other shapes are contract violations") {
  matrix<float> const w(2, 3);
  std::vector<double> const ones(3, 1.0);
  std::vector<float> bias{1.0f, 2.0f};
  std::vector<double> const two(2, 1.0);
  std::vector<float> one(1);
  CHECK_THROWS_AS(pare::compensate_bias(w.span(), mask({2, 3}), ones, one), pare::contract_violation);
  CHECK_THROWS_AS(pare::compensate_bias(w.span(), mask({2, 3}), two, bias), pare::contract_violation);
  CHECK_THROWS_AS(pare::compensate_bias(w.span(), mask({3, 2}), ones, bias), pare::contract_violation);
}
