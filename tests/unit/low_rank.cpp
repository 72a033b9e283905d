// SPDX-License-Identifier: Apache-2.0
// Low-rank factors, weighted or with a sparse part, against Eckart-Young with another SVD in double.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <Eigen/Dense>

#include <pare/prune/low_rank.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::any_pattern;
using pare::errc;
using pare::extents;
using pare::fwsvd_sides;
using pare::index_t;
using pare::low_rank;
using pare::matrix;
using pare::sparsity;
using pare::svd_method;
using pare::test::random_matrix;

namespace {

matrix<float> values(extents shape, std::vector<float> const& v) {
  matrix<float> m(shape);
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = v[static_cast<std::size_t>(i)];
  return m;
}

Eigen::MatrixXd wide(matrix<float> const& m) {
  Eigen::MatrixXd out(m.rows(), m.cols());
  for (index_t i = 0; i < m.rows(); ++i)
    for (index_t j = 0; j < m.cols(); ++j) out(i, j) = static_cast<double>(m(i, j));
  return out;
}

Eigen::MatrixXd product(low_rank const& f) { return wide(f.u) * wide(f.v); }

Eigen::VectorXd singular_values(Eigen::MatrixXd const& a) {
  return Eigen::JacobiSVD<Eigen::MatrixXd>(a).singularValues();
}

double tail(Eigen::VectorXd const& s, index_t rank) { return rank >= s.size() ? 0.0 : s.tail(s.size() - rank).norm(); }

/// Falling singular values, so that truncation means something.
matrix<float> falling(pare::random_source& random, extents shape, double by) {
  index_t const n = std::min(shape.rows, shape.cols);
  auto const a = random_matrix(random, {shape.rows, n});
  auto const b = random_matrix(random, {n, shape.cols});
  Eigen::VectorXd d(n);
  for (index_t i = 0; i < n; ++i) d(i) = std::pow(by, static_cast<double>(i));
  Eigen::MatrixXd const w = wide(a) * d.asDiagonal() * wide(b);
  matrix<float> out(shape);
  for (index_t i = 0; i < shape.rows; ++i)
    for (index_t j = 0; j < shape.cols; ++j) out(i, j) = static_cast<float>(w(i, j));
  return out;
}

}  // namespace

TEST_CASE("low_rank: by hand") {
  // 3 e1 f2^T + 2 e3 f1^T - 1 e2 f4^T: singular values 3, 2, 1.
  auto const w = values({3, 4}, {0, 3, 0, 0, 0, 0, 0, -1, 2, 0, 0, 0});
  auto const two = pare::truncated_svd(w.span(), 2).value();
  CHECK(two.u.shape() == extents{3, 2});
  CHECK(two.v.shape() == extents{2, 4});
  REQUIRE(two.values.size() == 2);
  CHECK(two.values[0] == Approx(3.0));
  CHECK(two.values[1] == Approx(2.0));
  CHECK(two.error == Approx(1.0));
  CHECK(std::abs(two.u(0, 0)) == Approx(std::sqrt(3.0)));
  CHECK(std::abs(two.v(1, 0)) == Approx(std::sqrt(2.0)));
  Eigen::MatrixXd const p = product(two);
  CHECK(p(0, 1) == Approx(3.0));
  CHECK(p(2, 0) == Approx(2.0));
  CHECK(p(1, 3) == Approx(0.0).margin(1e-6));

  std::vector<double> const s{3.0, 2.0, 1.0};  // squares 9, 4, 1 of 14
  CHECK(pare::rank_of(s, {9.0 / 14.0 - 1e-9}) == 1);
  CHECK(pare::rank_of(s, {9.0 / 14.0 + 1e-9}) == 2);
  CHECK(pare::rank_of(s, {0.9}) == 2);
  CHECK(pare::rank_of(s, {1.0}) == 3);
  CHECK(pare::rank_of(std::vector<double>{0.0, 0.0}, {0.9}) == 0);
  CHECK(pare::rank_of(std::vector<double>{}, {0.9}) == 0);
  CHECK_THROWS_AS(pare::rank_of(s, {0.0}), pare::contract_violation);
  auto const nine = pare::truncated_svd(w.span(), pare::energy{0.9}).value();
  CHECK(nine.values.size() == 2);
  CHECK((product(nine) - p).norm() < 1e-5);
}

