// SPDX-License-Identifier: Apache-2.0
// Criteria of channels, learned ones and averages, against slow versions written from their formulas.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <pare/score/channel_norm.hpp>
#include <pare/score/fpgm.hpp>
#include <pare/score/jackpot_start.hpp>
#include <pare/score/learned_score.hpp>
#include <pare/score/lora_prune.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/pst.hpp>
#include <pare/score/quick_selection.hpp>
#include <pare/score/score_ema.hpp>
#include <pare/select/gates.hpp>
#include <pare/select/select.hpp>
#include <pare/select/soft_threshold.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::any_pattern;
using pare::extents;
using pare::index_t;
using pare::mask;
using pare::matrix;
using pare::sparsity;
using pare::test::random_matrix;

namespace {

matrix<float> of(std::vector<std::vector<float>> const& rows) {
  matrix<float> m(static_cast<index_t>(rows.size()), static_cast<index_t>(rows[0].size()));
  for (index_t i = 0; i < m.rows(); ++i)
    for (index_t j = 0; j < m.cols(); ++j) m(i, j) = rows[std::size_t(i)][std::size_t(j)];
  return m;
}

/// The example of all hand-worked numbers below.
matrix<float> three_by_four() { return of({{1, -2, 3, 4}, {0, 0, 0, 0}, {2, 2, -2, 2}}); }

double at(matrix<float> const& m, index_t i, index_t j) { return static_cast<double>(m(i, j)); }

template <class F>
void check(matrix<float> const& s, F expected, double epsilon = 1e-6) {
  for (index_t i = 0; i < s.rows(); ++i)
    for (index_t j = 0; j < s.cols(); ++j) {
      INFO("row " << i << ", column " << j);
      CHECK(at(s, i, j) == Approx(expected(i, j)).epsilon(epsilon).margin(1e-30));
    }
}

/// The sums over columns: what a criterion of channels is about.
std::vector<double> columns(matrix<float> const& s) {
  std::vector<double> sums(std::size_t(s.cols()), 0.0);
  for (index_t i = 0; i < s.rows(); ++i)
    for (index_t j = 0; j < s.cols(); ++j) sums[std::size_t(j)] += at(s, i, j);
  return sums;
}

void check(std::vector<double> const& sums, std::vector<double> const& expected, double epsilon = 1e-6) {
  REQUIRE(sums.size() == expected.size());
  for (std::size_t j = 0; j < sums.size(); ++j) {
    INFO("channel " << j);
    CHECK(sums[j] == Approx(expected[j]).epsilon(epsilon).margin(1e-30));
  }
}

/// Random weights, zeros, equal ones, one row, one column, tiny ones.
std::vector<matrix<float>> samples() {
  pare::random_source random(17);
  std::vector<matrix<float>> out;
  for (extents const shape : {extents{5, 12}, extents{1, 9}, extents{8, 1}, extents{21, 40}})
    out.push_back(random_matrix(random, shape));
  out.push_back(matrix<float>(3, 4));
  matrix<float> equal(4, 6);
  for (index_t i = 0; i < equal.size(); ++i) equal.data()[i] = -0.3f;
  out.push_back(equal);
  auto tiny = random_matrix(random, {6, 7});
  for (index_t i = 0; i < tiny.size(); ++i) tiny.data()[i] *= 1e-10f;
  for (index_t i = 0; i < 6; ++i) tiny(i, 3) = 0.0f;
  out.push_back(tiny);
  return out;
}

/// Statistics of random inputs of which the second (where there is one) never is active.
template <class Stats>
Stats inputs_of(index_t features, std::uint64_t seed = 5) {
  pare::random_source random(seed);
  auto x = random_matrix(random, {features, 23});
  for (index_t n = 0; n < 23 && features > 1; ++n) x(1, n) = 0.0f;
  Stats stats(features);
  stats.add(x.span());
  return stats;
}

}  // namespace

