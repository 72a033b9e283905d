// SPDX-License-Identifier: Apache-2.0
// Channel permutation: against all permutations where there are few, and on a pair of layers.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string_view>
#include <vector>

#include <pare/score/magnitude.hpp>
#include <pare/select/permute.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::any_pattern;
using pare::contract_violation;
using pare::extents;
using pare::find_permutation;
using pare::index_t;
using pare::matrix;
using pare::n_of_m;
using pare::test::random_matrix;

namespace {

/// What select keeps of the scores.
double kept(matrix<float> const& scores, any_pattern const& pattern) {
  auto const keep = pare::select(scores, pattern);
  double sum = 0.0;
  for (index_t r = 0; r < scores.rows(); ++r)
    for (index_t c = 0; c < scores.cols(); ++c)
      if (keep(r, c)) sum += static_cast<double>(scores(r, c));
  return sum;
}

double kept(matrix<float> const& scores, any_pattern const& pattern, std::vector<index_t> const& order) {
  return kept(pare::permute_columns(scores, order), pattern);
}

bool is_permutation(std::vector<index_t> order) {
  std::sort(order.begin(), order.end());
  for (std::size_t i = 0; i < order.size(); ++i)
    if (order[i] != static_cast<index_t>(i)) return false;
  return true;
}

/// The most that any order keeps: all ways to choose the stripe of the first free column, then the rest.
double best_of_all(matrix<float> const& scores, any_pattern const& pattern, std::vector<index_t> order,
                   std::vector<index_t> free) {
  if (free.empty()) return kept(scores, pattern, order);
  index_t const m = pattern.of();
  double best = -1e300;
  std::vector<bool> chosen(free.size() - 1, false);
  std::fill(chosen.begin(), chosen.begin() + (m - 1), true);
  do {
    auto next = order;
    std::vector<index_t> rest;
    next.push_back(free[0]);
    for (std::size_t i = 1; i < free.size(); ++i) (chosen[i - 1] ? next : rest).push_back(free[i]);
    best = std::max(best, best_of_all(scores, pattern, next, rest));
  } while (std::prev_permutation(chosen.begin(), chosen.end()));
  return best;
}

double best_of_all(matrix<float> const& scores, any_pattern const& pattern) {
  std::vector<index_t> all(static_cast<std::size_t>(scores.cols()));
  std::iota(all.begin(), all.end(), index_t{0});
  return best_of_all(scores, pattern, {}, all);
}

matrix<float> magnitudes(std::uint64_t seed, extents shape) {
  pare::random_source random(seed);
  return pare::score(random_matrix(random, shape), pare::magnitude{});
}

}  // namespace

TEST_CASE("find_permutation: three rows of eight by hand") {
  // Each row has its four large scores in one group of four, of which 2:4 keeps two.
  matrix<float> s(3, 8);
  for (index_t r = 0; r < 3; ++r)
    for (index_t c = 0; c < 8; ++c) s(r, c) = (c < 4) == (r < 2) ? 10.0f : 1.0f;
  auto const p = find_permutation(s, n_of_m<2, 4>{}).value();
  CHECK(p.kept_before == 3 * 22.0);
  CHECK(p.kept_after == 3 * 40.0);
  CHECK(is_permutation(p.order));
  for (index_t g = 0; g < 2; ++g)  // two of either kind in each group
    CHECK(std::count_if(p.order.begin() + 4 * g, p.order.begin() + 4 * g + 4, [](index_t c) { return c < 4; }) == 2);
  CHECK(p.order.front() == 0);  // ascending within groups, groups by their first column
  CHECK(std::is_sorted(p.order.begin(), p.order.begin() + 4));
  CHECK(std::is_sorted(p.order.begin() + 4, p.order.end()));
}

