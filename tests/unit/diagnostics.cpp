// SPDX-License-Identifier: Apache-2.0
// Diagnostics, on cases whose answer is known in closed form.
#include <cmath>
#include <limits>
#include <vector>

#include <pare/inspect/essential_sparsity.hpp>
#include <pare/inspect/linear_cka.hpp>
#include <pare/inspect/mask_agreement.hpp>
#include <pare/inspect/mode_connectivity.hpp>
#include <pare/inspect/spectrum.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::errc;
using pare::index_t;
using pare::linear_cka;
using pare::mask;
using pare::matrix;
using pare::measured_sparsity;
using pare::sparsity;
using pare::test::random_matrix;

namespace {

matrix<float> rows(std::vector<std::vector<float>> const& values) {
  matrix<float> m(static_cast<index_t>(values.size()), static_cast<index_t>(values[0].size()));
  for (index_t i = 0; i < m.rows(); ++i)
    for (index_t j = 0; j < m.cols(); ++j) m(i, j) = values[std::size_t(i)][std::size_t(j)];
  return m;
}

double cka_of(matrix<float> const& x, matrix<float> const& y) {
  linear_cka cka(x.rows(), y.rows());
  cka.add(x.span(), y.span());
  return cka.value().value();
}

/// CKA from the N x N kernels and the centring matrix, as the paper writes it: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L,
/// L)).
double slow_cka(matrix<float> const& x, matrix<float> const& y) {
  index_t const n = x.cols();
  auto const centred = [n](matrix<float> const& f) {
    matrix<double> k(n, n), out(n, n);
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < n; ++j)
        for (index_t c = 0; c < f.rows(); ++c) k(i, j) += static_cast<double>(f(c, i)) * static_cast<double>(f(c, j));
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < n; ++j) {
        double row = 0, column = 0, all = 0;
        for (index_t p = 0; p < n; ++p) {
          row += k(i, p) / static_cast<double>(n);
          column += k(p, j) / static_cast<double>(n);
          for (index_t q = 0; q < n; ++q) all += k(p, q) / static_cast<double>(n * n);
        }
        out(i, j) = k(i, j) - row - column + all;
      }
    return out;
  };
  auto const k = centred(x), l = centred(y);
  double kl = 0, kk = 0, ll = 0;
  for (index_t i = 0; i < n * n; ++i) {
    kl += k.data()[i] * l.data()[i];
    kk += k.data()[i] * k.data()[i];
    ll += l.data()[i] * l.data()[i];
  }
  return kl / std::sqrt(kk * ll);
}

}  // namespace

TEST_CASE("essential sparsity: the last level before the first fall beyond the tolerance") {
  std::vector<measured_sparsity> const curve{{sparsity{0.0}, 0.90},  {sparsity{0.3}, 0.91}, {sparsity{0.5}, 0.895},
                                             {sparsity{0.6}, 0.885}, {sparsity{0.7}, 0.90}, {sparsity{0.8}, 0.2}};
  auto const knee = pare::find_essential_sparsity(curve, 0.01);
  CHECK(knee.last_within == sparsity{0.5});  // 0.6 fell by 0.015; that 0.7 is back does not count
  CHECK(knee.first_below == sparsity{0.6});
  CHECK(pare::find_essential_sparsity(curve, 0.02).last_within == sparsity{0.7});
  CHECK(pare::find_essential_sparsity(curve, 0.02).first_below == sparsity{0.8});
  CHECK(pare::find_essential_sparsity(curve, 0.0).first_below == sparsity{0.5});
  CHECK(pare::find_essential_sparsity(curve, 1.0).last_within == sparsity{0.8});
  CHECK(!pare::find_essential_sparsity(curve, 1.0).first_below);
  std::vector<measured_sparsity> const exact{{sparsity{0.0}, 1.0}, {sparsity{0.5}, 0.75}, {sparsity{0.6}, 0.7}};
  CHECK(pare::find_essential_sparsity(exact, 0.25).last_within == sparsity{0.5});  // a fall by the tolerance is none
  std::vector<measured_sparsity> const broken{{sparsity{0.0}, 1.0}, {sparsity{0.5}, std::nan("")}};
  CHECK(pare::find_essential_sparsity(broken, 0.1).first_below == sparsity{0.5});
  CHECK(pare::find_essential_sparsity(std::vector{exact[0]}, 0.1).last_within == sparsity{0.0});
  CHECK_THROWS_AS(pare::find_essential_sparsity(std::vector<measured_sparsity>{}, 0.1), pare::contract_violation);
  CHECK_THROWS_AS(pare::find_essential_sparsity(std::vector{exact[1], exact[0]}, 0.1), pare::contract_violation);
  CHECK_THROWS_AS(pare::find_essential_sparsity(exact, -0.1), pare::contract_violation);
}