TEST_CASE("quick_selection: a column's weights sum to its strength") {
  check(columns(pare::score(three_by_four(), pare::quick_selection{})), {3, 4, 5, 6});
  for (auto const& w : samples()) {
    std::vector<double> strength(std::size_t(w.cols()), 0.0);
    for (index_t i = 0; i < w.rows(); ++i)
      for (index_t j = 0; j < w.cols(); ++j) strength[std::size_t(j)] += std::abs(at(w, i, j));
    check(columns(pare::score(w, pare::quick_selection{})), strength);
  }
  // The two features of the highest strength stay, whole columns of them.
  auto const keep =
      pare::select(pare::score(three_by_four(), pare::quick_selection{}), any_pattern({3, 1}, 0, 0), sparsity{0.5});
  for (index_t i = 0; i < 3; ++i) CHECK((!keep(i, 0) && !keep(i, 1) && keep(i, 2) && keep(i, 3)));
}

TEST_CASE("fpgm: the distances to all other rows, computed by hand and by the formula") {
  auto const w = of({{0, 0, 0, 0}, {3, 4, 0, 0}, {0, 0, 0, 12}});
  // ||0 - 1|| = 5, ||0 - 2|| = 12, ||1 - 2|| = 13
  auto const s = pare::score(w, pare::fpgm{});
  check(s, [](index_t i, index_t) { return (i == 0 ? 17.0 : (i == 1 ? 18.0 : 25.0)) / 4.0; });
  for (auto const& m : samples()) {
    std::vector<double> expected;
    for (index_t i = 0; i < m.rows(); ++i) {
      double sum = 0.0;
      for (index_t o = 0; o < m.rows(); ++o) {
        double squares = 0.0;
        for (index_t j = 0; j < m.cols(); ++j) squares += std::pow(at(m, i, j) - at(m, o, j), 2);
        sum += std::sqrt(squares);
      }
      expected.push_back(sum / static_cast<double>(m.cols()));
    }
    check(pare::score(m, pare::fpgm{}), [&](index_t i, index_t) { return expected[std::size_t(i)]; });
  }
}

TEST_CASE("fpgm: of two equal filters that no other resembles the first one goes, whatever its norm") {
  // Magnitude would remove the third row; the second and the fourth can stand in for each other.
  auto const w = of({{9, 0, 0, 0}, {0, 5, 5, 0}, {0, 0, 0, 1}, {0, 5, 5, 0}});
  auto const rows = any_pattern({1, 4}, 0, 0);
  auto const by_median = pare::select(pare::score(w, pare::fpgm{}), rows, sparsity{0.25});
  auto const by_norm = pare::select(pare::score(w, pare::magnitude{}), rows, sparsity{0.25});
  CHECK((by_median(0, 0) && !by_median(1, 0) && by_median(2, 0) && by_median(3, 0)));
  CHECK((by_norm(0, 0) && by_norm(1, 0) && !by_norm(2, 0) && by_norm(3, 0)));
}

TEST_CASE("channel_norm: computed by hand") {
  matrix<float> x(4, 2);  // norms 5, 1, 13, 0
  float const inputs[] = {3, 4, -1, 0, 5, -12, 0, 0};
  for (index_t i = 0; i < 8; ++i) x.data()[i] = inputs[i];
  pare::channel_norm::needs stats(4);
  stats.add(x.span());
  auto const w = three_by_four();
  check(columns(pare::score(w, pare::channel_norm{}, stats)), {5, 1, 13, 0});
  check(columns(pare::score(w, pare::channel_norm{.exponent = 0.5}, stats)), {std::sqrt(5.0), 1, std::sqrt(13.0), 0});
  check(columns(pare::score(w, pare::channel_norm{.by = pare::channel_norm::metric::wanda_base}, stats)),
        {5 * 3 / 3.0, 1 * 4 / 3.0, 13 * 5 / 3.0, 0});
  check(columns(pare::score(w, pare::channel_norm{.by = pare::channel_norm::metric::mag_base}, stats)),
        {std::sqrt(5.0), std::sqrt(8.0), std::sqrt(13.0), std::sqrt(20.0)});
  CHECK_THROWS_AS(pare::score(w, pare::channel_norm{}, pare::channel_norm::needs(3)), pare::contract_violation);
}

