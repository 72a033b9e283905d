// SPDX-License-Identifier: Apache-2.0
// Solvers that update weights, against slow double-precision versions written from their formulas.
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Dense>

#include <pare/calibrate/gram.hpp>
#include <pare/prune/alps.hpp>
#include <pare/prune/sparse_gpt.hpp>
#include <pare/prune/stages.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/ria.hpp>
#include <pare/score/wanda.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"
#include "support/toy_network.hpp"

using pare::alps;
using pare::any_pattern;
using pare::errc;
using pare::extents;
using pare::gram;
using pare::index_t;
using pare::matrix;
using pare::sparse_gpt;
using pare::sparsity;
using pare::statistics;
using pare::test::random_matrix;

namespace {

/// Inputs (K, N) that depend on each other.
matrix<float> correlated(pare::random_source& random, index_t inputs, index_t samples) {
  auto const mix = random_matrix(random, {inputs, inputs});
  auto const free = random_matrix(random, {inputs, samples});
  matrix<float> x(inputs, samples);
  for (index_t k = 0; k < inputs; ++k)
    for (index_t n = 0; n < samples; ++n) {
      float sum = 3.0f * free(k, n);
      for (index_t i = 0; i < inputs; ++i) sum += mix(k, i) * free(i, n);
      x(k, n) = sum;
    }
  return x;
}

statistics<gram> gram_of(matrix<float> const& x) {
  statistics<gram> stats(x.rows());
  stats.add(x.span());
  return stats;
}

Eigen::MatrixXd damped(gram const& g, double damping) {
  index_t const n = g.features();
  Eigen::MatrixXd h(n, n);
  for (index_t i = 0; i < n; ++i)
    for (index_t j = 0; j < n; ++j) h(i, j) = static_cast<double>(g(i, j));
  double const mean = h.diagonal().mean();
  h.diagonal().array() += damping * mean;
  return h;
}

double error_of(matrix<float> const& w, pare::pruned_weights const& p, Eigen::MatrixXd const& h) {
  double total = 0.0;
  for (index_t r = 0; r < w.rows(); ++r) {
    Eigen::VectorXd d(w.cols());
    for (index_t c = 0; c < w.cols(); ++c) d(c) = static_cast<double>(w(r, c)) - static_cast<double>(p.weights(r, c));
    total += d.dot(h * d);
  }
  return total;
}

/// SparseGPT from the formulas of OBS: the inverse of what is left of the Hessian is computed anew for every column.
struct slow_sparse_gpt {
  Eigen::MatrixXd w;
  std::vector<std::vector<bool>> keep;