TEST_CASE("essential sparsity: measures no more than it must") {
  std::vector<double> asked;
  auto const measure = [&](sparsity s) {
    asked.push_back(s.value);
    return s.value < 0.55 ? 1.0 : 0.5;
  };
  std::vector<sparsity> const levels{sparsity{0.25}, sparsity{0.5}, sparsity{0.75}, sparsity{0.9}};
  auto const knee = pare::find_essential_sparsity(measure, levels, 0.01);
  CHECK(knee.last_within == sparsity{0.5});
  CHECK(knee.first_below == sparsity{0.75});
  CHECK(asked == std::vector<double>{0.0, 0.25, 0.5, 0.75});
}

TEST_CASE("spectrum: matrices whose singular values are known") {
  // A row (3, 4): 5. [[2, 1], [1, 2]]: 3 and 1. A rotation of diag(2, 0.5), scaled columns.
  auto const row = pare::singular_values(rows({{3, 4}})).value();
  CHECK(row.norm() == Approx(5.0).epsilon(1e-14));
  CHECK(row.condition() == Approx(1.0).epsilon(1e-14));
  auto const symmetric = pare::singular_values(rows({{2, 1}, {1, 2}})).value();
  CHECK(symmetric.values.size() == 2);
  CHECK(symmetric.norm() == Approx(3.0).epsilon(1e-14));
  CHECK(symmetric.condition() == Approx(3.0).epsilon(1e-13));
  auto const wide = rows({{2, 0, 0}, {0, 0.5f, 0}});
  CHECK(pare::singular_values(wide).value().condition() == Approx(4.0).epsilon(1e-14));
  CHECK(pare::singular_values(wide.span().transposed()).value().condition() == Approx(4.0).epsilon(1e-14));
  // Values that a Gram matrix in float, or even in double, could not tell apart from zero.
  auto const far = pare::singular_values(rows({{1e10f, 0}, {0, 1e-4f}})).value();
  CHECK(far.rank == 2);
  CHECK(far.condition() == Approx(1e10 / static_cast<double>(1e-4f) * 1.0).epsilon(1e-9));
}

TEST_CASE("spectrum: what a mask does to a matrix") {
  auto const w = rows({{2, 1}, {1, 2}});
  mask diagonal(w.shape());
  diagonal.set(0, 0);
  diagonal.set(1, 1);
  auto const kept = pare::singular_values(w, diagonal).value();
  CHECK(kept.norm() == Approx(2.0).epsilon(1e-14));
  CHECK(kept.condition() == Approx(1.0).epsilon(1e-14));
  mask one_row(w.shape());  // (2, 1) and an empty row
  one_row.set(0, 0);
  one_row.set(0, 1);
  auto const half = pare::singular_values(w, one_row).value();
  CHECK(half.norm() == Approx(std::sqrt(5.0)).epsilon(1e-14));
  CHECK(half.rank == 1);
  CHECK(half.condition() == std::numeric_limits<double>::infinity());
  CHECK(half.effective_condition() == Approx(1.0).epsilon(1e-14));
  auto const nothing = pare::singular_values(w, mask(w.shape())).value();
  CHECK(nothing.norm() == 0.0);
  CHECK(nothing.rank == 0);
  CHECK(nothing.effective_condition() == std::numeric_limits<double>::infinity());
  CHECK(pare::singular_values(matrix<float>(0, 3)).value().norm() == 0.0);
  CHECK_THROWS_AS(pare::singular_values(w, mask({2, 3})), pare::contract_violation);
  auto bad = w;
  bad(1, 0) = std::numeric_limits<float>::quiet_NaN();
  CHECK(pare::singular_values(bad).error().code == errc::not_finite);
  CHECK(pare::singular_values(bad, diagonal).has_value());  // a removed weight plays no part, whatever it is
  // Rank one and large: everything but the first value is rounding.
  pare::random_source random(3);
  auto const u = random_matrix(random, {40, 1}), v = random_matrix(random, {1, 60});
  matrix<float> outer(40, 60);
  for (index_t i = 0; i < 40; ++i)
    for (index_t j = 0; j < 60; ++j) outer(i, j) = std::ldexp(std::round(u(i, 0) * 64), -6) * std::round(v(0, j) * 64);
  CHECK(pare::singular_values(outer).value().rank == 1);
}