TEST_CASE("channel_norm: the published sum of shares is 3 / d_model times the activation norm, whatever the weights") {
  pare::random_source random(31);
  index_t const model = 6;
  index_t const hidden = 10;
  auto const down = random_matrix(random, {model, hidden});
  auto const up = random_matrix(random, {hidden, model});
  auto const gate = random_matrix(random, {hidden, model});
  auto const stats = inputs_of<pare::channel_norm::needs>(hidden);
  for (double const exponent : {1.0, 0.5}) {
    std::vector<double> published;
    for (index_t j = 0; j < hidden; ++j) {
      double const norm = stats.get<pare::input_norms>().norm(j);
      if (norm == 0.0) {  // U is 0 / 0 there: the published score is NaN
        published.push_back(0.0);
        continue;
      }
      double under = 0.0, ups = 0.0, gates = 0.0;
      for (index_t i = 0; i < model; ++i) {
        under += std::abs(at(down, i, j)) * norm;
        ups += std::abs(at(up, j, i));
        gates += std::abs(at(gate, j, i));
      }
      double mean = 0.0;
      for (index_t i = 0; i < model; ++i)
        mean += (std::abs(at(down, i, j)) * norm / under + std::abs(at(up, j, i)) / ups +
                 std::abs(at(gate, j, i)) / gates) *
                std::pow(norm, exponent) / double(model);
      published.push_back(mean);
    }
    auto sums = columns(pare::score(down, pare::channel_norm{.exponent = exponent}, stats));
    for (double& s : sums) s *= 3.0 / double(model);
    check(sums, published);
  }
  for (auto const& w : samples()) {
    auto const s = inputs_of<pare::channel_norm::needs>(w.cols());
    CHECK(pare::test::same_bits(pare::score(w, pare::channel_norm{}, s),
                                pare::score(matrix<float>(w.shape()), pare::channel_norm{}, s)));
    std::vector<double> wanda, norms;
    for (index_t j = 0; j < w.cols(); ++j) {
      double sum = 0.0, squares = 0.0;
      for (index_t i = 0; i < w.rows(); ++i) sum += std::abs(at(w, i, j));
      for (index_t i = 0; i < w.rows(); ++i) squares += at(w, i, j) * at(w, i, j);
      wanda.push_back(sum * s.get<pare::input_norms>().norm(j) / double(w.rows()));
      norms.push_back(std::sqrt(squares));
    }
    check(columns(pare::score(w, pare::channel_norm{.by = pare::channel_norm::metric::wanda_base}, s)), wanda);
    check(columns(pare::score(w, pare::channel_norm{.by = pare::channel_norm::metric::mag_base}, s)), norms);
  }
}

