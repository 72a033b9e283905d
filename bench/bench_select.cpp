// SPDX-License-Identifier: Apache-2.0
// From weights to a mask on one thread: score and select, against Eigen's scores and std::nth_element.
//   wanda/row        unstructured within each row, f32 and bf16
//   magnitude/matrix all elements of the layer in one pool
//   magnitude/2:4    two of each four inputs
//   magnitude/block4x4
//   magnitude/network  three layers in one pool, out of scores that are there; so `vs_stored` is 1
// `own` never holds all scores of a criterion that scores row by row; `vs_stored` is score() and then select().
// `vs_eigen` above 1: faster than the straightforward version. Masks are compared before anything is timed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include <pare/score/magnitude.hpp>
#include <pare/score/wanda.hpp>
#include <pare/select/select.hpp>

#include "support/contest.hpp"
#include "support/problem.hpp"
#include "support/program.hpp"

namespace {

using namespace pare;
using namespace pare::bench;

using scores = Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A feed-forward layer of Llama-7B, normal weights, and norms of its inputs.
struct layer {
  matrix<float> w;
  matrix<bf16> narrow;
  statistics<input_norms> stats;
  matrix<float> by_magnitude;

  explicit layer(extents shape) : w(shape), stats(shape.cols) {
    random_source random(1);
    for (index_t i = 0; i < w.size(); ++i) w.data()[i] = random.normal();
    matrix<float> x = random_matrix(shape.cols, 8, 2);
    for (index_t k = 0; k < shape.cols; ++k)  // inputs of real layers differ by orders of magnitude
      for (index_t n = 0; n < 8; ++n) x(k, n) *= static_cast<float>(1 + k % 7);
    stats.add(x.span());
    narrow = cast<bf16>(w);
    by_magnitude = score(w, magnitude{});
  }
};

Eigen::Map<scores const> mapped(matrix<float> const& w) { return {w.data(), w.rows(), w.cols()}; }

scores eigen_wanda(matrix<float> const& w, input_norms const& norms) {
  Eigen::ArrayXf norm(w.cols());
  for (index_t k = 0; k < w.cols(); ++k) norm[k] = static_cast<float>(norms.norm(k));
  return mapped(w).abs().rowwise() * norm.transpose();
}

/// The positions of the `removed` lowest of n scores, by std::nth_element, at the front.
std::vector<std::uint32_t> lowest(float const* x, index_t n, index_t removed) {
  std::vector<std::uint32_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0u);
  if (removed < n)
    std::nth_element(order.begin(), order.begin() + removed, order.end(),
                     [x](std::uint32_t a, std::uint32_t b) { return x[a] != x[b] ? x[a] < x[b] : a < b; });
  order.resize(static_cast<std::size_t>(removed));
  return order;
}

mask eigen_select(scores const& s, index_t pools) {
  mask keep({s.rows(), s.cols()}, true);
  index_t const n = s.size() / pools;
  for (index_t p = 0; p < pools; ++p)
    for (auto const at : lowest(s.data() + p * n, n, n / 2)) {
      index_t const position = p * n + static_cast<index_t>(at);
      keep.set(position / s.cols(), position % s.cols(), false);
    }
  return keep;
}

mask eigen_blocks(scores const& s) {
  scores sums(s.rows() / 4, s.cols() / 4);
  for (index_t r = 0; r < sums.rows(); ++r)
    for (index_t c = 0; c < sums.cols(); ++c) sums(r, c) = s.block<4, 4>(4 * r, 4 * c).sum();
  mask keep({s.rows(), s.cols()}, true);
  for (auto const at : lowest(sums.data(), sums.size(), sums.size() / 2))
    for (index_t i = 0; i < 16; ++i)
      keep.set(static_cast<index_t>(at) / sums.cols() * 4 + i / 4, static_cast<index_t>(at) % sums.cols() * 4 + i % 4,
               false);
  return keep;
}

/// A layer's rows as three layers.
std::vector<matrix_span<float const>> in_three(matrix<float> const& m) {
  index_t const third = m.rows() / 3;
  return {m.span().row_range(0, third), m.span().row_range(third, third),
          m.span().row_range(2 * third, m.rows() - 2 * third)};
}

