// SPDX-License-Identifier: Apache-2.0
// LIFT's rank reduction against the singular value decomposition.
#include <cmath>

#include <Eigen/SVD>

#include <pare/prune/lift.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::extents;
using pare::index_t;
using pare::matrix;
using pare::test::random_matrix;

namespace {

Eigen::MatrixXd to_eigen(matrix<float> const& m) {
  Eigen::MatrixXd out(m.rows(), m.cols());
  for (index_t i = 0; i < m.rows(); ++i)
    for (index_t j = 0; j < m.cols(); ++j) out(i, j) = static_cast<double>(m(i, j));
  return out;
}

Eigen::MatrixXd slow_low_rank(Eigen::MatrixXd const& w, index_t rank) {
  Eigen::JacobiSVD<Eigen::MatrixXd> const svd(w, Eigen::ComputeThinU | Eigen::ComputeThinV);
  rank = std::min<index_t>(rank, svd.singularValues().size());
  return svd.matrixU().leftCols(rank) * svd.singularValues().head(rank).asDiagonal() *
         svd.matrixV().leftCols(rank).transpose();
}

}  // namespace

TEST_CASE("rank_reduced: computed by hand") {
  // 4 u v^T + 1 p q^T with orthonormal u, p = (1, 1, 0) / sqrt 2, (1, -1, 0) / sqrt 2; v, q = (1, 0, 0, 0), (0, 0, 0,
  // 1)
  double const h = std::sqrt(0.5);
  matrix<float> w(3, 4);
  w(0, 0) = w(1, 0) = static_cast<float>(4 * h);
  w(0, 3) = static_cast<float>(h);
  w(1, 3) = static_cast<float>(-h);
  auto const s = pare::score(w, pare::lift{.rank = 1});
  for (index_t i = 0; i < 3; ++i)
    for (index_t j = 0; j < 4; ++j) CHECK(s(i, j) == Approx(i < 2 && j == 0 ? 4 * h : 0.0).margin(1e-6));
  auto const both = pare::score(w, pare::lift{.rank = 2});
  for (index_t i = 0; i < 12; ++i) CHECK(both.data()[i] == Approx(std::abs(w.data()[i])).margin(1e-6));
}

TEST_CASE("rank_reduced: is the truncated SVD where its subspace holds all of the matrix") {
  pare::random_source random(19);
  for (extents const shape : {extents{9, 14}, extents{14, 9}, extents{1, 6}, extents{6, 1}, extents{7, 7}})
    for (index_t const rank : {1, 4, 6, 50})
      for (float const scale : {1.0f, 1e-10f}) {
        auto w = random_matrix(random, shape);
        for (index_t i = 0; i < w.size(); ++i) w.data()[i] *= scale;
        if (2 * rank < std::min(shape.rows, shape.cols)) continue;
        auto const expected = slow_low_rank(to_eigen(w), rank);
        auto const reduced = pare::rank_reduced(w.span(), rank, 0);
        CHECK((to_eigen(reduced) - expected).norm() <= 1e-6 * to_eigen(w).norm());
      }
}

TEST_CASE("rank_reduced: finds an exact rank within, and nears the best one where singular values fall") {
  pare::random_source random(20);
  auto const a = to_eigen(random_matrix(random, {40, 3}));
  auto const b = to_eigen(random_matrix(random, {3, 60}));
  auto const noise = to_eigen(random_matrix(random, {40, 60}));
  for (double const level : {0.0, 0.01}) {
    Eigen::MatrixXd const sum = a * b + level * noise;
    matrix<float> w(40, 60);
    for (index_t i = 0; i < 40; ++i)
      for (index_t j = 0; j < 60; ++j) w(i, j) = static_cast<float>(sum(i, j));
    auto const expected = slow_low_rank(to_eigen(w), 3);
    auto const reduced = pare::rank_reduced(w.span(), 3);
    CHECK((to_eigen(reduced) - expected).norm() <= 1e-5 * expected.norm());
    CHECK(pare::test::same_bits(reduced, pare::rank_reduced(w.span(), 3)));
    matrix<float> const turned(w.span().transposed());
    auto const of_turned = pare::rank_reduced(turned.span().transposed(), 3);
    CHECK(pare::test::same_bits(reduced, of_turned));
  }
}

TEST_CASE("lift: zeros, equal weights, and a rank that is no limit") {
  matrix<float> const zeros(12, 10);
  auto const z = pare::score(zeros, pare::lift{.rank = 2});
  for (index_t i = 0; i < z.size(); ++i) CHECK(z.data()[i] == 0.0f);
  matrix<float> equal(12, 10);
  for (index_t i = 0; i < equal.size(); ++i) equal.data()[i] = -0.7f;
  auto const e = pare::score(equal, pare::lift{.rank = 1});
  for (index_t i = 0; i < e.size(); ++i) CHECK(e.data()[i] == Approx(0.7f));
  pare::random_source random(2);
  auto const w = random_matrix(random, {5, 6});
  CHECK(pare::test::same_bits(pare::score(w, pare::lift{}), pare::score(w, pare::magnitude{})));
  CHECK_THROWS_AS(pare::score(w, pare::lift{.rank = 0}), pare::contract_violation);
  CHECK_THROWS_AS(pare::score(w, pare::lift{.iterations = -1}), pare::contract_violation);
  static_assert(pare::criterion<pare::lift>);
}