TEST_CASE("pst: magnitude and learned factors, computed by hand") {
  auto const w = three_by_four();
  auto const a = of({{1, 0}, {0, 2}, {1, 1}});       // (3, 2)
  auto const b = of({{1, 2, 0, 0}, {0, 1, 0, -1}});  // (2, 4)
  auto const r = of({{10}, {20}, {30}});             // (3, 1)
  auto const c = of({{0.5f, 0.25f, 0, -0.5f}});      // (1, 4)
  auto const ab = of({{1, 2, 0, 0}, {0, 2, 0, -2}, {1, 3, 0, -1}});
  pare::pst const full{a.span(), b.span(), r.span(), c.span(), 0.5, 2.0};
  check(pare::score(w, full), [&](index_t i, index_t j) {
    return std::abs(at(w, i, j)) + 0.5 * at(ab, i, j) + 2.0 * (at(r, i, 0) + at(c, 0, j));
  });
  check(pare::score(w, pare::pst{.a = a.span(), .b = b.span()}),
        [&](index_t i, index_t j) { return std::abs(at(w, i, j)) + at(ab, i, j); });
  check(pare::score(w, pare::pst{.rows = r.span(), .columns = c.span()}),
        [&](index_t i, index_t j) { return std::abs(at(w, i, j)) + at(r, i, 0) + at(c, 0, j); });
  CHECK(pare::test::same_bits(pare::score(w, pare::pst{}), pare::score(w, pare::magnitude{})));
  // The magnitude is that of the weights which are given: frozen ones as published, or merged ones.
  auto merged = w;
  for (index_t i = 0; i < 12; ++i) merged.data()[i] += ab.data()[i];
  check(pare::score(merged, pare::pst{.a = a.span(), .b = b.span()}),
        [&](index_t i, index_t j) { return std::abs(at(w, i, j) + at(ab, i, j)) + at(ab, i, j); });
  CHECK_FALSE(pare::test::same_bits(pare::score(merged, full), pare::score(w, full)));
}

TEST_CASE("pst: factors of another layer are a contract violation") {
  auto const w = three_by_four();
  matrix<float> const a(3, 2), b(2, 4), b3(3, 4), a4(4, 2), r(3, 1), c(1, 4);
  CHECK_THROWS_AS(pare::score(w, pare::pst{.a = a.span(), .b = b3.span()}), pare::contract_violation);
  CHECK_THROWS_AS(pare::score(w, pare::pst{.a = a4.span(), .b = b.span()}), pare::contract_violation);
  CHECK_THROWS_AS(pare::score(w, pare::pst{.a = a.span()}), pare::contract_violation);
  CHECK_THROWS_AS(pare::score(w, pare::pst{.rows = r.span()}), pare::contract_violation);
  CHECK_THROWS_AS(pare::score(w, pare::pst{.rows = c.span(), .columns = r.span()}), pare::contract_violation);
}

TEST_CASE("lora_prune: computed by hand and by the formula") {
  auto const w = of({{1, -2, 3, 4}, {0, 0, 0, 0}, {2, 2, -2, 2}});
  auto const a = of({{1, 0, -1, 2}});  // r = 1
  auto const b = of({{1}, {2}, {0}});
  auto const ga = of({{0, 1, 0, 0.5f}});
  auto const gb = of({{0.5f}, {0}, {1}});
  pare::lora_prune const by{.a = a.span(), .b = b.span(), .grad_a = ga.span(), .grad_b = gb.span(), .scale = 2.0};
  // G' = G_B A + B G_A - G_B G_A, row 0: .5 A + G_A - .5 G_A, row 1: 2 G_A, row 2: A - G_A; W + 2 B A
  auto const s = pare::score(w, by);
  float const expected[] = {0.5f * 3, 0.5f * 2, 0.5f * 1, 1.25f * 8,  //
                            0,        2 * 0,    0,        1 * 8,      //
                            1 * 2,    1 * 2,    1 * 2,    1.5f * 2};
  for (index_t i = 0; i < 12; ++i) CHECK(s.data()[i] == Approx(expected[i]));

  pare::random_source random(23);
  for (auto const& m : samples()) {
    index_t const rank = 3;
    auto const la = random_matrix(random, {rank, m.cols()});
    auto const lb = random_matrix(random, {m.rows(), rank});
    auto const lga = random_matrix(random, {rank, m.cols()});
    auto const lgb = random_matrix(random, {m.rows(), rank});
    auto const g = random_matrix(random, m.shape());
    pare::lora_prune p{la.span(), lb.span(), lga.span(), lgb.span(), g.span(), 0.5};
    auto const product = [&](matrix<float> const& left, matrix<float> const& right, index_t i, index_t j) {
      double sum = 0.0;
      for (index_t k = 0; k < rank; ++k) sum += at(left, i, k) * at(right, k, j);
      return sum;
    };
    auto const merged = [&](index_t i, index_t j) { return at(m, i, j) + 0.5 * product(lb, la, i, j); };
    check(
        pare::score(m, p),
        [&](index_t i, index_t j) {
          return std::abs((product(lgb, la, i, j) + product(lb, lga, i, j) - product(lgb, lga, i, j)) * merged(i, j));
        },
        1e-5);
    p.by = pare::lora_prune::metric::grad;
    check(pare::score(m, p), [&](index_t i, index_t j) { return std::abs(at(g, i, j) * merged(i, j)); });
    p.by = pare::lora_prune::metric::magnitude;
    check(pare::score(m, p), [&](index_t i, index_t j) { return std::abs(merged(i, j)); });
  }
}