TEST_CASE("spectrum: the sum of squares is the Frobenius norm's, the norm bounds every product") {
  pare::random_source random(4);
  for (auto const shape : {pare::extents{1, 9}, {9, 1}, {17, 30}, {30, 17}, {64, 64}}) {
    auto const w = random_matrix(random, shape);
    auto const keep = pare::test::random_mask(random, shape, 0.4f);
    auto const s = pare::singular_values(w, keep).value();
    double squares = 0, frobenius = 0;
    for (double const v : s.values) squares += v * v;
    for (index_t i = 0; i < shape.rows; ++i)
      for (index_t j = 0; j < shape.cols; ++j)
        if (keep(i, j)) frobenius += static_cast<double>(w(i, j)) * static_cast<double>(w(i, j));
    CHECK(squares == Approx(frobenius).epsilon(1e-12));
    auto const x = random_matrix(random, {shape.cols, 1});
    double out = 0, in = 0;
    for (index_t i = 0; i < shape.rows; ++i) {
      double y = 0;
      for (index_t j = 0; j < shape.cols; ++j)
        if (keep(i, j)) y += static_cast<double>(w(i, j)) * static_cast<double>(x(j, 0));
      out += y * y;
    }
    for (index_t j = 0; j < shape.cols; ++j) in += static_cast<double>(x(j, 0)) * static_cast<double>(x(j, 0));
    CHECK(std::sqrt(out) <= s.norm() * std::sqrt(in) * (1.0 + 1e-12));
  }
}

TEST_CASE("linear CKA: equal up to rotation, scale and shift is 1, uncorrelated is 0") {
  pare::random_source random(5);
  auto const x = random_matrix(random, {2, 50});
  matrix<float> turned(2, 50);
  float const c = std::cos(0.7f), s = std::sin(0.7f);
  for (index_t n = 0; n < 50; ++n) {
    turned(0, n) = 3.0f * (c * x(0, n) - s * x(1, n)) + 100.0f;
    turned(1, n) = 3.0f * (s * x(0, n) + c * x(1, n)) - 7.0f;
  }
  CHECK(cka_of(x, x) == Approx(1.0).epsilon(1e-13));
  CHECK(cka_of(x, turned) == Approx(1.0).epsilon(1e-6));
  // By hand: x = (1, -1, 1, -1), y = (1, 1, -1, -1) are orthogonal and have no mean; x and x + y: cos^2 of 45 degrees.
  auto const a = rows({{1, -1, 1, -1}}), b = rows({{1, 1, -1, -1}}), sum = rows({{2, 0, 0, -2}});
  CHECK(cka_of(a, b) == Approx(0.0).margin(1e-15));
  CHECK(cka_of(a, sum) == Approx(0.5).epsilon(1e-14));
  // [x; y] against x: ||Y^T X||^2 = 16, ||X^T X|| = 4, ||Y^T Y|| = sqrt(32).
  CHECK(cka_of(rows({{1, -1, 1, -1}, {1, 1, -1, -1}}), a) == Approx(16.0 / (4.0 * std::sqrt(32.0))).epsilon(1e-14));
}

TEST_CASE("linear CKA: the paper's kernel form, in batches of any size and layout, also with large means") {
  pare::random_source random(6);
  for (float const offset : {0.0f, 1000.0f}) {
    auto x = random_matrix(random, {5, 40}), y = random_matrix(random, {3, 40});
    for (index_t n = 0; n < 40; ++n) {
      for (index_t k = 0; k < 5; ++k) x(k, n) += offset;
      for (index_t k = 0; k < 3; ++k) y(k, n) += 0.5f * (x(k, n) - offset) - offset;
    }
    double const expected = slow_cka(x, y);
    CHECK(expected > 0.05);
    CHECK(expected < 0.9);
    CHECK(cka_of(x, y) == Approx(expected).epsilon(1e-7));
    matrix<float> const tokens(x.span().transposed());  // token-major
    linear_cka batches(5, 3);
    for (auto const& [first, count] : {std::pair<index_t, index_t>{0, 1}, {1, 0}, {1, 16}, {17, 23}})
      batches.add(tokens.span().row_range(first, count).transposed(), y.span().col_range(first, count));
    CHECK(batches.samples() == 40);
    CHECK(batches.value().value() == Approx(cka_of(x, y)).epsilon(1e-10));
  }
}

TEST_CASE("linear CKA: says so where there is nothing to compare") {
  auto const x = rows({{1, 2, 3}}), constant = rows({{4, 4, 4}});
  linear_cka empty(1, 1);
  CHECK(empty.value().error().code == errc::out_of_range);
  linear_cka flat(1, 1);
  flat.add(x.span(), constant.span());
  CHECK(flat.value().error().code == errc::out_of_range);
  linear_cka bad(1, 1);
  bad.add(x.span(), rows({{1, std::numeric_limits<float>::infinity(), 2}}).span());
  CHECK(bad.value().error().code == errc::not_finite);
  CHECK_THROWS_AS(empty.add(rows({{1}, {2}}).span(), x.span()), pare::contract_violation);
  CHECK_THROWS_AS(empty.add(x.span(), rows({{1, 2}}).span()), pare::contract_violation);
}

