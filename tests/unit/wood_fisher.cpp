// SPDX-License-Identifier: Apache-2.0
// The Fisher information in blocks and WoodFisher, against the published recursion and dense inverses in double.
#include <cmath>
#include <limits>
#include <vector>

#include <Eigen/Dense>

#include <pare/calibrate/fisher_blocks.hpp>
#include <pare/pattern/parse.hpp>
#include <pare/prune/wood_fisher.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::any_pattern;
using pare::errc;
using pare::extents;
using pare::fisher_blocks;
using pare::index_t;
using pare::matrix;
using pare::sparsity;
using pare::wood_fisher;
using pare::test::random_matrix;

namespace {

static_assert(pare::layer_pruner<wood_fisher>);

/// Gradients that depend on each other: three directions, and noise; few bits, so that sums of products in float are
/// exact, and a comparison says something about the method alone.
std::vector<matrix<float>> gradients(pare::random_source& random, extents shape, index_t samples, float size = 1.0f) {
  std::vector<matrix<float>> directions;
  for (int d = 0; d < 3; ++d) directions.push_back(random_matrix(random, shape));
  std::vector<matrix<float>> out;
  for (index_t n = 0; n < samples; ++n) {
    out.push_back(random_matrix(random, shape));
    for (auto const& d : directions) {
      float const by = 2.0f * random.normal();
      for (index_t i = 0; i < d.size(); ++i) out.back().data()[i] += by * d.data()[i];
    }
    for (index_t i = 0; i < shape.size(); ++i) {
      float& g = out.back().data()[i];
      g = size * 0.25f * std::round(4.0f * g);
    }
  }
  return out;
}

fisher_blocks collect(std::vector<matrix<float>> const& gradients, extents shape, index_t block) {
  fisher_blocks f(shape, block);
  for (auto const& g : gradients) f.add_sample(g.span());
  return f;
}

/// The inverse of one block by the published recursion over the samples.
Eigen::MatrixXd recursion(std::vector<matrix<float>> const& gradients, index_t first, index_t size, double damping) {
  Eigen::MatrixXd inverse = Eigen::MatrixXd::Identity(size, size) / damping;
  for (auto const& sample : gradients) {
    Eigen::VectorXd g(size);
    for (index_t i = 0; i < size; ++i) g(i) = static_cast<double>(sample.data()[first + i]);
    Eigen::VectorXd const image = inverse * g;
    inverse -= image * image.transpose() / (static_cast<double>(gradients.size()) + g.dot(image));
  }
  return inverse;
}

matrix<float> values(extents shape, std::vector<float> const& v) {
  matrix<float> m(shape);
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = v[static_cast<std::size_t>(i)];
  return m;
}

}  // namespace

TEST_CASE("fisher_blocks: the sums of g g^T along the rows, with a shorter last block, merged or not, in any strides") {
  pare::random_source random(1);
  extents const shape{3, 5};
  auto const samples = gradients(random, shape, 6);
  fisher_blocks const all = collect(samples, shape, 4);  // 4, 4, 4, 3 weights: rows are spanned
  CHECK(all.blocks() == 4);
  CHECK(all.size(3) == 3);
  CHECK(all.samples() == 6);
  for (index_t q = 0; q < 4; ++q)
    for (index_t i = 0; i < all.size(q); ++i)
      for (index_t j = 0; j < all.size(q); ++j) {
        double sum = 0.0;
        for (auto const& g : samples)
          sum += static_cast<double>(g.data()[4 * q + i]) * static_cast<double>(g.data()[4 * q + j]);
        CHECK(static_cast<double>(all.sums(q)(i, j)) == Approx(sum).margin(1e-5));
      }
  fisher_blocks a = collect({samples[0], samples[1]}, shape, 4);
  fisher_blocks b(shape, 4);
  for (std::size_t n = 2; n < 6; ++n) {
    matrix<float> const turned(samples[n].span().transposed());
    b.add_sample(turned.span().transposed());
  }
  a.merge(b);
  CHECK(a.samples() == 6);
  for (index_t q = 0; q < 4; ++q)
    for (index_t i = 0; i < all.size(q); ++i)
      CHECK(a.sums(q)(i, all.size(q) - 1) == Approx(all.sums(q)(i, all.size(q) - 1)).margin(1e-5));

  CHECK(fisher_blocks({2, 3}, 100).blocks() == 1);
  CHECK(fisher_blocks({2, 3}, 100).size(0) == 6);
  CHECK(fisher_blocks({0, 3}, 4).blocks() == 0);
  CHECK_THROWS_AS(fisher_blocks(shape, 0), pare::contract_violation);
  CHECK_THROWS_AS(a.add_sample(matrix<float>(5, 3).span()), pare::contract_violation);
  CHECK_THROWS_AS(a.merge(fisher_blocks(shape, 5)), pare::contract_violation);
}