TEST_CASE("lora_prune: factors and gradients of another layer are a contract violation") {
  auto const w = three_by_four();
  matrix<float> const a(2, 4), b(3, 2), b4(4, 2), a3(3, 4), g(3, 4), g4(4, 3);
  using lora = pare::lora_prune;
  CHECK_NOTHROW(pare::score(w, lora{a.span(), b.span(), a.span(), b.span()}));
  CHECK_NOTHROW(pare::score(w, lora{.a = a.span(), .b = b.span(), .by = lora::metric::magnitude}));
  CHECK_THROWS_AS(pare::score(w, lora{a.span(), b4.span(), a.span(), b4.span()}), pare::contract_violation);
  CHECK_THROWS_AS(pare::score(w, lora{a3.span(), b.span(), a3.span(), b.span()}), pare::contract_violation);
  CHECK_THROWS_AS(pare::score(w, lora{a.span(), b.span(), a3.span(), b.span()}), pare::contract_violation);
  CHECK_THROWS_AS(pare::score(w, lora{a.span(), b.span()}), pare::contract_violation);
  CHECK_THROWS_AS(pare::score(w, lora{.a = a.span(), .b = b.span(), .gradient = g4.span(), .by = lora::metric::grad}),
                  pare::contract_violation);
  CHECK_NOTHROW(pare::score(w, lora{.a = a.span(), .b = b.span(), .gradient = g.span(), .by = lora::metric::grad}));
}

TEST_CASE("learned_score, movement_step: the logits of a weight that moves away from 0 rise") {
  auto const w = of({{1, -1, 2, 0}});
  auto const g = of({{-3, 3, 1, 5}});  // descent makes |w| larger, larger, smaller
  auto s = pare::movement_step(matrix<float>(1, 4).span(), w.span(), g.span(), 0.1);
  check(s, [](index_t, index_t j) { return j < 2 ? 0.3 : (j == 2 ? -0.2 : 0.0); });
  s = pare::movement_step(s.span(), w.span(), g.span(), 0.1);
  check(s, [](index_t, index_t j) { return j < 2 ? 0.6 : (j == 2 ? -0.4 : 0.0); });
  CHECK(pare::test::same_bits(pare::score(w, pare::learned_score{s.span()}), s));
  auto const keep = pare::select(pare::score(w, pare::learned_score{s.span()}), pare::unstructured{}, sparsity{0.5});
  CHECK((keep(0, 0) && keep(0, 1) && !keep(0, 2) && !keep(0, 3)));
  CHECK_THROWS_AS(pare::score(three_by_four(), pare::learned_score{s.span()}), pare::contract_violation);
  CHECK_THROWS_AS(pare::movement_step(s.span(), w.span(), three_by_four().span(), 0.1), pare::contract_violation);
}