TEST_CASE("find_permutation: two stripes of 2:4 are solved exactly, three nearly always") {
  any_pattern const pattern = n_of_m<2, 4>{};
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    for (index_t const rows : {1, 2, 7, 33, 300}) {
      auto const s = magnitudes(seed, {rows, 8});
      auto const p = find_permutation(s, pattern, {.escapes = 0}).value();
      INFO(rows << " rows, seed " << seed);
      REQUIRE(p.kept_after == Approx(best_of_all(s, pattern)).epsilon(3e-6));
    }
  int found = 0;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    auto const s = magnitudes(seed, {6, 12});
    double const best = best_of_all(s, pattern);
    auto const p = find_permutation(s, pattern, {.escapes = 30, .seed = seed}).value();
    REQUIRE(p.kept_after <= best * (1.0 + 1e-12));
    found += p.kept_after > best * (1.0 - 3e-6) ? 1 : 0;
  }
  CHECK(found >= 9);
}

TEST_CASE("find_permutation: other patterns find the best order of few columns, or one that no swap improves") {
  for (any_pattern const pattern :
       {any_pattern(n_of_m<1, 2>{}), any_pattern(n_of_m<1, 3>{}), any_pattern(n_of_m<2, 3>{}),
        any_pattern(n_of_m<1, 4>{}), any_pattern(n_of_m<3, 4>{})}) {
    INFO(pare::index_t(pattern.keep()) << " of " << pattern.of());
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      auto const s = magnitudes(seed, {5, 2 * pattern.of()});
      REQUIRE(find_permutation(s, pattern).value().kept_after == Approx(best_of_all(s, pattern)).epsilon(3e-6));
    }
    auto const s = magnitudes(50, {40, 6 * pattern.of()});
    auto const p = find_permutation(s, pattern, {.escapes = 3}).value();
    REQUIRE(p.kept_after > p.kept_before);
    for (std::size_t a = 0; a < p.order.size(); ++a)
      for (std::size_t b = 0; b < a; ++b) {
        auto swapped = p.order;
        std::swap(swapped[a], swapped[b]);
        REQUIRE(kept(s, pattern, swapped) <= p.kept_after * (1.0 + 1e-5));
      }
  }
}

TEST_CASE("find_permutation: two stripes are searched until no swap gains") {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    auto const s = magnitudes(seed, {40, 32});
    any_pattern const pattern = n_of_m<8, 16>{};
    auto const p = find_permutation(s, pattern, {.escapes = 0}).value();
    for (std::size_t a = 0; a < 16; ++a)
      for (std::size_t b = 16; b < 32; ++b) {
        auto swapped = p.order;
        std::swap(swapped[a], swapped[b]);
        REQUIRE(kept(s, pattern, swapped) <= p.kept_after * (1.0 + 1e-5));
      }
  }
}

TEST_CASE("find_permutation: reports what select keeps, and is never worse, on any scores") {
  std::vector<matrix<float>> all;
  for (extents const shape : {extents{16, 24}, {1, 48}, {70, 16}, {5, 8}}) {
    auto s = magnitudes(3, shape);
    all.push_back(s);
    all.emplace_back(shape);  // zeros
    for (index_t i = 0; i < s.size(); ++i) s.data()[i] = 1.0f;
    all.push_back(s);
    for (index_t i = 0; i < s.size(); ++i) s.data()[i] = i % 5 == 0 ? 1e20f : 1e-10f;
    all.push_back(s);
    pare::random_source random(4);
    s = random_matrix(random, shape);  // of both signs
    all.push_back(s);
    for (index_t i = 0; i < s.size(); ++i) s.data()[i] = -std::abs(s.data()[i]);
    all.push_back(s);
  }
  for (auto const& s : all)
    for (any_pattern const pattern : {any_pattern(n_of_m<2, 4>{}), any_pattern(n_of_m<1, 4>{}),
                                      any_pattern(n_of_m<3, 8>{}), any_pattern(n_of_m<7, 8>{})}) {
      auto const p = find_permutation(s, pattern, {.escapes = 5}).value();
      REQUIRE(is_permutation(p.order));
      REQUIRE(p.kept_before == Approx(kept(s, pattern)).epsilon(1e-12));
      REQUIRE(p.kept_after == Approx(kept(s, pattern, p.order)).epsilon(1e-12));
      REQUIRE(p.kept_after >= p.kept_before);
      REQUIRE(p.order == find_permutation(s, pattern, {.escapes = 5}).value().order);
      if (p.kept_after == p.kept_before) REQUIRE(std::is_sorted(p.order.begin(), p.order.end()));
    }
  auto const one = find_permutation(magnitudes(1, {4, 4}), n_of_m<2, 4>{}).value();  // a single group
  CHECK(one.order == std::vector<index_t>{0, 1, 2, 3});
  CHECK(find_permutation(matrix<float>(3, 0), n_of_m<2, 4>{}).value().order.empty());
  CHECK(find_permutation(matrix<float>(0, 8), n_of_m<2, 4>{}).value().kept_after == 0.0);
}

