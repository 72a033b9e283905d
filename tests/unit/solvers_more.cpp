// SPDX-License-Identifier: Apache-2.0
// ALPS against its published form in double, many rows at once, inputs that never were active, and too few samples.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Dense>

#include <pare/calibrate/gram.hpp>
#include <pare/pattern/parse.hpp>
#include <pare/prune/alps.hpp>
#include <pare/prune/sparse_gpt.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::alps;
using pare::any_pattern;
using pare::extents;
using pare::gram;
using pare::index_t;
using pare::mask;
using pare::matrix;
using pare::sparse_gpt;
using pare::sparsity;
using pare::statistics;
using pare::test::random_matrix;

namespace {

/// Inputs (K, N), each of which depends on the one before it.
matrix<float> correlated(pare::random_source& random, index_t inputs, index_t samples) {
  auto x = random_matrix(random, {inputs, samples});
  for (index_t k = 1; k < inputs; ++k)
    for (index_t n = 0; n < samples; ++n) x(k, n) += 0.8f * x(k - 1, n);
  return x;
}

statistics<gram> gram_of(matrix<float> const& x) {
  statistics<gram> stats(x.rows());
  stats.add(x.span());
  return stats;
}

/// ALPS with B, D and V apart and the inverse anew for every rho; then least squares on the support.
pare::pruned_weights slow_alps(matrix<float> const& w, gram const& g, any_pattern const& pattern, double target) {
  index_t const rows = w.rows();
  index_t const n = w.cols();
  Eigen::MatrixXd h(n, n);
  for (index_t i = 0; i < n; ++i)
    for (index_t j = 0; j < n; ++j) h(i, j) = static_cast<double>(g(i, j));
  double const mean = h.diagonal().mean();
  h.diagonal().array() += 0.01 * mean;
  Eigen::VectorXd const norm = h.diagonal().cwiseSqrt();
  h = (norm.cwiseInverse().asDiagonal() * h * norm.cwiseInverse().asDiagonal()).eval();
  Eigen::MatrixXd start(rows, n);
  for (index_t r = 0; r < rows; ++r)
    for (index_t c = 0; c < n; ++c) start(r, c) = static_cast<double>(w(r, c)) * norm(c);

  auto const project = [&](Eigen::MatrixXd const& z) {
    matrix<float> squares(w.shape());
    for (index_t r = 0; r < rows; ++r)
      for (index_t c = 0; c < n; ++c) squares(r, c) = static_cast<float>(z(r, c) * z(r, c));
    return pattern.of() > 0 ? pare::select(squares, pattern) : pare::select(squares, pattern, sparsity(target));
  };
  auto const on = [&](mask const& keep, Eigen::MatrixXd z) {
    for (index_t r = 0; r < rows; ++r)
      for (index_t c = 0; c < n; ++c)
        if (!keep(r, c)) z(r, c) = 0.0;
    return z;
  };
  mask keep = project(start);
  mask before = keep;
  Eigen::MatrixXd d = on(keep, start);
  Eigen::MatrixXd v = Eigen::MatrixXd::Zero(rows, n);
  double rho = 0.1;
  bool raised = false;
  for (int round = 1; round <= 300; ++round) {
    Eigen::MatrixXd const inverse = (h + rho * Eigen::MatrixXd::Identity(n, n)).inverse();
    Eigen::MatrixXd const b = (start * h - v + rho * d) * inverse;
    keep = project(b + v / rho);
    d = on(keep, b + v / rho);
    v += rho * (b - d);
    if (round % 3 != 0) continue;
    index_t const changed = (before ^ keep).count() / 2;
    before = keep;
    double const share = static_cast<double>(changed) / static_cast<double>(keep.count());
    double next = rho;
    if (share > 0.1) {
      next = 1.3 * rho;
    } else if (share > 0.005) {
      next = 1.2 * rho;
    } else if (changed > 0 && raised) {
      next = 1.1 * rho;
    } else if (changed > 0) {
      rho /= 5.0;
      keep = before = project(start);
      d = on(keep, start);
      v.setZero();
      continue;
    } else {
      if (raised) break;
      next = rho / 5.0;
    }
    raised = raised || next > rho;
    if (round > 30 && share < 3e-4) break;
    rho = next;
  }
  pare::pruned_weights out{matrix<float>(w.shape()), keep};
  for (index_t r = 0; r < rows; ++r) {  // (W - B) H = 0 on the support
    std::vector<index_t> kept;
    keep.for_each_in_row(r, [&](index_t c) { kept.push_back(c); });
    Eigen::VectorXd const right = (h * start.row(r).transpose())(kept);
    Eigen::VectorXd const best = h(kept, kept).inverse() * right;
    for (index_t i = 0; i < best.size(); ++i) {
      index_t const c = kept[static_cast<std::size_t>(i)];
      out.weights(r, c) = static_cast<float>(best(i) / norm(c));
    }
  }
  return out;
}

}  // namespace

