// SPDX-License-Identifier: Apache-2.0
// FLAP's criterion against its formula, and against what the published code makes of it.
#include <cmath>
#include <vector>

#include <pare/score/fluctuation.hpp>
#include <pare/score/normalise.hpp>
#include <pare/select/select.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::fluctuation;
using pare::index_t;
using pare::matrix;
using pare::test::random_matrix;

namespace {

std::vector<double> columns(matrix<float> const& s) {
  std::vector<double> sums(std::size_t(s.cols()), 0.0);
  for (index_t i = 0; i < s.rows(); ++i)
    for (index_t j = 0; j < s.cols(); ++j) sums[std::size_t(j)] += static_cast<double>(s(i, j));
  return sums;
}

void check(std::vector<double> const& sums, std::vector<double> const& expected) {
  REQUIRE(sums.size() == expected.size());
  for (std::size_t j = 0; j < sums.size(); ++j) {
    INFO("channel " << j);
    CHECK(sums[j] == Approx(expected[j]).epsilon(1e-6).margin(1e-30));
  }
}

}  // namespace

TEST_CASE("fluctuation: computed by hand") {
  matrix<float> w(3, 4);
  float const weights[] = {1, -2, 3, 4, 0, 0, 0, 0, 2, 2, -2, 2};
  for (index_t i = 0; i < 12; ++i) w.data()[i] = weights[i];
  matrix<float> x(4, 2);  // means 2, 5, 0, 0; variances 1, 0, 9, 0
  float const inputs[] = {1, 3, 5, 5, 3, -3, 0, 0};
  for (index_t i = 0; i < 8; ++i) x.data()[i] = inputs[i];
  fluctuation::needs stats(4);
  stats.add(x.span());
  // sums of squares 5, 8, 13, 20; means of magnitudes 1, 4/3, 5/3, 2; roots of second moments sqrt 5, 5, 3, 0
  check(columns(pare::score(w, fluctuation{}, stats)), {5, 0, 117, 0});
  check(columns(pare::score(w, fluctuation{.by = fluctuation::metric::ifv}, stats)), {1, 0, 9, 0});
  check(columns(pare::score(w, fluctuation{.by = fluctuation::metric::wifn}, stats)), {std::sqrt(5.0), 20.0 / 3, 5, 0});
  check(columns(pare::score(w, fluctuation{.squared = true}, stats)), {25, 0, 117 * 117, 0});
  // A constant input goes first, however large its weights and its mean.
  auto const keep =
      pare::select(pare::score(w, fluctuation{}, stats), pare::any_pattern({3, 1}, 0, 0), pare::sparsity{0.5});
  CHECK((keep(0, 0) && !keep(0, 1) && keep(0, 2) && !keep(0, 3)));
  CHECK_THROWS_AS(pare::score(w, fluctuation{}, fluctuation::needs(3)), pare::contract_violation);
}

TEST_CASE("fluctuation: is what its formula says, on random and tiny weights, zeros and single rows") {
  pare::random_source random(41);
  for (pare::extents const shape : {pare::extents{6, 11}, pare::extents{1, 5}, pare::extents{4, 1}})
    for (float const scale : {1.0f, 1e-10f, 0.0f}) {
      auto w = random_matrix(random, shape);
      for (index_t i = 0; i < w.size(); ++i) w.data()[i] *= scale;
      auto x = random_matrix(random, {shape.cols, 15});
      for (index_t n = 0; n < 15; ++n) x(0, n) = 7.0f;
      fluctuation::needs stats(shape.cols);
      stats.add(x.span().col_range(0, 4));
      stats.add(x.span().col_range(4, 11));
      std::vector<double> wifv, ifv, wifn;
      for (index_t j = 0; j < shape.cols; ++j) {
        double mean = 0.0, second = 0.0, variance = 0.0, squares = 0.0, magnitudes = 0.0;
        for (index_t n = 0; n < 15; ++n) mean += static_cast<double>(x(j, n));
        mean /= 15.0;
        for (index_t n = 0; n < 15; ++n) variance += std::pow(static_cast<double>(x(j, n)) - mean, 2) / 15.0;
        for (index_t n = 0; n < 15; ++n) second += std::pow(static_cast<double>(x(j, n)), 2) / 15.0;
        for (index_t i = 0; i < shape.rows; ++i) squares += std::pow(static_cast<double>(w(i, j)), 2);
        for (index_t i = 0; i < shape.rows; ++i) magnitudes += std::abs(static_cast<double>(w(i, j)));
        wifv.push_back(variance * squares);
        ifv.push_back(variance);
        wifn.push_back(magnitudes / static_cast<double>(shape.rows) * std::sqrt(second));
      }
      check(columns(pare::score(w, fluctuation{}, stats)), wifv);
      check(columns(pare::score(w, fluctuation{.by = fluctuation::metric::ifv}, stats)), ifv);
      check(columns(pare::score(w, fluctuation{.by = fluctuation::metric::wifn}, stats)), wifn);
    }
}

TEST_CASE("fluctuation: the first sequence counts, and their order does not, unlike in the published code") {
  // Its recurrence for one channel: the mean is overwritten before the "old" one is read.
  auto const published = [](std::vector<std::vector<double>> const& sequences) {
    double mean = 0.0, fluctuation = 0.0;
    for (std::size_t n = 0; n < sequences.size(); ++n) {
      double sum = 0.0;
      for (double v : sequences[n]) sum += v;
      auto const seen = static_cast<double>(n);
      mean = mean * seen / (seen + 1) + sum / static_cast<double>(sequences[n].size()) / (seen + 1);
      if (n == 0) continue;
      double squares = 0.0;
      for (double v : sequences[n]) squares += (v - mean) * (v - mean);
      fluctuation = fluctuation * (seen - 1) / seen + squares / (seen + 1);
    }
    return fluctuation;
  };
  auto const ours = [](std::vector<std::vector<double>> const& sequences) {
    fluctuation::needs stats(1);
    for (auto const& s : sequences) {
      matrix<float> x(1, static_cast<index_t>(s.size()));
      for (std::size_t i = 0; i < s.size(); ++i) x.data()[i] = static_cast<float>(s[i]);
      stats.add(x.span());
    }
    return static_cast<double>(
        pare::score(matrix<float>(1, 1), fluctuation{.by = fluctuation::metric::ifv}, stats)(0, 0));
  };
  std::vector<double> const busy{-4, 4}, quiet{1, 1}, calm{0, 2};
  CHECK(published({busy}) == 0.0);
  CHECK(ours({busy}) == Approx(16.0));
  CHECK(published({busy, quiet, calm}) != Approx(published({calm, quiet, busy})));
  CHECK(ours({busy, quiet, calm}) == Approx(ours({calm, quiet, busy})));
  CHECK(ours({busy, quiet, calm}) == Approx(38.0 / 6.0 - 4.0 / 9.0));
}

TEST_CASE("fluctuation: after zscore a factor of the layer's inputs is gone, so that layers compare") {
  pare::random_source random(4);
  auto const w = random_matrix(random, {3, 9});
  auto x = random_matrix(random, {9, 20});
  fluctuation::needs stats(9);
  stats.add(x.span());
  for (index_t i = 0; i < x.size(); ++i) x.data()[i] *= 64.0f;
  fluctuation::needs louder(9);
  louder.add(x.span());
  auto const a = pare::score(w, fluctuation{} | pare::zscore{}, stats);
  auto const b = pare::score(w, fluctuation{} | pare::zscore{}, louder);
  for (index_t i = 0; i < a.size(); ++i) CHECK(a.data()[i] == Approx(b.data()[i]).epsilon(1e-5));
}