  slow_sparse_gpt(matrix<float> const& weights, Eigen::MatrixXd const& h, any_pattern const& pattern, double target,
                  index_t width, bool by_rows)
      : w(weights.rows(), weights.cols()) {
    index_t const rows = w.rows();
    index_t const cols = w.cols();
    for (index_t r = 0; r < rows; ++r)
      for (index_t c = 0; c < cols; ++c) w(r, c) = static_cast<double>(weights(r, c));
    keep.assign(static_cast<std::size_t>(rows), std::vector<bool>(static_cast<std::size_t>(cols), true));
    std::vector<Eigen::MatrixXd> left;  // inverse of the Hessian of columns j ...
    for (index_t c = 0; c < cols; ++c) left.push_back(h.bottomRightCorner(cols - c, cols - c).inverse());
    auto const saliency = [&](index_t r, index_t c) { return w(r, c) * w(r, c) / left[std::size_t(c)](0, 0); };
    auto const [ur, uc] = pattern.unit();
    struct unit {
      double score;
      index_t row, col;
    };
    auto const remove = [&](std::vector<unit> pool, index_t count) {
      std::stable_sort(pool.begin(), pool.end(), [](unit const& a, unit const& b) { return a.score < b.score; });
      for (index_t i = 0; i < count; ++i)
        for (index_t r = 0; r < ur; ++r)
          for (index_t c = 0; c < uc; ++c)
            keep[std::size_t(pool[std::size_t(i)].row + r)][std::size_t(pool[std::size_t(i)].col + c)] = false;
    };
    auto const score_at = [&](index_t row, index_t col) {
      double sum = 0.0;
      for (index_t r = row; r < row + ur; ++r)
        for (index_t c = col; c < col + uc; ++c) sum += saliency(r, c);
      return unit{sum, row, col};
    };
    auto const gone = [&](index_t units) { return static_cast<index_t>(target * static_cast<double>(units)); };
    for (index_t c = 0; c < cols; ++c) {
      if (pattern.of() == 0 && c % width == 0) {
        index_t const end = std::min(c + width, cols);
        index_t const lines = by_rows ? 1 : rows / ur;
        index_t const count = gone(lines * (end / uc)) - gone(lines * (c / uc));
        std::vector<unit> pool;
        for (index_t r = 0; r < rows; r += ur) {
          for (index_t at = c; at < end; at += uc) pool.push_back(score_at(r, at));
          if (by_rows) {
            remove(pool, count);
            pool.clear();
          }
        }
        if (!by_rows) remove(pool, count);
      }
      for (index_t r = 0; r < rows; ++r) {
        if (pattern.of() > 0 && c % pattern.of() == 0 && r % ur == 0) {
          std::vector<unit> pool;
          for (index_t at = c; at < c + pattern.of(); ++at) pool.push_back(score_at(r, at));
          remove(pool, pattern.of() - pattern.keep());
        }
        if (keep[std::size_t(r)][std::size_t(c)]) continue;
        auto const& inverse = left[std::size_t(c)];
        double const e = w(r, c) / inverse(0, 0);
        w.row(r).tail(cols - c) -= e * inverse.row(0);
      }
    }
    for (index_t r = 0; r < rows; ++r)
      for (index_t c = 0; c < cols; ++c)
        if (!keep[std::size_t(r)][std::size_t(c)]) w(r, c) = 0.0;
  }
};

void check_against_slow(extents shape, any_pattern const& pattern, double target, sparse_gpt const& method) {
  pare::random_source random(static_cast<std::uint64_t>(shape.rows * 31 + shape.cols));
  auto const w = random_matrix(random, shape);
  auto const stats = gram_of(correlated(random, shape.cols, 3 * shape.cols));
  auto const fast = method.prune(w.span(), stats, pattern, sparsity(target)).value();
  index_t const step = pattern.of() > 0 ? pattern.of() : pattern.unit().cols;
  slow_sparse_gpt const slow(w, damped(stats.get<gram>(), method.damping), pattern, target,
                             pare::round_up(method.block_columns, step), method.compares == sparse_gpt::pool::row);
  CHECK(fast.note.empty());
  CHECK(pare::admits(pattern, fast.keep));
  for (index_t r = 0; r < shape.rows; ++r)
    for (index_t c = 0; c < shape.cols; ++c) {
      INFO("row " << r << " column " << c);
      REQUIRE(fast.keep(r, c) == slow.keep[std::size_t(r)][std::size_t(c)]);
      REQUIRE(static_cast<double>(fast.weights(r, c)) == Approx(slow.w(r, c)).margin(2e-3).epsilon(2e-3));
    }
}

}  // namespace

TEST_CASE("gram: is the sum of x x^T over all batches, in either layout") {
  pare::random_source random(1);
  auto const x = random_matrix(random, {7, 20});
  matrix<float> tokens(20, 7);  // token-major
  for (index_t i = 0; i < 7; ++i)
    for (index_t n = 0; n < 20; ++n) tokens(n, i) = x(i, n);
  gram a(7);
  a.add(x.span().col_range(0, 13));
  a.add(x.span().col_range(13, 7));
  gram b(7);
  b.add(tokens.span().row_range(0, 5).transposed());
  gram rest(7);
  rest.add(tokens.span().row_range(5, 15).transposed());
  b.merge(rest);
  CHECK(a.samples() == 20);
  CHECK(b.samples() == 20);
  for (index_t i = 0; i < 7; ++i)
    for (index_t j = 0; j < 7; ++j) {
      double sum = 0.0;
      for (index_t n = 0; n < 20; ++n) sum += static_cast<double>(x(i, n)) * static_cast<double>(x(j, n));
      CHECK(static_cast<double>(a(i, j)) == Approx(sum).margin(1e-5));
      CHECK(static_cast<double>(b(i, j)) == Approx(sum).margin(1e-5));
    }
  CHECK_THROWS_AS(a.add(tokens.span()), pare::contract_violation);
  CHECK_THROWS_AS(a.merge(gram(6)), pare::contract_violation);
}

TEST_CASE("factor_inverse: U^T U is the inverse of the damped Gram matrix") {
  for (index_t const n : {1, 2, 3, 31, 33, 70, 129}) {
    pare::random_source random(static_cast<std::uint64_t>(n));
    auto const stats = gram_of(correlated(random, n, 2 * n + 5));
    pare::detail::row_major u;
    CHECK(pare::detail::factor_inverse(stats.get<gram>(), 0.01, u).value() == 0.01);
    Eigen::MatrixXd const wide = u.cast<double>();
    Eigen::MatrixXd const product = wide.transpose() * wide * damped(stats.get<gram>(), 0.01);
    INFO(n);
    CHECK((product - Eigen::MatrixXd::Identity(n, n)).cwiseAbs().maxCoeff() < 2e-3);
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < i; ++j) REQUIRE(u(i, j) == 0.0f);
  }
}