TEST_CASE("alps: is what its published form gives in double, for every pattern") {
  alps const method{.refinements = 200, .tolerance = 1e-6};
  for (any_pattern const pattern :
       {any_pattern(pare::unstructured{}), any_pattern(pare::n_of_m<2, 4>{}), any_pattern(pare::n_of_m<1, 4, 2>{}),
        any_pattern(pare::block<2, 4>{}), any_pattern(pare::block<4, 1>{})})
    for (double const target : {0.3, 0.7}) {
      INFO(pare::to_string(pattern) << " at " << target);
      pare::random_source random(17);
      extents const shape{12, 20};
      auto const w = random_matrix(random, shape);
      auto const stats = gram_of(correlated(random, shape.cols, 80));
      auto const fast = method.prune(w.span(), stats, pattern, sparsity(target)).value();
      auto const slow = slow_alps(w, stats.get<gram>(), pattern, target);
      REQUIRE(fast.keep == slow.keep);
      CHECK(fast.note.empty());
      for (index_t i = 0; i < w.size(); ++i)
        CHECK(fast.weights.data()[i] == Approx(slow.weights.data()[i]).epsilon(1e-3).margin(1e-3));
    }
}

TEST_CASE("alps: more rows than are multiplied at once: the same rows give the same answer wherever they are") {
  pare::random_source random(19);
  extents const few{6, 16};
  extents const many{600, 16};
  auto const part = random_matrix(random, few);
  matrix<float> whole(many);
  for (index_t i = 0; i < whole.size(); ++i) whole.data()[i] = part.data()[i % part.size()];
  auto const stats = gram_of(correlated(random, 16, 60));
  for (any_pattern const pattern : {any_pattern(pare::n_of_m<2, 4>{}), any_pattern(pare::n_of_m<2, 4, 3>{})}) {
    auto const a = alps{}.prune(part.span(), stats, pattern, sparsity(0.5)).value();
    auto const b = alps{}.prune(whole.span(), stats, pattern, sparsity(0.5)).value();
    CHECK(b.keep.count() == 100 * a.keep.count());
    for (index_t r = 0; r < 600; ++r)
      for (index_t c = 0; c < 16; ++c) {
        REQUIRE(b.keep(r, c) == a.keep(r % 6, c));
        REQUIRE(b.weights(r, c) == Approx(a.weights(r % 6, c)).margin(1e-4));
      }
  }
}

