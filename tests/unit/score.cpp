// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include <pare/score/magnitude.hpp>
#include <pare/score/random_score.hpp>
#include <pare/score/wanda.hpp>
#include <pare/select/select.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::index_t;
using pare::matrix;

namespace {

matrix<float> two_by_three() {
  matrix<float> w(2, 3);
  float const values[] = {1.0f, -2.0f, 0.5f, -4.0f, 0.0f, 3.0f};
  for (index_t i = 0; i < 6; ++i) w.data()[i] = values[i];
  return w;
}

/// A user's criterion: the weight's share of its row's and of its column's sum of magnitudes.
struct relative_importance {
  using needs = pare::statistics<>;
  template <pare::matrix_view W>
  void score(W const& weights, auto const&, pare::score_sink<float> out) const {
    auto const w = pare::as_span(weights);
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) {
        float row = 0.0f;
        float column = 0.0f;
        for (index_t k = 0; k < w.cols; ++k) row += std::abs(w(i, k));
        for (index_t k = 0; k < w.rows; ++k) column += std::abs(w(k, j));
        out(i, j) = std::abs(w(i, j)) / row + std::abs(w(i, j)) / column;
      }
  }
};

}  // namespace

TEST_CASE("magnitude: is |w|, for float, bf16 and any strides") {
  auto const w = two_by_three();
  auto const s = pare::score(w, pare::magnitude{});
  auto const half = pare::score(pare::cast<pare::bf16>(w), pare::magnitude{});
  auto const t = pare::score(w.span().transposed(), pare::magnitude{});
  for (index_t i = 0; i < 2; ++i)
    for (index_t j = 0; j < 3; ++j) {
      CHECK(s(i, j) == std::abs(w(i, j)));
      CHECK(half(i, j) == std::abs(w(i, j)));
      CHECK(t(j, i) == std::abs(w(i, j)));
    }
}

TEST_CASE("wanda: is |w| times the norm of the input, computed by hand") {
  auto const w = two_by_three();
  pare::wanda::needs stats(3);
  matrix<float> x(3, 2);  // norms 5, 1, 13
  float const inputs[] = {3.0f, 4.0f, -1.0f, 0.0f, 5.0f, -12.0f};
  for (index_t i = 0; i < 6; ++i) x.data()[i] = inputs[i];
  stats.add(x.span());
  auto const s = pare::score(w, pare::wanda{}, stats);
  float const expected[] = {5.0f, 2.0f, 6.5f, 20.0f, 0.0f, 39.0f};
  for (index_t i = 0; i < 6; ++i) CHECK(s.data()[i] == Approx(expected[i]).epsilon(1e-6));
  CHECK(pare::default_scope<pare::wanda>() == pare::scope::row);

  auto const keep = pare::select(s, pare::unstructured{}, pare::sparsity{0.34}, pare::scope::row);
  CHECK((keep(0, 0) && !keep(0, 1) && keep(0, 2) && keep(1, 0) && !keep(1, 1) && keep(1, 2)));
}

TEST_CASE("wanda: statistics of a layer with another number of inputs are a contract violation") {
  CHECK_THROWS_AS(pare::score(two_by_three(), pare::wanda{}, pare::wanda::needs(4)), pare::contract_violation);
}

TEST_CASE("random_score: depends on seed and shape only") {
  auto const w = two_by_three();
  matrix<float> const zeros(2, 3);
  auto const a = pare::score(w, pare::random_score{7});
  CHECK(pare::test::same_bits(a, pare::score(zeros, pare::random_score{7})));
  CHECK_FALSE(pare::test::same_bits(a, pare::score(w, pare::random_score{8})));
  pare::random_source random(7);
  for (index_t i = 0; i < 6; ++i) CHECK(a.data()[i] == random.uniform());
}

TEST_CASE("a user's criterion: works with score and every pattern without another line") {
  static_assert(pare::criterion<relative_importance>);
  CHECK(pare::default_scope<relative_importance>() == pare::scope::matrix);
  pare::random_source random(9);
  auto const w = pare::test::random_matrix(random, {8, 12});
  auto const s = pare::score(w, relative_importance{});
  CHECK(pare::admits(pare::n_of_m<1, 4>{}, pare::select(s, pare::n_of_m<1, 4>{})));
  CHECK(pare::admits(pare::block<4, 3>{}, pare::select(s, pare::block<4, 3>{}, pare::sparsity{0.5})));
  CHECK(pare::select(s, pare::unstructured{}, pare::sparsity{0.25}).count() == 72);

  matrix<float> lone(2, 2);  // the smallest weight is all that its row has: it must outlive a larger one
  lone(0, 0) = 10.0f;
  lone(0, 1) = 2.0f;
  lone(1, 1) = 1.0f;
  auto const keep = pare::select(pare::score(lone, relative_importance{}), pare::unstructured{}, pare::sparsity{0.5});
  CHECK((keep(0, 0) && keep(1, 1) && !keep(0, 1)));
}
