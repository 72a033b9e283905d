// SPDX-License-Identifier: Apache-2.0
// A solver of your own: it chooses what stays, and moves what stays to make up for what goes.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <pare/calibrate/gram.hpp>
#include <pare/nn/evaluate.hpp>
#include <pare/nn/feed.hpp>
#include <pare/prune/stages.hpp>
#include <pare/score/wanda.hpp>

#include "support/data_set.hpp"
#include "support/model.hpp"

/// Selects as Wanda does; then each weight that stays takes in turn the value that is best while all others stand
/// still: Gauss-Seidel on the error of the outputs, d G d^T for each row's change d. Every move makes it smaller.
struct refitted_wanda {
  using needs = pare::statistics<pare::input_norms, pare::gram>;  // calibration collects exactly these
  int sweeps = 3;

  [[nodiscard]] pare::result<pare::pruned_weights> prune(pare::matrix_span<float const> w, needs const& stats,
                                                         pare::any_pattern const& pattern,
                                                         pare::sparsity target) const {
    auto const scores = pare::score(w, pare::wanda{}, stats);
    pare::pruned_weights out{pare::matrix<float>(w), pattern.of() > 0
                                                         ? pare::select(scores, pattern)
                                                         : pare::select(scores, pattern, target, pare::scope::row)};
    pare::gram const& g = stats.get<pare::gram>();
    for (pare::index_t i = 0; i < w.rows; ++i) {
      std::vector<double> slope(static_cast<std::size_t>(w.cols), 0.0);  // d G
      auto const move = [&](pare::index_t j, double by) {
        for (pare::index_t k = 0; k < w.cols; ++k)
          slope[static_cast<std::size_t>(k)] += by * static_cast<double>(g(j, k));
      };
      for (pare::index_t j = 0; j < w.cols; ++j)
        if (!out.keep(i, j)) move(j, -static_cast<double>(std::exchange(out.weights(i, j), 0.0f)));
      for (int sweep = 0; sweep < sweeps; ++sweep)
        out.keep.for_each_in_row(i, [&](pare::index_t j) {
          if (!(g(j, j) > 0.0f)) return;  // an input that is always 0
          double const by = -slope[static_cast<std::size_t>(j)] / static_cast<double>(g(j, j));
          out.weights(i, j) += static_cast<float>(by);
          move(j, by);
        });
    }
    return out;
  }
};
static_assert(pare::layer_pruner<refitted_wanda>);

int main() {
  auto const model = pare::program::load_model(std::string(PARE_EXAMPLE_DATA_DIR) + "/glyphs");
  auto const train = pare::program::read_images("glyphs", pare::program::split::train, 2000);
  auto const test = pare::program::read_images("glyphs", pare::program::split::test, 2000);
  if (!model || !train || !test) return std::puts("cannot read the network or draw the images"), 1;
  auto const accuracy_by = [&](auto const& method) {
    auto net = std::get<pare::mlp>(model->network);
    auto const feed = [&](pare::mlp const& n, auto& tap) { return pare::feed(n, train->images.span(), tap); };
    auto const shares = pare::share_out(net, pare::unstructured{}, pare::sparsity(0.8), pare::uniform{}).value();
    (void)pare::prune_in_stages(net, method, pare::unstructured{}, shares, feed).value();
    return pare::accuracy(net, test->images.span(), test->labels, 100)->accuracy;
  };
  double const selected = accuracy_by(pare::select_by<pare::wanda>{});
  double const refitted = accuracy_by(refitted_wanda{});
  std::printf("accuracy at 80 %%: Wanda's choice %.3f, refitted %.3f\n", selected, refitted);
  return refitted > selected ? 0 : 1;
}