TEST_CASE("low_rank: leaves what the smallest singular values hold, for every shape and rank") {
  for (extents const shape : {extents{8, 13}, extents{13, 8}, extents{1, 9}, extents{9, 1}, extents{40, 30}})
    for (index_t const rank : {0, 1, 3, 8, 100}) {
      INFO(shape.rows << " x " << shape.cols << " rank " << rank);
      pare::random_source random(static_cast<std::uint64_t>(shape.rows * 100 + rank));
      auto const w = falling(random, shape, 0.8);
      Eigen::VectorXd const s = singular_values(wide(w));
      auto const f = pare::truncated_svd(w.span(), rank).value();
      index_t const r = std::min(rank, s.size());
      REQUIRE(f.u.shape() == extents{shape.rows, r});
      REQUIRE(f.v.shape() == extents{r, shape.cols});
      double const norm = s.norm();
      CHECK((wide(w) - product(f)).norm() == Approx(tail(s, r)).margin(1e-6 * norm));
      CHECK(f.error == Approx(tail(s, r)).margin(1e-6 * norm));
      for (index_t i = 0; i < r; ++i) CHECK(f.values[std::size_t(i)] == Approx(s(i)).margin(1e-9 * norm));
    }
  auto const zero = pare::truncated_svd(matrix<float>(4, 3).span(), 2).value();
  CHECK(zero.error == 0.0);
  CHECK(pare::truncated_svd(matrix<float>(4, 3).span(), pare::energy{0.9}).value().u.cols() == 0);
  CHECK(pare::truncated_svd(matrix<float>(0, 3).span(), 2).value().v.shape() == extents{0, 3});
}

TEST_CASE("low_rank: the randomised SVD is nearly as good, exact where the rank is, and repeats") {
  pare::random_source random(3);
  extents const shape{60, 90};
  auto const w = falling(random, shape, 0.8);
  Eigen::VectorXd const s = singular_values(wide(w));
  for (index_t const rank : {1, 5, 20, 55}) {
    auto const f = pare::truncated_svd(w.span(), rank, svd_method::randomised).value();
    CHECK(f.u.cols() == rank);
    CHECK(f.error >= tail(s, rank) * (1.0 - 1e-6));
    CHECK(f.error <= tail(s, rank) * 1.01 + 1e-6 * s.norm());
    CHECK(pare::test::same_bits(f.u, pare::truncated_svd(w.span(), rank, svd_method::randomised).value().u));
  }
  auto const a = random_matrix(random, {60, 4});
  auto const b = random_matrix(random, {4, 90});
  matrix<float> four(60, 90);
  for (index_t i = 0; i < 60; ++i)
    for (index_t j = 0; j < 90; ++j)
      for (index_t r = 0; r < 4; ++r) four(i, j) += a(i, r) * b(r, j);
  CHECK(pare::truncated_svd(four.span(), 4, svd_method::randomised).value().error < 1e-5 * wide(four).norm());
}

TEST_CASE("fwsvd: by hand, an input that matters more is kept") {
  // Column norms 1 and 2, but the Fisher information weighs the first by sqrt(9): 3 > 2.
  auto const w = values({2, 2}, {1.0f, 0.0f, 0.0f, 2.0f});
  auto const fisher = values({2, 2}, {4.0f, 0.25f, 5.0f, 0.75f});
  auto const f = pare::fwsvd(w.span(), fisher.span(), 1).value();
  CHECK(f.values[0] == Approx(3.0));
  CHECK(product(f)(0, 0) == Approx(1.0));
  CHECK(product(f)(1, 1) == Approx(0.0).margin(1e-6));
  CHECK(f.error == Approx(2.0));
  auto const plain = pare::truncated_svd(w.span(), 1).value();
  CHECK(product(plain)(1, 1) == Approx(2.0));
  // Both sides: the outputs weigh sqrt(4.25) and sqrt(5.75), so 1 * 3 * 2.06 against 2 * 1 * 2.40.
  auto const both = pare::fwsvd(w.span(), fisher.span(), 1, fwsvd_sides::both).value();
  CHECK(both.values[0] == Approx(3.0 * std::sqrt(4.25)));
  CHECK(product(both)(0, 0) == Approx(1.0));
}

