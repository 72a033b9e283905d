// SPDX-License-Identifier: Apache-2.0
// DSnoT against loops written from its rules, and the moments of inputs that it reads.
#include <cmath>
#include <limits>
#include <vector>

#include <pare/prune/dsnot.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/ria.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::any_pattern;
using pare::contract_violation;
using pare::dsnot;
using pare::errc;
using pare::extents;
using pare::index_t;
using pare::input_moments;
using pare::input_norms;
using pare::mask;
using pare::matrix;
using pare::sparsity;
using pare::statistics;
using pare::test::random_matrix;
using stop = dsnot<>::sign_stop;

namespace {

using needs = statistics<input_norms, input_moments>;
static_assert(std::same_as<dsnot<>::needs, needs>);
static_assert(std::same_as<dsnot<pare::magnitude>::needs, needs>);
static_assert(std::same_as<dsnot<pare::ria>::needs, needs>);
static_assert(pare::layer_pruner<dsnot<>> && pare::layer_pruner<dsnot<pare::magnitude>>);
static_assert(pare::input_statistic<input_moments>);

needs stats_of(matrix<float> const& x) {
  needs stats(x.rows());
  stats.add(x.span());
  return stats;
}

/// Inputs (K, N) with means of their own.
matrix<float> shifted(pare::random_source& random, index_t inputs, index_t samples) {
  auto x = random_matrix(random, {inputs, samples});
  for (index_t k = 0; k < inputs; ++k) {
    float const mean = random.normal();
    for (index_t n = 0; n < samples; ++n) x(k, n) += mean;
  }
  return x;
}

struct moments {
  double mean = 0.0;
  double variance = 0.0;
};

moments slow_moments(matrix<float> const& x, index_t k) {
  long double sum = 0.0;
  for (index_t n = 0; n < x.cols(); ++n) sum += static_cast<long double>(x(k, n));
  long double const mean = sum / static_cast<long double>(x.cols());
  long double squares = 0.0;
  for (index_t n = 0; n < x.cols(); ++n) squares += std::pow(static_cast<long double>(x(k, n)) - mean, 2.0L);
  return {static_cast<double>(mean), static_cast<double>(squares / static_cast<long double>(x.cols()))};
}

struct rules {
  int max_cycles = 50;
  double threshold = 0.1;
  double power = 1.0;
  bool same_sign = false;
};

/// The rules, candidate by candidate, over whole rows in every cycle.
mask slow_dsnot(matrix<float> const& w, matrix<float> const& x, mask const& base, matrix<float> const& order,
                any_pattern const& pattern, rules const& by, index_t& swaps) {
  mask keep = base;
  index_t const group = pattern.of();
  for (index_t r = 0; r < w.rows(); ++r) {
    std::vector<double> change;
    std::vector<double> rank;
    std::vector<bool> used(static_cast<std::size_t>(w.cols()), false);
    double error = 0.0;
    for (index_t c = 0; c < w.cols(); ++c) {
      auto const m = slow_moments(x, c);
      change.push_back(static_cast<double>(w(r, c)) * m.mean);
      rank.push_back(std::abs(change.back()) / std::pow(m.variance, by.power));
      if (!base(r, c)) error += change.back();
    }
    auto const at = [](index_t c) { return static_cast<std::size_t>(c); };
    bool const positive = error > 0.0;
    int cycle = 0;
    while (cycle < by.max_cycles && std::abs(error) > by.threshold) {
      index_t grow = -1;
      for (index_t c = 0; c < w.cols(); ++c) {
        bool const fits = !base(r, c) && !used[at(c)] && change[at(c)] != 0.0 && (change[at(c)] > 0.0) == (error > 0.0);
        if (fits && (grow < 0 || rank[at(c)] >= rank[at(grow)])) grow = c;
      }
      if (grow < 0) break;
      index_t drop = -1;
      for (index_t c = 0; c < w.cols(); ++c) {
        bool fits = base(r, c) && !used[at(c)];
        if (group > 0) {
          fits = fits && c / group == grow / group;
        } else {
          fits = fits && change[at(c)] != 0.0 && (change[at(c)] > 0.0) != (error > 0.0);
        }
        if (fits && (drop < 0 || order(r, c) < order(r, drop))) drop = c;
      }
      if (drop < 0 && group == 0) break;
      if (drop < 0) {
        used[at(grow)] = true;
        continue;
      }
      double const after = error + change[at(drop)] - change[at(grow)];
      if (by.same_sign && (after == 0.0 || (after > 0.0) != positive)) break;
      used[at(grow)] = used[at(drop)] = true;
      keep.set(r, grow);
      keep.set(r, drop, false);
      error = after;
      ++cycle;
      ++swaps;
    }
  }
  return keep;
}

double mean_error(matrix<float> const& w, mask const& keep, matrix<float> const& x) {
  double total = 0.0;
  for (index_t r = 0; r < w.rows(); ++r) {
    double e = 0.0;
    for (index_t c = 0; c < w.cols(); ++c)
      if (!keep(r, c)) e += static_cast<double>(w(r, c)) * slow_moments(x, c).mean;
    total += std::abs(e);
  }
  return total / static_cast<double>(w.rows());
}

template <class Base>
mask base_mask(matrix<float> const& scores, any_pattern const& pattern, double s) {
  return pattern.of() > 0 ? pare::select(scores, pattern)
                          : pare::select(scores, pattern, sparsity{s}, pare::scope::row);
}

/// Compares a method with the slow version; returns how many swaps there were.
template <class Base>
index_t check(matrix<float> const& w, matrix<float> const& x, any_pattern const& pattern, double s,
              dsnot<Base> const& method, bool same_sign) {
  auto const stats = stats_of(x);
  auto const scores = pare::score(w, method.by, stats);
  auto const order = pattern.of() > 0 ? scores : pare::score(w, pare::wanda{}, stats);
  auto const base = base_mask<Base>(scores, pattern, s);
  index_t swaps = 0;
  auto const slow =
      slow_dsnot(w, x, base, order, pattern, {method.max_cycles, method.threshold, method.power, same_sign}, swaps);
  auto const fast = method.prune(w.span(), stats, pattern, sparsity{s}).value();
  REQUIRE(fast.keep == slow);
  REQUIRE(pare::admits(pattern, fast.keep));
  for (index_t r = 0; r < w.rows(); ++r) {
    REQUIRE(fast.keep.row_count(r) == base.row_count(r));
    for (index_t c = 0; c < w.cols(); ++c) REQUIRE(fast.weights(r, c) == (fast.keep(r, c) ? w(r, c) : 0.0f));
  }
  return swaps;
}

}  // namespace