TEST_CASE("find_permutation: a choice shared by rows counts their sums") {
  auto const s = magnitudes(12, {8, 16});
  any_pattern const shared = n_of_m<2, 4, 4>{};
  auto const p = find_permutation(s, shared).value();
  CHECK(p.kept_before == Approx(kept(s, shared)).epsilon(1e-6));
  CHECK(p.kept_after == Approx(kept(s, shared, p.order)).epsilon(1e-6));
  CHECK(p.kept_after > p.kept_before);
}

TEST_CASE("find_permutation: escapes, seed, budget and progress") {
  auto const s = magnitudes(21, {64, 96});
  auto const none = find_permutation(s, n_of_m<2, 4>{}, {.escapes = 0}).value();
  auto const many = find_permutation(s, n_of_m<2, 4>{}, {.escapes = 50}).value();
  auto const other = find_permutation(s, n_of_m<2, 4>{}, {.escapes = 50, .seed = 1}).value();
  CHECK(none.kept_after > none.kept_before * 1.01);
  CHECK(many.kept_after > none.kept_after);
  CHECK(other.kept_after > none.kept_after);
  CHECK(many.order != other.order);
  auto const short_of_time = find_permutation(s, n_of_m<2, 4>{}, {.sweeps = 1}).value();
  CHECK(short_of_time.kept_after > short_of_time.kept_before);
  CHECK(short_of_time.kept_after < none.kept_after);

  index_t last = -1;
  auto count = [&](std::string_view what, index_t done, index_t total) {
    CHECK(what == "permute");
    CHECK(total == 6);
    CHECK(done >= last);
    last = done;
    return true;
  };
  CHECK(find_permutation(s, n_of_m<2, 4>{}, {.escapes = 5, .progress = pare::progress(count)}).has_value());
  CHECK(last == 5);
  auto stop = [](std::string_view, index_t done, index_t) { return done < 2; };
  CHECK(find_permutation(s, n_of_m<4, 8>{}, {.progress = pare::progress(stop)}).error().code == pare::errc::cancelled);
}

TEST_CASE("stripe_search: deals the columns by their sums, to and fro") {
  matrix<float> s(1, 8);
  float const sums[] = {1, 8, 3, 6, 5, 4, 7, 2};
  for (index_t c = 0; c < 8; ++c) s(0, c) = sums[c];
  // By falling sum: 1 6 3 4 5 2 7 0, to two stripes: 1 | 6, then 4 | 3, then 5 | 2, then 0 | 7.
  CHECK(pare::detail::stripe_search(s.span(), 2, 4).snake_deal() == std::vector<index_t>{1, 4, 5, 0, 6, 3, 2, 7});
}