TEST_CASE("fwsvd: minimises the weighted error, with inputs and outputs of no information") {
  pare::random_source random(5);
  extents const shape{9, 14};
  auto const w = random_matrix(random, shape);
  matrix<float> fisher(shape);
  for (index_t i = 0; i < fisher.size(); ++i) fisher.data()[i] = random.uniform() * random.uniform();
  for (index_t i = 0; i < shape.rows; ++i) fisher(i, 3) = 0.0f, fisher(i, 5) *= 1e-10f;
  for (index_t j = 0; j < shape.cols; ++j) fisher(7, j) = 0.0f;
  Eigen::VectorXd const c = wide(fisher).colwise().sum().transpose().cwiseSqrt();
  for (auto const sides : {fwsvd_sides::inputs, fwsvd_sides::both}) {
    Eigen::VectorXd r = Eigen::VectorXd::Ones(9);
    if (sides == fwsvd_sides::both) r = wide(fisher).rowwise().sum().cwiseSqrt();
    Eigen::VectorXd const s = singular_values(r.asDiagonal() * wide(w) * c.asDiagonal());
    for (index_t const rank : {1, 4, 9}) {
      auto const f = pare::fwsvd(w.span(), fisher.span(), rank, sides).value();
      double const error = (r.asDiagonal() * (wide(w) - product(f)) * c.asDiagonal()).norm();
      CHECK(error == Approx(tail(s, rank)).margin(2e-6 * s.norm()));
      CHECK(f.error == Approx((wide(w) - product(f)).norm()));
      for (index_t i = 0; i < rank; ++i) {
        CHECK(f.v(i, 3) == 0.0f);
        if (sides == fwsvd_sides::both) CHECK(f.u(7, i) == 0.0f);
      }
    }
  }
  matrix<float> const ones = [&] {
    matrix<float> m(shape);
    for (index_t i = 0; i < m.size(); ++i) m.data()[i] = 1.0f;
    return m;
  }();
  auto const even = pare::fwsvd(w.span(), ones.span(), 3, fwsvd_sides::both).value();
  CHECK(even.error == Approx(pare::truncated_svd(w.span(), 3).value().error));
}

TEST_CASE("split_low_rank_sparse: by hand, and as one round of its parts") {
  // Of 3, 2 and -1 the factors take the 3, the rest the 2.
  auto const w = values({3, 4}, {0, 3, 0, 0, 0, 0, 0, -1, 2, 0, 0, 0});
  auto const split = pare::split_low_rank_sparse(w.span(), 1, pare::unstructured{}, sparsity(0.92)).value();
  CHECK(split.keep.count() == 1);
  CHECK(split.sparse(2, 0) == Approx(2.0));
  CHECK(product(split.low)(0, 1) == Approx(3.0));
  CHECK(split.low.error == Approx(std::sqrt(5.0)));
  CHECK(split.error == Approx(1.0));

  pare::random_source random(8);
  extents const shape{12, 16};
  auto const a = random_matrix(random, shape);
  for (any_pattern const pattern : {any_pattern(pare::unstructured{}), any_pattern({12, 1}, 0, 0),
                                    any_pattern(pare::n_of_m<1, 4>{}), any_pattern(pare::block<4, 2>{})}) {
    auto const one = pare::split_low_rank_sparse(a.span(), 4, pattern, sparsity(0.75)).value();
    auto const svd = pare::truncated_svd(a.span(), 4).value();
    CHECK(pare::test::same_bits(one.low.u, svd.u));
    CHECK(pare::test::same_bits(one.low.v, svd.v));
    CHECK(one.low.error == Approx(svd.error));
    CHECK(one.keep.count() == shape.size() / 4);
    CHECK(pare::admits(pattern, one.keep));
    Eigen::MatrixXd const rest = wide(a) - product(svd);
    double left = 0.0;
    for (index_t i = 0; i < 12; ++i)
      for (index_t j = 0; j < 16; ++j) {
        CHECK(one.sparse(i, j) == (one.keep(i, j) ? static_cast<float>(rest(i, j)) : 0.0f));
        if (!one.keep(i, j)) left += rest(i, j) * rest(i, j);
      }
    CHECK(one.error == Approx(std::sqrt(left)));
    double before = one.error;
    for (int const rounds : {2, 3, 6, 12}) {
      auto const more = pare::split_low_rank_sparse(a.span(), 4, pattern, sparsity(0.75), rounds).value();
      CHECK(more.error <= before * (1.0 + 1e-6));
      CHECK(more.error == Approx((wide(a) - product(more.low) - wide(more.sparse)).norm()));
      before = more.error;
    }
    CHECK(before < 0.99 * one.error);
  }
}