TEST_CASE("input_moments: mean and variance over all batches, in either layout") {
  pare::random_source random(1);
  auto x = shifted(random, 5, 40);
  for (index_t n = 0; n < 40; ++n) {
    x(1, n) = 3.0f;                              // no variance
    x(2, n) = 1e6f + static_cast<float>(n % 2);  // a sum of squares would lose the 1/4
    x(3, n) = n < 20 ? -1.0f : 1.0f;             // all of the variance between the batches
    x(4, n) *= 1e-10f;
  }
  matrix<float> tokens(40, 5);
  for (index_t k = 0; k < 5; ++k)
    for (index_t n = 0; n < 40; ++n) tokens(n, k) = x(k, n);
  input_moments all(5);
  all.add(x.span());
  input_moments batches(5);
  batches.add(x.span().col_range(0, 20));
  batches.add(matrix<float>(5, 0).span());
  batches.add(tokens.span().row_range(20, 1).transposed());
  input_moments rest(5);
  rest.add(tokens.span().row_range(21, 19).transposed());
  batches.merge(rest);
  batches.merge(input_moments(5));
  input_moments none(5);
  none.merge(all);
  for (auto const* m : {&all, &batches, &none}) {
    CHECK(m->samples() == 40);
    CHECK(m->features() == 5);
    for (index_t k = 0; k < 5; ++k) {
      auto const slow = slow_moments(x, k);
      CHECK(m->mean(k) == Approx(slow.mean).epsilon(1e-13).margin(k == 3 ? 1e-15 : 1e-22));
      CHECK(m->variance(k) == Approx(slow.variance).epsilon(1e-9).margin(1e-30));
      CHECK(m->squared_deviations(k) == Approx(40.0 * slow.variance).epsilon(1e-9).margin(1e-30));
    }
    CHECK(m->variance(1) == 0.0);
    CHECK(m->variance(2) == Approx(0.25).epsilon(1e-9));
    CHECK(m->variance(3) == Approx(1.0).epsilon(1e-13));
  }
  CHECK(input_moments(2).mean(1) == 0.0);
  CHECK(input_moments(2).variance(1) == 0.0);
  CHECK_THROWS_AS(all.add(tokens.span()), contract_violation);
  CHECK_THROWS_AS(all.merge(input_moments(4)), contract_violation);
}