TEST_CASE("soft_threshold: keeps sigma(logit) > threshold, and the floor where that is too few") {
  auto const logits = of({{-2, 0, 1, 3}, {-1, 0.5f, 0, -3}});
  auto const half = pare::soft_threshold(logits.span(), 0.5);
  CHECK(half.count() == 3);  // 1, 3, 0.5: sigma(0) is not above 1/2
  CHECK((half(0, 2) && half(0, 3) && half(1, 1)));
  auto const none = pare::soft_threshold(logits.span(), 0.99, 0.0);
  CHECK(none.count() == 0);
  auto const floored = pare::soft_threshold(logits.span(), 0.99, 0.25);
  CHECK(floored.count() == 2);
  CHECK((floored(0, 2) && floored(0, 3)));
  CHECK(pare::soft_threshold(logits.span(), 0.5, 0.25) == half);  // enough stay
  CHECK(pare::soft_threshold(logits.span(), -1.0).count() == 8);
  matrix<float> const equal(20, 20);  // all zeros; the default floor: 400 - floor(0.995 * 400)
  CHECK(pare::soft_threshold(equal.span(), 0.5).count() == 2);
  CHECK_THROWS_AS(pare::soft_threshold(logits.span(), 0.5, 1.5), pare::contract_violation);
  auto const nan = of({{std::numeric_limits<float>::quiet_NaN(), 1}});
  CHECK_THROWS_AS(pare::soft_threshold(nan.span(), 0.5), pare::contract_violation);
}

TEST_CASE("score_ema: is the weighted sum of its updates, and skips steps that are not finite") {
  pare::random_source random(2);
  pare::score_ema ema({3, 4}, 0.9);
  matrix<double> expected(3, 4);
  for (int step = 0; step < 20; ++step) {
    auto s = random_matrix(random, {3, 4});
    if (step == 7) s(1, 2) = std::numeric_limits<float>::quiet_NaN();
    if (step == 8) s(0, 0) = std::numeric_limits<float>::infinity();
    bool const used = step != 7 && step != 8;
    CHECK(ema.update(s.span()) == used);
    for (index_t i = 0; used && i < 12; ++i)
      expected.data()[i] = 0.9 * expected.data()[i] + 0.1 * static_cast<double>(s.data()[i]);
  }
  auto const e = ema.result();
  for (index_t i = 0; i < 12; ++i) CHECK(static_cast<double>(e.data()[i]) == Approx(expected.data()[i]).epsilon(1e-6));

  pare::score_ema by_hand({1, 1}, 0.5);
  by_hand.update(of({{4}}).span());
  by_hand.update(of({{8}}).span());
  CHECK(by_hand.result()(0, 0) == 5.0f);  // 0 -> 2 -> 5
  CHECK_THROWS_AS(ema.update(matrix<float>(4, 3).span()), pare::contract_violation);
  CHECK_THROWS_AS(pare::score_ema({1, 1}, 1.0), pare::contract_violation);
}

TEST_CASE("uncertain_ema: sensitivity times uncertainty") {
  pare::uncertain_ema by_hand({1, 2}, 0.5, 0.75);
  // S = 4: E = 2, U = |4 - 2| / 4 = 0.5. S = 8: E = 5, U = 0.375 + 3 / 4 = 1.125
  by_hand.update(of({{4, 1e-10f}}).span());
  CHECK(by_hand.result()(0, 0) == 1.0f);
  by_hand.update(of({{8, 2e-10f}}).span());
  CHECK(by_hand.result()(0, 0) == 5.625f);
  CHECK(by_hand.result()(0, 1) == Approx(5.625 / 16e20));  // a quarter of the scores, a sixteenth of the product

  pare::random_source random(12);
  pare::uncertain_ema ema({4, 5});
  std::vector<double> e(20, 0.0), u(20, 0.0);
  for (int step = 0; step < 15; ++step) {
    auto s = random_matrix(random, {4, 5});
    if (step == 3) s(2, 2) = std::numeric_limits<float>::quiet_NaN();
    ema.update(s.span());
    for (std::size_t i = 0; i < 20; ++i) {
      double const v = step == 3 && i == 12 ? 0.0 : static_cast<double>(s.data()[i]);
      e[i] = 0.85 * e[i] + 0.15 * v;
      u[i] = 0.85 * u[i] + 0.15 * std::abs(v - e[i]);
    }
  }
  auto const result = ema.result();
  for (std::size_t i = 0; i < 20; ++i)
    CHECK(static_cast<double>(result.data()[i]) == Approx(e[i] * u[i]).epsilon(1e-6));
  CHECK_THROWS_AS(ema.update(matrix<float>(5, 4).span()), pare::contract_violation);
  CHECK_THROWS_AS(pare::uncertain_ema({1, 1}, 0.5, -0.1), pare::contract_violation);
}