TEST_CASE("permute_columns, permute_rows, permuted: by hand, and what they must refuse") {
  matrix<float> w(3, 4);
  for (index_t i = 0; i < 12; ++i) w.data()[i] = static_cast<float>(i);
  std::vector<index_t> const of_four{2, 0, 3, 1};
  std::vector<index_t> const of_three{1, 2, 0};
  auto const columns = pare::permute_columns(w, of_four);
  auto const rows = pare::permute_rows(pare::cast<pare::bf16>(w), of_three);
  for (index_t i = 0; i < 3; ++i)
    for (index_t j = 0; j < 4; ++j) {
      CHECK(columns(i, j) == w(i, of_four[static_cast<std::size_t>(j)]));
      CHECK(static_cast<float>(rows(i, j)) == w(of_three[static_cast<std::size_t>(i)], j));
    }
  CHECK(pare::permuted(std::vector<float>{5, 6, 7}, of_three) == std::vector<float>{6, 7, 5});
  CHECK_THROWS_AS(pare::permute_columns(w, of_three), contract_violation);
  CHECK_THROWS_AS(pare::permute_rows(w, of_four), contract_violation);
  CHECK_THROWS_AS(pare::permute_rows(w, std::vector<index_t>{0, 1, 1}), contract_violation);
  CHECK_THROWS_AS(pare::permute_rows(w, std::vector<index_t>{0, 1, 3}), contract_violation);
  CHECK_THROWS_AS(pare::permuted(std::vector<float>{5, 6}, of_three), contract_violation);

  CHECK_THROWS_AS(find_permutation(w, n_of_m<2, 3>{}), contract_violation);
  CHECK_THROWS_AS(find_permutation(w, any_pattern(pare::unstructured{})), contract_violation);
  CHECK_THROWS_AS(find_permutation(w, n_of_m<2, 4>{}, {.escapes = -1}), contract_violation);
  w(1, 1) = std::numeric_limits<float>::infinity();
  CHECK_THROWS_AS(find_permutation(w, n_of_m<2, 4>{}), contract_violation);
  w(1, 1) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(find_permutation(w, n_of_m<2, 4>{}), contract_violation);
}

TEST_CASE("channel permutation: two layers stay the same function, and 2:4 then costs them less") {
  pare::random_source random(77);
  index_t const inputs = 24;
  index_t const hidden = 64;
  index_t const outputs = 48;
  auto const w1 = random_matrix(random, {hidden, inputs});
  auto w2 = random_matrix(random, {outputs, hidden});
  for (index_t c = 0; c < hidden; ++c)  // channels of different importance, those of one kind side by side
    for (index_t r = 0; r < outputs; ++r) w2(r, c) *= c / 8 % 2 == 0 ? 2.0f : 0.5f;
  std::vector<float> b1;
  for (index_t i = 0; i < hidden; ++i) b1.push_back(random.normal());
  auto const x = random_matrix(random, {inputs, 50});
  auto const run = [&](matrix<float> const& first, std::vector<float> const& bias, matrix<float> const& second) {
    matrix<double> y(outputs, x.cols());
    for (index_t n = 0; n < x.cols(); ++n)
      for (index_t h = 0; h < hidden; ++h) {
        auto sum = static_cast<double>(bias[static_cast<std::size_t>(h)]);
        for (index_t k = 0; k < inputs; ++k) sum += static_cast<double>(first(h, k)) * static_cast<double>(x(k, n));
        double const active = sum / (1.0 + std::exp(-sum));  // SiLU
        for (index_t o = 0; o < outputs; ++o) y(o, n) += static_cast<double>(second(o, h)) * active;
      }
    return y;
  };
  auto const distance = [](matrix<double> const& a, matrix<double> const& b) {
    double sum = 0.0;
    for (index_t i = 0; i < a.size(); ++i) sum += (a.data()[i] - b.data()[i]) * (a.data()[i] - b.data()[i]);
    return std::sqrt(sum);
  };
  auto const scores = pare::score(w2, pare::magnitude{});
  auto const p = find_permutation(scores, n_of_m<2, 4>{}).value();
  auto const w1p = pare::permute_rows(w1, p.order);
  auto const b1p = pare::permuted(b1, p.order);
  auto w2p = pare::permute_columns(w2, p.order);

  auto const dense = run(w1, b1, w2);
  double const size = distance(dense, matrix<double>(outputs, x.cols()));
  CHECK(distance(run(w1p, b1p, w2p), dense) < 1e-12 * size);
  CHECK(distance(run(w1p, b1p, w2), dense) > 0.1 * size);  // the check can fail

  auto const keep = pare::select(scores, n_of_m<2, 4>{});
  auto const keep_permuted = pare::select(pare::score(w2p, pare::magnitude{}), n_of_m<2, 4>{});
  CHECK(pare::admits(n_of_m<2, 4>{}, keep_permuted));
  CHECK(p.kept_after > 1.05 * p.kept_before);
  pare::apply(keep, w2);
  pare::apply(keep_permuted, w2p);
  double const plain = distance(run(w1, b1, w2), dense);
  double const permuted = distance(run(w1p, b1p, w2p), dense);
  CHECK(permuted < 0.9 * plain);
}