TEST_CASE("dsnot: one row by hand") {
  // Two samples a feature, mean -+ deviation: variances 1 4 4 1 1 1, norms 2 3.16 2.83 2 2 2.
  float const means[] = {1.0f, 1.0f, 0.1f, 1.0f, 1.0f, 1.0f};
  float const deviations[] = {1.0f, 2.0f, 2.0f, 1.0f, 1.0f, 1.0f};
  float const values[] = {0.5f, 1.2f, -2.0f, 4.0f, -3.0f, 0.25f};
  matrix<float> x(6, 2);
  matrix<float> w(1, 6);
  for (index_t k = 0; k < 6; ++k) {
    x(k, 0) = means[k] - deviations[k];
    x(k, 1) = means[k] + deviations[k];
    w(0, k) = values[k];
  }
  auto const stats = stats_of(x);
  auto const kept_by = [&](dsnot<> const& method) {
    auto const p = method.prune(w.span(), stats, pare::unstructured{}, sparsity{0.5}).value();
    CHECK(p.note.empty());
    std::vector<index_t> columns;
    p.keep.for_each_in_row(0, [&](index_t c) { columns.push_back(c); });
    for (index_t c = 0; c < 6; ++c) CHECK(p.weights(0, c) == (p.keep(0, c) ? values[c] : 0.0f));
    return columns;
  };
  using columns = std::vector<index_t>;
  // Wanda's scores 1 3.79 5.66 8 6 0.5: columns 5, 0 and 1 go, eps = 0.25 + 0.5 + 1.2 = 1.95.
  CHECK(kept_by({.threshold = 1.96}) == columns{2, 3, 4});
  // Growing: 0.5 / 1 is more than 1.2 / 4. Leaving: of the negative ones -0.2 has the lower score. eps = 1.25.
  CHECK(kept_by({.threshold = 1.3}) == columns{0, 3, 4});
  CHECK(kept_by({.max_cycles = 1}) == columns{0, 3, 4});
  // Then 1.2 / 4 is more than 0.25 / 1, and -3 leaves: eps = -2.95, and nothing negative is pruned that could grow.
  CHECK(kept_by({}) == columns{0, 1, 3});
  CHECK(kept_by({.stop = stop::always}) == columns{0, 3, 4});
  // Without the variance 1.2 grows first: eps = 0.55; then 0.5 does, -3 leaves.
  CHECK(kept_by({.max_cycles = 1, .power = 0.0}) == columns{1, 3, 4});
  CHECK(kept_by({.threshold = 0.6, .power = 0.0}) == columns{1, 3, 4});
}