TEST_CASE("sparse_gpt: an input that never was active loses its weights first, and changes no other") {
  // H = diag(4, 0, 1): the dead input counts as H = 1 and W = 0, so its weights of 100 and -50 go before all others.
  matrix<float> x(3, 2);
  x(0, 0) = 2.0f, x(2, 1) = 1.0f;
  matrix<float> w(2, 3);
  float const values[] = {1.0f, 100.0f, 3.0f, 0.5f, -50.0f, 1.5f};
  std::copy_n(values, 6, w.data());
  auto const third =
      sparse_gpt{.damping = 0.0}.prune(w.span(), gram_of(x), pare::unstructured{}, sparsity(0.34)).value();
  CHECK((!third.keep(0, 1) && !third.keep(1, 1)));
  CHECK(third.keep.count() == 4);
  auto const half = sparse_gpt{.damping = 0.0}.prune(w.span(), gram_of(x), pare::unstructured{}, sparsity(0.5)).value();
  CHECK_FALSE(half.keep(1, 0));  // (0.5)^2 4 = 1 is the least of 4, 9, 1, 2.25
  float const expected[] = {1.0f, 0.0f, 3.0f, 0.0f, 0.0f, 1.5f};
  for (index_t i = 0; i < 6; ++i) CHECK(half.weights.data()[i] == Approx(expected[i]));
  auto const none = sparse_gpt{.damping = 0.0}.prune(w.span(), gram_of(x), pare::unstructured{}, sparsity(0.0)).value();
  CHECK(none.keep.count() == 6);  // kept by the mask, which has its count, and 0 all the same
  CHECK(none.weights(0, 1) == 0.0f);
  CHECK(none.weights(0, 0) == 1.0f);

  pare::random_source random(23);
  extents const shape{8, 12};
  auto const all = random_matrix(random, shape);
  auto live = correlated(random, 12, 40);
  for (index_t n = 0; n < 40; ++n) live(5, n) = 0.0f;
  matrix<float> without(8, 11);  // the layer without its sixth input
  matrix<float> inputs(11, 40);
  for (index_t k = 0; k < 11; ++k) {
    index_t const from = k < 5 ? k : k + 1;
    for (index_t r = 0; r < 8; ++r) without(r, k) = all(r, from);
    for (index_t n = 0; n < 40; ++n) inputs(k, n) = live(from, n);
  }
  sparse_gpt const rows{.compares = sparse_gpt::pool::row, .damping = 0.0};
  auto const a = rows.prune(all.span(), gram_of(live), pare::unstructured{}, sparsity(0.5)).value();         // 6 of 12
  auto const b = rows.prune(without.span(), gram_of(inputs), pare::unstructured{}, sparsity(0.46)).value();  // 5 of 11
  for (index_t r = 0; r < 8; ++r)
    for (index_t k = 0; k < 11; ++k) {
      CHECK(a.keep(r, k < 5 ? k : k + 1) == b.keep(r, k));
      CHECK(a.weights(r, k < 5 ? k : k + 1) == Approx(b.weights(r, k)).margin(1e-4));
    }
}

TEST_CASE("alps: an input that never was active loses its weights first where nothing is added for it") {
  matrix<float> x(3, 2);
  x(0, 0) = 2.0f, x(2, 1) = 1.0f;
  matrix<float> w(2, 3);
  float const values[] = {1.0f, 100.0f, 3.0f, 0.5f, -50.0f, 1.5f};
  std::copy_n(values, 6, w.data());
  auto const half = alps{.damping = 0.0}.prune(w.span(), gram_of(x), pare::unstructured{}, sparsity(0.5)).value();
  float const expected[] = {1.0f, 0.0f, 3.0f, 0.0f, 0.0f, 1.5f};
  for (index_t i = 0; i < 6; ++i) CHECK(half.weights.data()[i] == Approx(expected[i]));
}

TEST_CASE("solvers: say where there are fewer samples than active inputs, and keep their counts") {
  pare::random_source random(29);
  extents const shape{6, 12};
  auto const w = random_matrix(random, shape);
  auto x = random_matrix(random, {12, 9});
  auto const enough = random_matrix(random, {12, 12});
  auto const note_of = [&](auto const& method, matrix<float> const& inputs) {
    auto const p = method.prune(w.span(), gram_of(inputs), pare::unstructured{}, sparsity(0.5)).value();
    CHECK(p.keep.count() == 36);
    for (index_t i = 0; i < w.size(); ++i) CHECK(std::isfinite(p.weights.data()[i]));
    return p.note;
  };
  CHECK_THAT(note_of(sparse_gpt{}, x), ContainsSubstring("9 samples for 12 active inputs"));
  CHECK_THAT(note_of(alps{}, x), ContainsSubstring("9 samples for 12 active inputs"));
  CHECK_THAT(note_of(sparse_gpt{.damping = 0.0}, x), ContainsSubstring("; damping raised from 0"));
  CHECK(note_of(sparse_gpt{}, enough).empty());
  CHECK(note_of(alps{}, enough).empty());
  for (index_t k = 0; k < 3; ++k)
    for (index_t n = 0; n < 9; ++n) x(4 * k, n) = 0.0f;  // 9 active inputs are left for 9 samples
  CHECK(note_of(sparse_gpt{}, x).empty());
  CHECK(note_of(alps{}, x).empty());
}