TEST_CASE("wood_fisher: two weights by hand") {
  // Gradients (1, 0) and (1, 1), damping 1: F = [2 1/2; 1/2 3/2], F^-1 = [6 -2; -2 8] / 11. Scores 1 * 11 / 12 and
  // 4 * 11 / 16. Without the first weight the second is 2 + (2/11) * (11/6) = 2 + 1/3.
  extents const shape{1, 2};
  auto const f = collect({values(shape, {1.0f, 0.0f}), values(shape, {1.0f, 1.0f})}, shape, 2);
  auto const w = values(shape, {1.0f, 2.0f});
  for (auto const how : {wood_fisher::update::summed, wood_fisher::update::joint}) {
    wood_fisher const method{.how = how, .damping = 1.0};
    auto const scores = method.score(w.span(), f).value();
    CHECK(scores(0, 0) == Approx(11.0 / 12.0));
    CHECK(scores(0, 1) == Approx(11.0 / 4.0));
    auto const p = method.prune(w.span(), f, pare::unstructured{}, sparsity(0.5)).value();
    CHECK((!p.keep(0, 0) && p.keep(0, 1)));
    CHECK(p.weights(0, 0) == 0.0f);
    CHECK(p.weights(0, 1) == Approx(7.0 / 3.0));
  }
}

TEST_CASE("wood_fisher: three weights by hand, where summed and joint updates differ") {
  // One gradient (1, 1, 1), damping 1: F = I + 11^T, F^-1 = I - 11^T / 4, diagonal 3/4. w = (1, 1, 9): the first two
  // go. Summed: 9 + (1/4) (4/3 + 4/3) = 9 + 2/3. Joint: 9 + F_SS^-1 F_SP w_P = 9 + (1 + 1) / 2 = 10.
  extents const shape{3, 1};
  auto const f = collect({values(shape, {1.0f, 1.0f, 1.0f})}, shape, 3);
  auto const w = values(shape, {1.0f, 1.0f, 9.0f});
  wood_fisher method{.damping = 1.0};
  CHECK(method.prune(w.span(), f, pare::unstructured{}, sparsity(0.7)).value().weights(2, 0) ==
        Approx(9.0 + 2.0 / 3.0));
  method.how = wood_fisher::update::joint;
  CHECK(method.prune(w.span(), f, pare::unstructured{}, sparsity(0.7)).value().weights(2, 0) == Approx(10.0));
}

TEST_CASE("wood_fisher: scores and updates are those of the published recursion, and the joint one is optimal") {
  for (index_t const block : {1, 3, 5, 7, 40, 100}) {
    for (float const size : {1.0f, 0x1p-10f}) {
      INFO("block " << block << " size " << size);
      pare::random_source random(static_cast<std::uint64_t>(block) + 3);
      extents const shape{4, 10};
      auto const w = random_matrix(random, shape);
      auto const samples = gradients(random, shape, 8, size);
      fisher_blocks const f = collect(samples, shape, block);
      wood_fisher const summed{};
      wood_fisher const joint{.how = wood_fisher::update::joint};
      auto const scores = summed.score(w.span(), f).value();
      auto const a = summed.prune(w.span(), f, pare::unstructured{}, sparsity(0.6)).value();
      auto const b = joint.prune(w.span(), f, pare::unstructured{}, sparsity(0.6)).value();
      CHECK(a.note.empty() == (size == 1.0f));
      CHECK(a.keep == b.keep);
      CHECK(a.keep == pare::select(scores, pare::unstructured{}, sparsity(0.6)));
      CHECK(a.keep.count() == 16);
      for (index_t q = 0; q < f.blocks(); ++q) {
        index_t const first = f.first(q);
        index_t const n = f.size(q);
        Eigen::MatrixXd const inverse = recursion(samples, first, n, 1e-3);
        Eigen::MatrixXd const fisher = inverse.inverse();
        Eigen::VectorXd gone = Eigen::VectorXd::Zero(n);
        std::vector<index_t> removed;
        for (index_t j = 0; j < n; ++j) {
          double const v = static_cast<double>(w.data()[first + j]);
          CHECK(static_cast<double>(scores.data()[first + j]) == Approx(v * v / (2.0 * inverse(j, j))).epsilon(1e-6));
          if (a.keep((first + j) / 10, (first + j) % 10)) continue;
          gone(j) = v / inverse(j, j);
          removed.push_back(j);
        }
        Eigen::VectorXd const sum = -inverse * gone;
        // d = -F^-1 e (e^T F^-1 e)^-1 w_P: OBS for a set, from the inverse.
        Eigen::VectorXd exact = Eigen::VectorXd::Zero(n);
        if (!removed.empty()) {
          Eigen::VectorXd v(std::ssize(removed));
          for (index_t i = 0; i < v.size(); ++i)
            v(i) = static_cast<double>(w.data()[first + removed[static_cast<std::size_t>(i)]]);
          exact = -inverse(Eigen::all, removed) * inverse(removed, removed).inverse() * v;
        }
        double cost[2] = {0.0, 0.0};
        Eigen::VectorXd change[2] = {Eigen::VectorXd(n), Eigen::VectorXd(n)};
        for (index_t j = 0; j < n; ++j) {
          float const before = w.data()[first + j];
          bool const stays = a.keep((first + j) / 10, (first + j) % 10);
          CHECK(static_cast<double>(a.weights.data()[first + j]) ==
                Approx(stays ? static_cast<double>(before) + sum(j) : 0.0).epsilon(1e-5).margin(1e-6));
          CHECK(static_cast<double>(b.weights.data()[first + j]) ==
                Approx(stays ? static_cast<double>(before) + exact(j) : 0.0).epsilon(1e-5).margin(1e-6));
          change[0](j) = static_cast<double>(a.weights.data()[first + j] - before);
          change[1](j) = static_cast<double>(b.weights.data()[first + j] - before);
        }
        for (int i = 0; i < 2; ++i) cost[i] = change[i].dot(fisher * change[i]);
        CHECK(cost[1] <= cost[0] * (1.0 + 1e-4) + 1e-9);
      }
    }
  }
}