TEST_CASE("dsnot: an error of exactly zero ends a row, and what changes nothing does not grow") {
  // Samples (a, b) of four features: means 1; the third has the larger norm.
  matrix<float> x(4, 2);
  for (index_t k = 0; k < 4; ++k) x(k, 1) = 2.0f;
  x(2, 0) = -3.0f, x(2, 1) = 5.0f;
  matrix<float> w(1, 4);
  w(0, 0) = -1.0f, w(0, 1) = -2.0f, w(0, 2) = 1.0f, w(0, 3) = 10.0f;
  // -1 and -2 go; growing -2 and dropping 1 would leave eps = -3 + 1 + 2 = 0, whose sign is another.
  auto const stats = stats_of(x);
  auto const half = sparsity{0.5};
  auto const stopped = dsnot<>{.stop = stop::always}.prune(w.span(), stats, pare::unstructured{}, half).value();
  CHECK((stopped.keep(0, 2) && stopped.keep(0, 3)));
  auto const swapped = dsnot<>{}.prune(w.span(), stats, pare::unstructured{}, half).value();
  CHECK((swapped.keep(0, 1) && swapped.keep(0, 3)));

  // 1 goes, and the weight of the feature of mean 0. Growing 1 and dropping -3 gives eps = 1 - 3 - 1 = -3: of what is
  // left only the weight without mean could grow, and it stays away.
  matrix<float> y(4, 2);
  for (index_t k = 0; k < 3; ++k) y(k, 1) = 2.0f;
  y(3, 0) = -1.0f, y(3, 1) = 1.0f;
  w(0, 0) = 1.0f, w(0, 1) = -3.0f, w(0, 2) = 4.0f, w(0, 3) = 0.5f;
  auto const silent = dsnot<>{}.prune(w.span(), stats_of(y), pare::unstructured{}, half).value();
  CHECK((silent.keep(0, 0) && silent.keep(0, 2)));
}

TEST_CASE("dsnot: is what its rules say, for every pattern, base and option") {
  pare::random_source random(2);
  index_t swaps = 0;
  index_t grouped = 0;
  for (extents const shape : {extents{6, 32}, {1, 8}, {9, 64}, {12, 16}}) {
    auto const w = random_matrix(random, shape);
    auto const x = shifted(random, shape.cols, 30);
    for (double const threshold : {0.0, 0.1, 1.0})
      for (double const power : {0.0, 1.0, 2.0})
        for (int const cycles : {0, 1, 4, 50}) {
          INFO(shape.rows << " x " << shape.cols << " threshold " << threshold << " cycles " << cycles);
          dsnot<> method{.max_cycles = cycles, .threshold = threshold, .power = power};
          for (double const s : {0.0, 0.3, 0.5, 0.9, 1.0}) swaps += check(w, x, pare::unstructured{}, s, method, false);
          for (any_pattern const pattern : {any_pattern(pare::n_of_m<2, 4>{}), any_pattern(pare::n_of_m<1, 4>{}),
                                            any_pattern(pare::n_of_m<3, 4>{}), any_pattern(pare::n_of_m<4, 8>{})})
            grouped += check(w, x, pattern, 0.0, method, true);
          method.stop = stop::never;
          grouped += check(w, x, pare::n_of_m<1, 4>{}, 0.0, method, false);
          method.stop = stop::always;
          swaps += check(w, x, pare::unstructured{}, 0.5, method, true);
          dsnot<pare::magnitude> other{.max_cycles = cycles, .threshold = threshold, .power = power};
          swaps += check(w, x, pare::unstructured{}, 0.5, other, false);
          grouped += check(w, x, pare::n_of_m<2, 4>{}, 0.0, other, true);
        }
  }
  CHECK(swaps > 1000);
  CHECK(grouped > 1000);
}