TEST_CASE("jackpot_start: 0.99 for exactly the smallest, 1 for the others") {
  auto const w = three_by_four();
  auto const s = pare::score(w, pare::jackpot_start{sparsity{0.5}});  // the zeros, 1, and the first of five twos
  check(s, [](index_t i, index_t j) { return i == 1 || (i == 0 && j < 2) ? 0.99 : 1.0; });
  for (auto const& m : samples())
    for (double const p : {0.0, 0.3, 0.9, 1.0}) {
      auto const start = pare::score(m, pare::jackpot_start{sparsity{p}});
      auto const keep = pare::select(pare::score(m, pare::magnitude{}), pare::unstructured{}, sparsity{p});
      check(start, [&](index_t i, index_t j) { return keep(i, j) ? 1.0 : 0.99; });
      CHECK(pare::select(start, pare::unstructured{}, sparsity{p}) == keep);
    }
}

TEST_CASE("jackpot_swap_share: falls with the cosine; the published rule for CIFAR never restricts") {
  CHECK(pare::jackpot_swap_share(0.0) == 1.0);
  CHECK(pare::jackpot_swap_share(0.5) == Approx(0.5));
  CHECK(pare::jackpot_swap_share(2.0 / 3.0) == Approx(0.25));
  for (int epoch = 0; epoch < 30; ++epoch) {
    double const progress = epoch / 30.0;
    double const published = std::ceil(std::pow(1.0 - progress, 4.0));
    CHECK(pare::jackpot_swap_share(progress, pare::jackpot_restriction::no_limit) == published);
  }
  CHECK_THROWS_AS(pare::jackpot_swap_share(1.0), pare::contract_violation);
}

TEST_CASE("open_gates: positive logits are open; of a logit of 0 PAT's two readings differ") {
  float const logits[] = {0.5f, -1.0f, 0.0f, 1e-10f};
  auto const closed = pare::open_gates(logits);
  auto const open = pare::open_gates(logits, pare::gate_at_zero::open);
  CHECK((closed(0, 0) && !closed(0, 1) && !closed(0, 2) && closed(0, 3)));
  CHECK((open(0, 0) && !open(0, 1) && open(0, 2) && open(0, 3)));
  float const nan[] = {std::numeric_limits<float>::quiet_NaN()};
  CHECK_THROWS_AS(pare::open_gates(nan), pare::contract_violation);
}

TEST_CASE("gated_columns, gated_rows: a closed gate removes its channels, whole, and no others") {
  float const logits[] = {1.0f, -1.0f};
  auto const gates = pare::open_gates(logits);
  auto const columns_kept = pare::gated_columns(gates, {3, 6});
  auto const rows_kept = pare::gated_rows(gates, {6, 3});
  for (index_t i = 0; i < 3; ++i)
    for (index_t j = 0; j < 6; ++j) {
      CHECK(columns_kept(i, j) == (j < 3));
      CHECK(rows_kept(j, i) == (j < 3));
    }
  CHECK(pare::admits(any_pattern({3, 3}, 0, 0), columns_kept));
  CHECK_THROWS_AS(pare::gated_columns(gates, {3, 5}), pare::contract_violation);
  CHECK_THROWS_AS(pare::gated_rows(gates, {5, 3}), pare::contract_violation);
  CHECK_THROWS_AS(pare::gated_rows(mask({1, 0}), {4, 3}), pare::contract_violation);
}