TEST_CASE("mode connectivity: a parabola, a basin and a slope") {
  // L(w) = (w^2 - 1)^2 has minima at -1 and 1 and its barrier, 1, between them.
  std::vector<float> const a{-1.0f}, b{1.0f};
  std::vector<float> mixed(1);
  auto const double_well = [&](double alpha) {
    pare::interpolate(a, b, alpha, mixed);
    double const w = static_cast<double>(mixed[0]);
    return (w * w - 1) * (w * w - 1);
  };
  auto const path = pare::walk_line(double_well);
  CHECK(path.losses.size() == 11);
  CHECK(path.losses.front() == 0.0);
  CHECK(path.losses.back() == 0.0);
  CHECK(path.barrier() == 1.0);
  CHECK(path.barrier_above_line() == 1.0);
  CHECK(path.connectivity() == -1.0);
  // A slope from 0 to 2 has no barrier above its line, and its end is 1 above the mean of the ends.
  auto const slope = pare::walk_line([](double alpha) { return 2.0 * alpha; }, 5);
  CHECK(slope.losses == std::vector<double>{0.0, 0.5, 1.0, 1.5, 2.0});
  CHECK(slope.barrier() == 1.0);
  CHECK(slope.barrier_above_line() == 0.0);
  // A basin: better networks between the ends.
  auto const basin = pare::walk_line([](double alpha) { return 4.0 * (alpha - 0.5) * (alpha - 0.5); }, 3);
  CHECK(basin.barrier() == 0.0);
  CHECK(basin.barrier_above_line() == 0.0);
  CHECK(basin.connectivity() == 1.0);
  CHECK(pare::walk_line([](double) { return 3.0; }, 2).connectivity() == 0.0);
  CHECK_THROWS_AS(pare::walk_line(double_well, 1), pare::contract_violation);
}

TEST_CASE("interpolate: the ends are exact") {
  std::vector<float> const a{0.1f, 1e30f, -3.0f}, b{0.7f, -1e30f, 5.0f};
  std::vector<float> out(3);
  pare::interpolate(a, b, 0.0, out);
  CHECK(out == a);
  pare::interpolate(a, b, 1.0, out);
  CHECK(out == b);
  pare::interpolate(a, b, 0.25, out);
  CHECK(out[2] == -1.0f);
  CHECK_THROWS_AS(pare::interpolate(a, std::vector<float>(2), 0.5, out), pare::contract_violation);
}

TEST_CASE("mask agreement: counted by hand, over all layers as one set") {
  mask a({2, 3}), b({2, 3});
  a.set(0, 0), a.set(0, 1), a.set(1, 2);
  b.set(0, 1), b.set(1, 2), b.set(1, 0), b.set(1, 1);
  auto const one = pare::compare(a, b);  // both keep 2, either 5; removed: 3 and 2, 1 in common, 4 in either
  CHECK(one.kept_iou == Approx(2.0 / 5.0).epsilon(1e-15));
  CHECK(one.kept_iou == pare::overlap(a, b));
  CHECK(one.removed_iou == Approx(1.0 / 4.0).epsilon(1e-15));
  CHECK(one.removed_in_common == Approx(1.0 / 2.0).epsilon(1e-15));
  std::vector<mask> const first{a, mask({1, 4}, true)}, second{b, mask({1, 4})};
  auto const two = pare::compare(first, second);  // 2 of 9 kept; 1 removed in common of 3 and 6
  CHECK(two.kept_iou == Approx(2.0 / 9.0).epsilon(1e-15));
  CHECK(two.removed_iou == Approx(1.0 / 8.0).epsilon(1e-15));
  CHECK(two.removed_in_common == Approx(1.0 / 3.0).epsilon(1e-15));
  auto const same = pare::compare(a, a);
  CHECK((same.kept_iou == 1.0 && same.removed_iou == 1.0 && same.removed_in_common == 1.0));
  auto const opposite = pare::compare(a, ~a);
  CHECK((opposite.kept_iou == 0.0 && opposite.removed_iou == 0.0 && opposite.removed_in_common == 0.0));
  auto const nothing_removed = pare::compare(mask({2, 2}, true), mask({2, 2}, true));
  CHECK(nothing_removed.removed_in_common == 1.0);
  CHECK_THROWS_AS(pare::compare(a, mask({3, 2})), pare::contract_violation);
  CHECK_THROWS_AS(pare::compare(first, std::vector<mask>{a}), pare::contract_violation);
}

TEST_CASE("mask agreement: independent masks agree as much as chance has it") {
  pare::random_source random(7);
  auto const a = pare::test::random_mask(random, {400, 500}, 0.3f);
  auto const b = pare::test::random_mask(random, {400, 500}, 0.3f);
  auto const chance = pare::compare(a, b);
  CHECK(chance.kept_iou == Approx(0.3 / 1.7).margin(0.005));
  CHECK(chance.removed_in_common == Approx(0.7).margin(0.005));
}