TEST_CASE("sparse_gpt: two weights by hand") {
  // H = [2 1; 1 2]: without w1 = 1 the best w2 is 3 + 1/2, for 2 d + (0 - 1) * 1 = 0.
  matrix<float> x(2, 2);
  x(0, 0) = std::sqrt(1.5f), x(0, 1) = std::sqrt(0.5f);
  x(1, 0) = std::sqrt(1.5f), x(1, 1) = -std::sqrt(0.5f);
  matrix<float> w(1, 2);
  w(0, 0) = 1.0f, w(0, 1) = 3.0f;
  auto const p = sparse_gpt{.damping = 0.0}.prune(w.span(), gram_of(x), pare::unstructured{}, sparsity(0.5)).value();
  CHECK_FALSE(p.keep(0, 0));
  CHECK(p.weights(0, 0) == 0.0f);
  CHECK(p.weights(0, 1) == Approx(3.5f));
  auto const a = alps{.damping = 0.0}.prune(w.span(), gram_of(x), pare::unstructured{}, sparsity(0.5)).value();
  CHECK_FALSE(a.keep(0, 0));
  CHECK(a.weights(0, 1) == Approx(3.5f));
}

TEST_CASE("sparse_gpt: is what the formulas of OBS give, for every pattern, pool and width of blocks") {
  any_pattern const free = pare::unstructured{};
  sparse_gpt const rows{.compares = sparse_gpt::pool::row};
  check_against_slow({12, 48}, free, 0.5, {});
  check_against_slow({12, 48}, free, 0.7, {.block_columns = 16});
  check_against_slow({9, 37}, free, 0.33, {.block_columns = 10});
  check_against_slow({12, 48}, free, 0.5, rows);
  check_against_slow({12, 37}, free, 0.4, {.compares = sparse_gpt::pool::row, .block_columns = 10});
  check_against_slow({8, 48}, pare::n_of_m<2, 4>{}, 0.0, {});
  check_against_slow({8, 48}, pare::n_of_m<1, 4>{}, 0.0, {.block_columns = 10});
  check_against_slow({8, 48}, pare::n_of_m<4, 8, 4>{}, 0.0, {});
  check_against_slow({8, 24}, pare::block<4, 1>{}, 0.5, {});
  check_against_slow({8, 24}, pare::block<2, 2>{}, 0.5, {.block_columns = 7});
  check_against_slow({8, 24}, pare::block<2, 2>{}, 0.5, rows);
  check_against_slow({1, 1}, free, 0.0, {});
  check_against_slow({3, 5}, free, 0.99, {});
}

TEST_CASE("alps: finds less error than the sweep; both gain by their updates, and their counts are exact") {
  pare::random_source random(5);
  extents const shape{24, 32};
  auto const w = random_matrix(random, shape);
  auto const x = correlated(random, shape.cols, 200);
  auto const stats = gram_of(x);
  auto const h = damped(stats.get<gram>(), 0.0);
  for (any_pattern const pattern : {any_pattern(pare::unstructured{}), any_pattern(pare::n_of_m<2, 4>{}),
                                    any_pattern(pare::n_of_m<4, 8>{}), any_pattern(pare::block<4, 1>{})}) {
    INFO(pare::to_string(pattern));
    auto const swept = sparse_gpt{}.prune(w.span(), stats, pattern, sparsity(0.5)).value();
    auto const solved = alps{}.prune(w.span(), stats, pattern, sparsity(0.5)).value();
    CHECK(error_of(w, solved, h) < error_of(w, swept, h));
    for (auto const* p : {&swept, &solved}) {
      CHECK(p->keep.count() == shape.size() / 2);
      CHECK(pare::admits(pattern, p->keep));
      pare::pruned_weights only_cut{matrix<float>(w), p->keep};
      for (index_t i = 0; i < w.size(); ++i)
        if (!p->keep(i / shape.cols, i % shape.cols)) only_cut.weights.data()[i] = 0.0f;
      CHECK(error_of(w, *p, h) < 0.8 * error_of(w, only_cut, h));
    }
  }
}