TEST_CASE("split_low_rank_sparse: rounds find a rank and the weights that do not belong to it") {
  pare::random_source random(4);
  extents const shape{20, 30};
  matrix<float> w(shape);
  for (index_t i = 0; i < 20; ++i)
    for (index_t j = 0; j < 30; ++j) w(i, j) = (i % 3 == 0 ? -1.0f : 1.0f) * (j % 4 == 0 ? 2.0f : 1.0f);
  matrix<float> outliers(shape);
  for (index_t i = 0; i < 6; ++i) outliers(3 * i + 1, (7 * i + 2) % 30) = 4.0f + random.uniform();
  for (index_t i = 0; i < w.size(); ++i) w.data()[i] += outliers.data()[i];
  auto const split = pare::split_low_rank_sparse(w.span(), 1, pare::unstructured{}, sparsity(0.99), 30).value();
  CHECK(split.error < 1e-4);
  for (index_t i = 0; i < w.size(); ++i) CHECK(split.sparse.data()[i] == Approx(outliers.data()[i]).margin(1e-4));
}

TEST_CASE("split_low_rank_sparse: the columns are those of the residual's largest norms") {
  pare::random_source random(9);
  auto const w = random_matrix(random, {6, 10});
  auto const split = pare::split_low_rank_sparse(w.span(), 2, any_pattern({6, 1}, 0, 0), sparsity(0.7)).value();
  Eigen::MatrixXd const rest = wide(w) - product(pare::truncated_svd(w.span(), 2).value());
  std::vector<std::pair<double, index_t>> norms;
  for (index_t j = 0; j < 10; ++j) norms.emplace_back(-rest.col(j).norm(), j);
  std::sort(norms.begin(), norms.end());
  for (std::size_t i = 0; i < 10; ++i)
    for (index_t r = 0; r < 6; ++r) CHECK(split.keep(r, norms[i].second) == (i < 3));
}

TEST_CASE("split_low_rank_sparse: nothing of one, nothing of the other") {
  pare::random_source random(10);
  auto const w = random_matrix(random, {5, 7});
  auto const dense = pare::split_low_rank_sparse(w.span(), 0, pare::unstructured{}, sparsity(0.0)).value();
  CHECK(pare::test::same_bits(dense.sparse, w));
  CHECK(dense.error == 0.0);
  auto const factors = pare::split_low_rank_sparse(w.span(), 5, pare::unstructured{}, sparsity(1.0)).value();
  CHECK(factors.keep.count() == 0);
  CHECK(factors.error < 1e-5);
}

TEST_CASE("low_rank: NaN, Fisher information that is none, and shapes that do not go together") {
  auto bad = values({2, 2}, {1.0f, 2.0f, 3.0f, std::numeric_limits<float>::quiet_NaN()});
  matrix<float> const good(2, 2);
  CHECK(pare::truncated_svd(bad.span(), 1).error().code == errc::not_finite);
  CHECK(pare::truncated_svd(bad.span(), pare::energy{}).error().code == errc::not_finite);
  CHECK(pare::fwsvd(bad.span(), good.span(), 1).error().code == errc::not_finite);
  CHECK(pare::fwsvd(good.span(), bad.span(), 1).error().code == errc::out_of_range);
  bad(1, 1) = -1.0f;
  CHECK(pare::fwsvd(good.span(), bad.span(), 1).error().code == errc::out_of_range);
  bad(1, 1) = std::numeric_limits<float>::infinity();
  CHECK(pare::split_low_rank_sparse(bad.span(), 1, pare::unstructured{}, sparsity(0.5)).error().code ==
        errc::not_finite);
  CHECK_THROWS_AS(pare::fwsvd(good.span(), matrix<float>(2, 3).span(), 1), pare::contract_violation);
  CHECK_THROWS_AS(pare::truncated_svd(good.span(), -1), pare::contract_violation);
  CHECK_THROWS_AS(pare::split_low_rank_sparse(good.span(), 1, pare::n_of_m<2, 4>{}, sparsity(0.5)),
                  pare::contract_violation);
  CHECK_THROWS_AS(pare::split_low_rank_sparse(good.span(), 1, pare::unstructured{}, sparsity(0.5), 0),
                  pare::contract_violation);
}
