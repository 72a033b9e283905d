// SPDX-License-Identifier: Apache-2.0
// Laws of selection, over random shapes, patterns and sparsities.
#include <algorithm>
#include <numeric>
#include <vector>

#include <pare/score/magnitude.hpp>
#include <pare/score/random_score.hpp>
#include <pare/score/wanda.hpp>
#include <pare/select/select.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::any_pattern;
using pare::extents;
using pare::index_t;
using pare::mask;
using pare::matrix;
using pare::random_source;
using pare::scope;
using pare::sparsity;

namespace {

constexpr std::uint64_t seed = 111;
constexpr int trials = 150;

any_pattern random_pattern(random_source& random) {
  switch (random.below(3)) {
    case 0:
      return {};
    case 1:
      return {{1 + random.below(5), 1 + random.below(5)}, 0, 0};
    default: {
      index_t const m = 2 + random.below(31);
      return {{1, 1}, 1 + random.below(m - 1), m};
    }
  }
}
extents random_shape(random_source& random, any_pattern const& p) {
  index_t const step = p.of() > 0 ? p.of() : p.unit().cols;
  return {p.unit().rows * random.below(8), step * random.below(8)};
}
mask select_any(matrix<float> const& scores, any_pattern const& p, double s, scope where) {
  return p.of() > 0 ? pare::select(scores, p) : pare::select(scores, p, sparsity{s}, where);
}
scope random_scope(random_source& random) { return random.below(2) == 0 ? scope::row : scope::matrix; }

std::vector<index_t> shuffled(random_source& random, index_t n) {
  std::vector<index_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), index_t{0});
  for (index_t i = n - 1; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(random.below(i + 1))]);
  return order;
}

/// Different values only: no ties.
matrix<float> distinct_scores(random_source& random, extents shape) {
  matrix<float> m(shape);
  auto const order = shuffled(random, m.size());
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(order[static_cast<std::size_t>(i)]);
  return m;
}

}  // namespace

TEST_CASE("select: every mask is admitted by its pattern, and the same scores give the same mask") {
  random_source random(seed);
  for (int trial = 0; trial < trials; ++trial) {
    any_pattern const p = random_pattern(random);
    auto const scores = pare::test::random_matrix(random, random_shape(random, p));
    auto const s = static_cast<double>(random.uniform());
    scope const where = random_scope(random);
    INFO("seed " << seed << ", trial " << trial);
    mask const keep = select_any(scores, p, s, where);
    REQUIRE(pare::admits(p, keep));
    REQUIRE(select_any(matrix<float>(scores), p, s, where) == keep);
  }
}

TEST_CASE("select: what a higher sparsity keeps, a lower one keeps too") {
  random_source random(seed + 1);
  for (int trial = 0; trial < trials; ++trial) {
    any_pattern const p = trial % 2 == 0 ? any_pattern() : any_pattern({2, 3}, 0, 0);
    auto w = pare::test::random_matrix(random, random_shape(random, p));
    for (index_t i = 0; i < w.size(); ++i)
      if (random.uniform() < 0.2f) w.data()[i] = 0.0f;  // ties
    auto const scores = pare::score(w, pare::magnitude{});
    scope const where = random_scope(random);
    double a = static_cast<double>(random.uniform());
    double b = static_cast<double>(random.uniform());
    if (a > b) std::swap(a, b);
    INFO("seed " << seed + 1 << ", trial " << trial << ", sparsities " << a << " and " << b);
    REQUIRE(select_any(scores, p, b, where).subset_of(select_any(scores, p, a, where)));
  }
}

TEST_CASE("select: rows in another order give the mask's rows in that order, where no scores are equal") {
  random_source random(seed + 2);
  for (int trial = 0; trial < trials; ++trial) {
    any_pattern const p = trial % 2 == 0 ? any_pattern() : any_pattern({1, 1}, 3, 8);
    auto const scores = distinct_scores(random, random_shape(random, p));
    auto const order = shuffled(random, scores.rows());
    matrix<float> turned(scores.shape());
    for (index_t r = 0; r < scores.rows(); ++r)
      for (index_t c = 0; c < scores.cols(); ++c) turned(r, c) = scores(order[static_cast<std::size_t>(r)], c);
    auto const s = static_cast<double>(random.uniform());
    scope const where = random_scope(random);
    mask const keep = select_any(scores, p, s, where);
    mask const turned_keep = select_any(turned, p, s, where);
    INFO("seed " << seed + 2 << ", trial " << trial);
    for (index_t r = 0; r < scores.rows(); ++r)
      for (index_t c = 0; c < scores.cols(); ++c)
        REQUIRE(turned_keep(r, c) == keep(order[static_cast<std::size_t>(r)], c));
  }
}

TEST_CASE("select: nothing that is removed scores higher than anything kept in its pool") {
  random_source random(seed + 3);
  for (int trial = 0; trial < trials; ++trial) {
    auto const scores = pare::test::random_matrix(random, {1 + random.below(12), 1 + random.below(40)});
    mask const keep = pare::select(scores, pare::unstructured{}, sparsity{static_cast<double>(random.uniform())});
    float highest_removed = -1e30f;
    float lowest_kept = 1e30f;
    for (index_t r = 0; r < keep.rows(); ++r)
      for (index_t c = 0; c < keep.cols(); ++c)
        (keep(r, c) ? lowest_kept : highest_removed) =
            keep(r, c) ? std::min(lowest_kept, scores(r, c)) : std::max(highest_removed, scores(r, c));
    INFO("seed " << seed + 3 << ", trial " << trial);
    REQUIRE(highest_removed <= lowest_kept);
  }
}

TEST_CASE("criteria: the same seed gives the same mask, and a common factor does not change one") {
  random_source random(seed + 4);
  for (int trial = 0; trial < 40; ++trial) {
    auto const w = pare::test::random_matrix(random, {8, 16});
    auto const x = pare::test::random_matrix(random, {16, 20});
    matrix<float> w4 = w;
    matrix<float> x8 = x;
    for (index_t i = 0; i < w.size(); ++i) w4.data()[i] *= 4.0f;  // powers of two: exact
    for (index_t i = 0; i < x.size(); ++i) x8.data()[i] *= 8.0f;
    pare::wanda::needs stats(16);
    pare::wanda::needs stats8(16);
    stats.add(x.span());
    stats8.add(x8.span());
    auto const mask_of = [](matrix<float> const& scores) { return pare::select(scores, pare::n_of_m<2, 4>{}); };
    INFO("seed " << seed + 4 << ", trial " << trial);
    REQUIRE(mask_of(pare::score(w4, pare::wanda{}, stats8)) == mask_of(pare::score(w, pare::wanda{}, stats)));
    REQUIRE(mask_of(pare::score(w4, pare::magnitude{})) == mask_of(pare::score(w, pare::magnitude{})));
    auto const drawn = static_cast<std::uint64_t>(trial);
    REQUIRE(mask_of(pare::score(w, pare::random_score{drawn})) == mask_of(pare::score(w4, pare::random_score{drawn})));
  }
}