TEST_CASE("alps: the weights on the support are optimal, and without correlation the choice is the best one") {
  pare::random_source random(6);
  extents const shape{10, 16};
  auto const w = random_matrix(random, shape);
  auto const stats = gram_of(correlated(random, shape.cols, 100));
  auto const solved =
      alps{.refinements = 100, .tolerance = 1e-7}.prune(w.span(), stats, pare::unstructured{}, sparsity(0.5)).value();
  auto const h = damped(stats.get<gram>(), 0.01);
  for (index_t r = 0; r < shape.rows; ++r) {
    Eigen::VectorXd d(shape.cols);
    for (index_t c = 0; c < shape.cols; ++c)
      d(c) = static_cast<double>(w(r, c)) - static_cast<double>(solved.weights(r, c));
    Eigen::VectorXd const slope = h * d;
    for (index_t c = 0; c < shape.cols; ++c)
      if (solved.keep(r, c)) CHECK(std::abs(slope(c)) < 1e-3 * h.diagonal().maxCoeff());
  }
  matrix<float> apart(shape.cols, shape.cols);  // inputs of different sizes, one at a time
  for (index_t k = 0; k < shape.cols; ++k) apart(k, k) = 0.5f + static_cast<float>(k % 5);
  statistics<pare::input_norms> norms(shape.cols);
  norms.add(apart.span());
  auto const chosen = alps{.damping = 0.0}.prune(w.span(), gram_of(apart), pare::unstructured{}, sparsity(0.5)).value();
  auto const best = pare::select(pare::score(w, pare::wanda{}, norms), pare::unstructured{}, sparsity(0.5));
  CHECK((chosen.keep ^ best).count() == 0);
  for (index_t i = 0; i < w.size(); ++i)
    if (best(i / shape.cols, i % shape.cols)) CHECK(chosen.weights.data()[i] == Approx(w.data()[i]));
}

TEST_CASE("solvers: inputs that never were active, too few samples, no samples and NaN") {
  pare::random_source random(7);
  extents const shape{6, 12};
  auto const w = random_matrix(random, shape);
  auto x = random_matrix(random, {12, 3});  // rank 3
  for (index_t n = 0; n < 3; ++n) x(4, n) = 0.0f;
  auto const stats = gram_of(x);
  for (any_pattern const pattern : {any_pattern(pare::unstructured{}), any_pattern(pare::n_of_m<2, 4>{})}) {
    auto const swept = sparse_gpt{}.prune(w.span(), stats, pattern, sparsity(0.5)).value();
    auto const solved = alps{}.prune(w.span(), stats, pattern, sparsity(0.5)).value();
    for (auto const* p : {&swept, &solved}) {
      CHECK(p->keep.count() == 36);
      for (index_t i = 0; i < w.size(); ++i) CHECK(std::isfinite(p->weights.data()[i]));
    }
    for (index_t r = 0; r < shape.rows; ++r) CHECK(swept.weights(r, 4) == 0.0f);
  }
  auto const raised = sparse_gpt{.damping = 0.0}.prune(w.span(), stats, pare::unstructured{}, sparsity(0.5)).value();
  CHECK(raised.note.find("damping raised from 0") != std::string::npos);

  statistics<gram> const none(12);
  CHECK(sparse_gpt{}.prune(w.span(), none, pare::unstructured{}, sparsity(0.5)).error().code == errc::missing);
  CHECK(alps{}.prune(w.span(), none, pare::unstructured{}, sparsity(0.5)).error().code == errc::missing);
  x(2, 1) = std::numeric_limits<float>::quiet_NaN();
  auto const damaged = gram_of(x);
  CHECK(sparse_gpt{}.prune(w.span(), damaged, pare::unstructured{}, sparsity(0.5)).error().code == errc::not_finite);
  CHECK(alps{}.prune(w.span(), damaged, pare::unstructured{}, sparsity(0.5)).error().code == errc::not_finite);
  CHECK_THROWS_AS(sparse_gpt{}.prune(w.span(), statistics<gram>(11), pare::unstructured{}, sparsity(0.5)),
                  pare::contract_violation);
  CHECK_THROWS_AS(sparse_gpt{}.prune(w.span(), stats, pare::n_of_m<2, 8>{}, sparsity(0.5)), pare::contract_violation);
}

TEST_CASE("ria: shares of column and row times a power of the input's norm, by hand") {
  matrix<float> w(2, 2);
  w(0, 0) = 1.0f, w(0, 1) = -3.0f, w(1, 0) = 0.0f, w(1, 1) = 1.0f;
  matrix<float> x(2, 1);
  x(0, 0) = 4.0f, x(1, 0) = -9.0f;
  statistics<pare::input_norms> stats(2);
  stats.add(x.span());
  auto const s = pare::score(w, pare::ria{}, stats);
  CHECK(s(0, 0) == Approx((1.0 / 1.0 + 1.0 / 4.0) * 2.0));
  CHECK(s(0, 1) == Approx((3.0 / 4.0 + 3.0 / 4.0) * 3.0));
  CHECK(s(1, 0) == 0.0f);
  CHECK(s(1, 1) == Approx((1.0 / 4.0 + 1.0 / 1.0) * 3.0));
  CHECK(pare::score(matrix<float>(2, 2), pare::ria{}, stats)(0, 0) == 0.0f);  // a matrix of zeros has no shares
}