TEST_CASE("dsnot: ties, zeros, inputs without mean or variance, and values of any size") {
  pare::random_source random(3);
  for (int kind = 0; kind < 6; ++kind) {
    INFO("kind " << kind);
    auto w = random_matrix(random, {7, 24});
    auto x = shifted(random, 24, 10);
    for (index_t c = 0; c < 24; ++c)
      for (index_t n = 0; n < 10; ++n) {
        if (kind == 0) x(c, n) = 0.0f;
        if (kind == 1 && c % 3 == 0) x(c, n) = 0.0f;
        if (kind == 2) x(c, n) = static_cast<float>(c % 2) + 1.0f;  // constant: certain
        if (kind == 3) x(c, n) = n % 2 == 0 ? 1.0f : -1.0f;         // no mean
        if (kind == 4) x(c, n) = n % 2 == 0 ? 2.0f : 0.0f;          // all alike
      }
    for (index_t i = 0; i < w.size(); ++i) {
      if (kind == 1 && i % 4 == 0) w.data()[i] = 0.0f;
      if (kind == 2 || kind == 4) w.data()[i] = i % 3 == 0 ? -1.0f : 1.0f;
      if (kind == 5) w.data()[i] *= i % 2 == 0 ? 1e-10f : 1e10f;
    }
    for (double const s : {0.25, 0.5}) check(w, x, pare::unstructured{}, s, dsnot<>{.threshold = 1e-12}, false);
    check(w, x, pare::n_of_m<2, 4>{}, 0.0, dsnot<>{.threshold = 1e-12}, true);
  }
}

TEST_CASE("dsnot: the expected error of rows falls") {
  pare::random_source random(4);
  auto const w = random_matrix(random, {32, 128});
  auto const x = shifted(random, 128, 60);
  auto const stats = stats_of(x);
  auto const scores = pare::score(w, pare::wanda{}, stats);
  for (any_pattern const pattern : {any_pattern(pare::unstructured{}), any_pattern(pare::n_of_m<2, 4>{})}) {
    auto const base = base_mask<pare::wanda>(scores, pattern, 0.5);
    for (stop const s : {stop::as_published, stop::always}) {
      auto const p = dsnot<>{.stop = s}.prune(w.span(), stats, pattern, sparsity{0.5}).value();
      CHECK(mean_error(w, p.keep, x) < 0.6 * mean_error(w, base, x));
      CHECK(pare::overlap(p.keep, base) > 0.5);
    }
  }
}

TEST_CASE("dsnot: what it must refuse") {
  pare::random_source random(5);
  auto const w = random_matrix(random, {4, 8});
  auto x = shifted(random, 8, 12);
  auto const stats = stats_of(x);
  sparsity const half{0.5};
  CHECK(dsnot<>{}.prune(w.span(), needs(8), pare::unstructured{}, half).error().code == errc::missing);
  CHECK(dsnot<>{}.prune(w.span(), stats, pare::block<2, 2>{}, half).error().code == errc::unsupported);
  CHECK(dsnot<>{}.prune(w.span(), stats, pare::n_of_m<2, 4, 2>{}, half).error().code == errc::unsupported);
  CHECK_THROWS_AS(dsnot<>{}.prune(w.span(), stats, pare::n_of_m<2, 3>{}, half), contract_violation);
  CHECK_THROWS_AS(dsnot<>{}.prune(w.span(), needs(7), pare::unstructured{}, half), contract_violation);
  CHECK_THROWS_AS(dsnot<>{.max_cycles = -1}.prune(w.span(), stats, pare::unstructured{}, half), contract_violation);
  CHECK_THROWS_AS(dsnot<>{.threshold = -1.0}.prune(w.span(), stats, pare::unstructured{}, half), contract_violation);
  x(3, 3) = std::numeric_limits<float>::quiet_NaN();
  CHECK(dsnot<>{}.prune(w.span(), stats_of(x), pare::unstructured{}, half).error().code == errc::not_finite);
  auto broken = w;
  broken(1, 1) = std::numeric_limits<float>::infinity();
  CHECK(dsnot<>{}.prune(broken.span(), stats, pare::unstructured{}, half).error().code == errc::not_finite);
}