std::vector<mask> eigen_network(layer const& l) {
  matrix<float> const& s = l.by_magnitude;
  std::vector<mask> masks;
  for (auto const& part : in_three(l.w)) masks.emplace_back(part.shape(), true);
  for (auto const at : lowest(s.data(), s.size(), s.size() / 2)) {
    auto const row = static_cast<index_t>(at) / s.cols();
    auto const part = std::min<index_t>(row / masks[0].rows(), 2);
    masks[static_cast<std::size_t>(part)].set(row - part * masks[0].rows(), static_cast<index_t>(at) % s.cols(), false);
  }
  return masks;
}

std::vector<mask> own_network(layer const& l) {
  return select_network(in_three(l.by_magnitude), unstructured{}, sparsity(0.5));
}

/// A row of the table. own, stored, eigen: functions of a layer that give the same mask.
template <class Own, class Stored, class Eigens>
void add_row(std::string const& name, extents shape, Own own_mask, Stored stored_mask, Eigens eigen_mask) {
  auto const body = [=](benchmark::State& state) {
    auto const problem = std::make_shared<layer>(shape);
    if (auto const keep = own_mask(*problem); keep != stored_mask(*problem) || keep != eigen_mask(*problem)) {
      state.SkipWithError("the masks differ");
      return;
    }
    contender own("own", [=] { benchmark::DoNotOptimize(own_mask(*problem)); });
    std::vector<contender> others;
    others.emplace_back("stored", [=] { benchmark::DoNotOptimize(stored_mask(*problem)); });
    others.emplace_back("eigen", [=] { benchmark::DoNotOptimize(eigen_mask(*problem)); });
    hold_contest(state, own, others);
    state.counters["elements"] = static_cast<double>(shape.size()) / own.median;
  };
  std::string const full = "select/" + name + "/" + std::to_string(shape.rows) + "x" + std::to_string(shape.cols);
  benchmark::RegisterBenchmark(full.c_str(), body)->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  settle_environment(argv);
  extents const shape{4096, 11008};
  constexpr sparsity half(0.5);
  add_row(
      "wanda/row/f32", shape, [=](layer const& l) { return select(l.w, wanda{}, l.stats, unstructured{}, half); },
      [=](layer const& l) { return select(score(l.w, wanda{}, l.stats), unstructured{}, half, scope::row); },
      [](layer const& l) { return eigen_select(eigen_wanda(l.w, l.stats.get<input_norms>()), l.w.rows()); });
  add_row(
      "wanda/row/bf16", shape, [=](layer const& l) { return select(l.narrow, wanda{}, l.stats, unstructured{}, half); },
      [=](layer const& l) { return select(score(l.narrow, wanda{}, l.stats), unstructured{}, half, scope::row); },
      [](layer const& l) {
        return eigen_select(eigen_wanda(cast<float>(l.narrow), l.stats.get<input_norms>()), l.w.rows());
      });
  add_row(
      "magnitude/matrix/f32", shape,
      [=](layer const& l) { return select(l.w, magnitude{}, statistics<>{}, unstructured{}, half); },
      [=](layer const& l) { return select(score(l.w, magnitude{}), unstructured{}, half); },
      [](layer const& l) { return eigen_select(mapped(l.w).abs(), 1); });
  add_row(
      "magnitude/2:4/f32", shape,
      [](layer const& l) { return select(l.w, magnitude{}, statistics<>{}, n_of_m<2, 4>{}); },
      [](layer const& l) { return select(score(l.w, magnitude{}), n_of_m<2, 4>{}); },
      [](layer const& l) { return eigen_select(mapped(l.w).abs(), l.w.size() / 4); });
  add_row(
      "magnitude/block4x4/f32", shape,
      [=](layer const& l) { return select(l.w, magnitude{}, statistics<>{}, block<4, 4>{}, half); },
      [=](layer const& l) { return select(score(l.w, magnitude{}), block<4, 4>{}, half); },
      [](layer const& l) { return eigen_blocks(mapped(l.w).abs()); });
  add_row("magnitude/network/f32", shape, own_network, own_network, eigen_network);
  return run(argc, argv);
}