namespace {

using pare::test::toy_network;

toy_network chain() {
  pare::random_source random(61);
  toy_network net;
  for (char const* name : {"a", "b", "head"}) net.parts.emplace_back(name, random_matrix(random, {8, 8}));
  return net;
}

/// x through all layers; what each one sees goes to the tap.
pare::result<void> run(toy_network const& net, auto& tap, index_t samples = 40) {
  pare::random_source random(62);
  matrix<float> x = correlated(random, 8, samples);
  for (pare::linear const& l : net.parts) {
    tap(l, x.span());
    matrix<float> y(8, samples);
    l.forward(x.span(), y.span());
    x = std::move(y);
  }
  return {};
}

}  // namespace

TEST_CASE("prune_in_stages: each stage sees what the pruned ones before it leave, or the dense network") {
  std::vector<sparsity> const half(2, sparsity(0.5));
  auto const feed = [](toy_network const& n, auto& tap) { return run(n, tap); };
  for (auto const stream : {pare::calibration_stream::pruned, pare::calibration_stream::dense}) {
    toy_network net = chain();
    auto const done = pare::prune_in_stages(net, sparse_gpt{}, pare::unstructured{}, half, feed, stream).value();
    CHECK(done.size() == 2);
    CHECK(done[1].name == "b");
    CHECK(done[1].kept == 32);
    CHECK(net.parts[2].weights().keeps_all());

    toy_network expected = chain();  // the same by hand
    pare::calibration<statistics<gram>> all(expected);
    CHECK(run(expected, all));
    auto const first = sparse_gpt{}.prune(expected.parts[0].weight(), all[0], pare::unstructured{}, half[0]).value();
    expected.parts[0].assign(first.weights, first.keep);
    pare::calibration<statistics<gram>> behind(expected);
    CHECK(run(expected, behind));
    auto const& seen = stream == pare::calibration_stream::pruned ? behind : all;
    auto const second = sparse_gpt{}.prune(expected.parts[1].weight(), seen[1], pare::unstructured{}, half[1]).value();
    CHECK(pare::test::same_bits(net.parts[0].weight(), first.weights));
    CHECK(pare::test::same_bits(net.parts[1].weight(), second.weights));
  }
}

TEST_CASE("prune_in_stages: errors name the layer and leave the network as it was") {
  std::vector<sparsity> const half(2, sparsity(0.5));
  toy_network const fresh = chain();
  toy_network net = chain();
  auto const unchanged = [&] {
    for (std::size_t l = 0; l < net.parts.size(); ++l)
      if (!pare::test::same_bits(net.parts[l].weight(), fresh.parts[l].weight()) || !net.parts[l].weights().keeps_all())
        return false;
    return true;
  };
  int runs = 0;
  auto const fails_later = [&](toy_network const& n, auto& tap) -> pare::result<void> {
    if (++runs == 2) return pare::error{errc::io, "data", "gone"};
    return run(n, tap);
  };
  CHECK(pare::prune_in_stages(net, sparse_gpt{}, pare::unstructured{}, half, fails_later).error().code == errc::io);
  CHECK(unchanged());

  auto const silent = [](toy_network const& n, auto& tap) { return run(n, tap, 0); };
  auto const e = pare::prune_in_stages(net, alps{}, pare::unstructured{}, half, silent).error();
  CHECK(e.code == errc::missing);
  CHECK(e.message().find("a") != std::string::npos);
  CHECK(unchanged());

  auto const feed = [](toy_network const& n, auto& tap) { return run(n, tap); };
  auto stop = [](std::string_view, index_t done, index_t) { return done == 0; };
  pare::prune_settings settings;
  settings.progress = pare::progress(stop);
  CHECK(pare::prune_in_stages(net, sparse_gpt{}, pare::unstructured{}, half, feed, pare::calibration_stream::pruned,
                              settings)
            .error()
            .code == errc::cancelled);
  CHECK(unchanged());
  CHECK(pare::prune_in_stages(net, sparse_gpt{}, pare::n_of_m<2, 3>{}, half, feed).error().code ==
        errc::pattern_misfit);
  CHECK(pare::share_out(net, pare::unstructured{}, sparsity(0.5), pare::uniform{}).value() == half);
}
