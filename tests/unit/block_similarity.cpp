// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <vector>

#include <pare/calibrate/block_similarity.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::block_similarity;
using pare::index_t;
using pare::matrix;
using pare::matrix_span;
using pare::run_similarity;
using pare::test::random_matrix;

namespace {

double const pi = std::acos(-1.0);

matrix<float> of(std::vector<std::vector<float>> const& rows) {
  matrix<float> m(static_cast<index_t>(rows.size()), static_cast<index_t>(rows[0].size()));
  for (index_t i = 0; i < m.rows(); ++i)
    for (index_t j = 0; j < m.cols(); ++j) m(i, j) = rows[std::size_t(i)][std::size_t(j)];
  return m;
}

double slow_cosine(matrix<float> const& a, matrix<float> const& b, index_t t) {
  double ab = 0.0, aa = 0.0, bb = 0.0;
  for (index_t k = 0; k < a.cols(); ++k) {
    ab += static_cast<double>(a(t, k)) * static_cast<double>(b(t, k));
    aa += std::pow(static_cast<double>(a(t, k)), 2);
    bb += std::pow(static_cast<double>(b(t, k)), 2);
  }
  return ab / std::sqrt(aa * bb);
}

}  // namespace

TEST_CASE("block_similarity: computed by hand") {
  // cosines 1 (twice as long), 0, -1, 1 / sqrt 2
  auto const before = of({{1, 2, 2}, {1, 0, 0}, {0, 3, 0}, {1, 0, 0}});
  auto const after = of({{2, 4, 4}, {0, 5, 0}, {0, -1, 0}, {1, 1, 0}});
  block_similarity s;
  CHECK(s.influence() == 0.0);
  CHECK(s.angle() == 0.0);
  s.add(before.span(), after.span());
  CHECK(s.samples() == 4);
  CHECK(s.influence() == Approx((0.0 + 1.0 + 2.0 + (1.0 - std::sqrt(0.5))) / 4));
  CHECK(s.angle() == Approx((0.0 + 0.5 + 1.0 + 0.25) / 4).margin(1e-7));
}

TEST_CASE("block_similarity: is the mean over all batches, in any layout, whether merged or not") {
  pare::random_source random(14);
  block_similarity one, first, second;
  double influence = 0.0, angle = 0.0;
  index_t tokens = 0;
  for (int batch = 0; batch < 5; ++batch) {
    auto const before = random_matrix(random, {3 + batch, 37});
    auto after = random_matrix(random, {3 + batch, 37});
    for (index_t i = 0; i < after.size(); ++i) after.data()[i] = 1e-10f * (before.data()[i] + 0.3f * after.data()[i]);
    one.add(before.span(), after.span());
    matrix<float> const turned(after.span().transposed());
    (batch < 2 ? first : second).add(before.span(), turned.span().transposed());
    for (index_t t = 0; t < before.rows(); ++t) {
      influence += 1.0 - slow_cosine(before, after, t);
      angle += std::acos(slow_cosine(before, after, t)) / pi;
    }
    tokens += before.rows();
  }
  first.merge(second);
  for (auto const* s : {&one, &first}) {
    CHECK(s->samples() == tokens);
    CHECK(s->influence() == Approx(influence / static_cast<double>(tokens)).epsilon(1e-9));
    CHECK(s->angle() == Approx(angle / static_cast<double>(tokens)).epsilon(1e-9));
  }
}

TEST_CASE("block_similarity: a cosine that is no number counts as 1/2, as published; none leaves [-1, 1]") {
  block_similarity zeros;
  zeros.add(of({{0, 0, 0}}).span(), of({{1, 2, 3}}).span());
  CHECK(zeros.influence() == 0.5);
  CHECK(zeros.angle() == Approx(1.0 / 3.0));
  block_similarity broken;
  broken.add(of({{1, 2}, {1, 2}}).span(),
             of({{std::numeric_limits<float>::quiet_NaN(), 1}, {std::numeric_limits<float>::infinity(), 1}}).span());
  CHECK(broken.influence() == 0.5);
  pare::random_source random(1);
  for (index_t width = 1; width < 60; ++width) {  // equal states: rounding alone would make cosines above 1
    auto const h = random_matrix(random, {9, width});
    block_similarity same;
    same.add(h.span(), h.span());
    CHECK(same.influence() >= 0.0);
    CHECK(same.influence() < 1e-14);
    CHECK(same.angle() < 1e-7);
  }
  block_similarity huge;
  huge.add(of({{3e38f, 3e38f}}).span(), of({{3e38f, 3e38f}}).span());
  CHECK(huge.influence() == Approx(0.0).margin(1e-15));
  CHECK_THROWS_AS(huge.add(matrix<float>(2, 3).span(), matrix<float>(2, 4).span()), pare::contract_violation);
}

TEST_CASE("run_similarity: compares the states that a run of blocks lies between") {
  pare::random_source random(6);
  std::vector<matrix<float>> states;
  for (int b = 0; b <= 4; ++b) states.push_back(random_matrix(random, {5, 8}));
  for (index_t i = 0; i < states[3].size(); ++i) {  // blocks 1 and 2 together change little
    states[3].data()[i] = states[1].data()[i] + 0.01f * states[3].data()[i];
  }
  std::vector<matrix_span<float const>> spans;
  for (auto const& s : states) spans.push_back(s.span());
  for (index_t length = 1; length <= 4; ++length)
    for (auto const which : {run_similarity::tokens::all, run_similarity::tokens::last}) {
      run_similarity runs(4, length, which);
      runs.add(spans);
      run_similarity more(4, length, which);
      more.add(spans);
      runs.merge(more);
      REQUIRE(runs.runs() == 5 - length);
      for (index_t f = 0; f < runs.runs(); ++f) {
        bool const last = which == run_similarity::tokens::last;
        double sum = 0.0;
        for (index_t t = last ? 4 : 0; t < 5; ++t)
          sum += std::acos(slow_cosine(states[std::size_t(f)], states[std::size_t(f + length)], t)) / pi;
        CHECK(runs.run(f).samples() == (last ? 2 : 10));
        CHECK(runs.run(f).angle() == Approx(sum / (last ? 1.0 : 5.0)));
      }
      if (length == 2) CHECK(runs.closest() == 1);
    }
}

TEST_CASE("run_similarity: runs that do not exist and states of other blocks are a contract violation") {
  CHECK_THROWS_AS(run_similarity(4, 5), pare::contract_violation);
  CHECK_THROWS_AS(run_similarity(4, 0), pare::contract_violation);
  run_similarity runs(2);
  matrix<float> const h(3, 4), other(3, 5);
  std::vector<matrix_span<float const>> states{h.span(), h.span()};
  CHECK_THROWS_AS(runs.add(states), pare::contract_violation);
  states.push_back(other.span());
  CHECK_THROWS_AS(runs.add(states), pare::contract_violation);
  CHECK_THROWS_AS(runs.merge(run_similarity(3)), pare::contract_violation);
  CHECK_THROWS_AS(runs.merge(run_similarity(2, 1, run_similarity::tokens::last)), pare::contract_violation);
  states[2] = h.span();
  runs.add(states);
  CHECK(runs.closest() == 0);  // equal ones: the lowest
}