TEST_CASE("wood_fisher: every pattern with its exact count") {
  pare::random_source random(9);
  extents const shape{8, 16};
  auto const w = random_matrix(random, shape);
  fisher_blocks const f = collect(gradients(random, shape, 10), shape, 16);
  for (any_pattern const pattern : {any_pattern(pare::unstructured{}), any_pattern(pare::n_of_m<2, 4>{}),
                                    any_pattern(pare::n_of_m<1, 4, 4>{}), any_pattern(pare::block<4, 2>{})})
    for (auto const how : {wood_fisher::update::summed, wood_fisher::update::joint}) {
      INFO(pare::to_string(pattern));
      auto const p = wood_fisher{.how = how}.prune(w.span(), f, pattern, sparsity(0.5)).value();
      CHECK(pare::admits(pattern, p.keep));
      CHECK(p.keep.count() == (pattern.of() > 0 ? shape.size() * pattern.keep() / pattern.of() : shape.size() / 2));
      for (index_t i = 0; i < shape.size(); ++i)
        if (!p.keep(i / 16, i % 16)) CHECK(p.weights.data()[i] == 0.0f);
    }
  auto const all = wood_fisher{}.prune(w.span(), f, pare::unstructured{}, sparsity(1.0)).value();
  CHECK(all.keep.count() == 0);
  auto const none = wood_fisher{}.prune(w.span(), f, pare::unstructured{}, sparsity(0.0)).value();
  CHECK(pare::test::same_bits(none.weights, w));
}

TEST_CASE("wood_fisher: without gradients it is magnitude, and says so") {
  auto const w = values({2, 3}, {3.0f, -1.0f, 0.0f, 1e-10f, -5.0f, 2.0f});
  fisher_blocks f({2, 3}, 3);
  f.add_sample(matrix<float>(2, 3).span());
  auto const p = wood_fisher{}.prune(w.span(), f, pare::unstructured{}, sparsity(0.5)).value();
  CHECK(pare::test::same_bits(p.weights, values({2, 3}, {3.0f, 0.0f, 0.0f, 0.0f, -5.0f, 2.0f})));
  CHECK(p.note.find("damping exceeds") != std::string::npos);
}

TEST_CASE("wood_fisher: no samples, NaN, a damping that is lost, and statistics of another layer") {
  extents const shape{2, 3};
  matrix<float> const w(shape);
  wood_fisher const method{};
  auto const prune = [&](wood_fisher const& m, fisher_blocks const& f) {
    return m.prune(w.span(), f, pare::unstructured{}, sparsity(0.5));
  };
  CHECK(prune(method, fisher_blocks(shape, 3)).error().code == errc::missing);
  auto bad = values(shape, {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f});
  auto const large = collect({bad}, shape, 3);
  CHECK(prune({.damping = 1e-20}, large).error().code == errc::out_of_range);
  bad(1, 1) = std::numeric_limits<float>::quiet_NaN();
  CHECK(prune(method, collect({bad}, shape, 3)).error().code == errc::not_finite);
  CHECK_THROWS_AS(prune(method, fisher_blocks({3, 2}, 3)), pare::contract_violation);
  CHECK_THROWS_AS(prune({.damping = 0.0}, large), pare::contract_violation);
  CHECK_THROWS_AS(method.prune(w.span(), large, pare::n_of_m<2, 4>{}, sparsity(0.5)), pare::contract_violation);
  CHECK(method.prune(matrix<float>(0, 3).span(), fisher_blocks({0, 3}, 2), pare::unstructured{}, sparsity(0.5))
            .error()
            .code == errc::missing);
}
