// SPDX-License-Identifier: Apache-2.0
// An allocator of your own: it sees every layer's name, shape and scores, and says how sparse each is to be.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include <pare/nn/evaluate.hpp>
#include <pare/pare.hpp>

#include "support/data_set.hpp"
#include "support/model.hpp"

/// Every layer keeps the same share of the sum of its squared scores: with magnitudes, of its squared norm.
struct equal_energy {
  static constexpr bool needs_scores = true;  // layer_info::scores is filled: one a weight, or one a block

  [[nodiscard]] std::vector<pare::sparsity> allocate(std::vector<pare::layer_info> const& layers,
                                                     pare::sparsity target) const {
    std::vector<std::vector<double>> energies;  // of each layer: of its n best units, n = 0, 1, ...
    pare::index_t units = 0;
    for (pare::layer_info const& l : layers) {
      std::vector<double>& e = energies.emplace_back(1, 0.0);
      for (pare::index_t r = 0; r < l.scores.rows; ++r)
        for (pare::index_t c = 0; c < l.scores.cols; ++c)
          e.push_back(static_cast<double>(l.scores(r, c)) * static_cast<double>(l.scores(r, c)));
      std::sort(e.begin() + 1, e.end(), std::greater<>());
      for (std::size_t n = 1; n < e.size(); ++n) e[n] += e[n - 1];
      units += l.units;
    }
    auto const kept = [&](std::size_t l, double share) {  // the fewest units that hold this share
      return std::lower_bound(energies[l].begin(), energies[l].end(), share * energies[l].back()) - energies[l].begin();
    };
    double low = 0.0, high = 1.0;  // the share that meets the target is between them
    for (int step = 0; step < 50; ++step) {
      double const share = 0.5 * (low + high);
      pare::index_t all = 0;
      for (std::size_t l = 0; l < layers.size(); ++l) all += kept(l, share);
      (all < units - target.removed_of(units) ? low : high) = share;
    }
    std::vector<pare::sparsity> out;
    for (std::size_t l = 0; l < layers.size(); ++l)
      out.push_back(pare::exactly(layers[l].units - kept(l, high), layers[l].units));
    return out;
  }
};
static_assert(pare::budget_allocator<equal_energy>);

int main() {
  auto const model = pare::program::load_model(std::string(PARE_EXAMPLE_DATA_DIR) + "/glyphs");
  auto const test = pare::program::read_images("glyphs", pare::program::split::test, 2000);
  if (!model || !test) return std::puts("cannot read the network or draw the images"), 1;
  auto const pruned = [&](auto const& allocator) {  // the accuracy, and each layer's sparsity
    auto net = std::get<pare::mlp>(model->network);
    pare::calibration<pare::magnitude::needs> const stats(net);
    auto const done = pare::prune(net, pare::magnitude{}, pare::unstructured{}, pare::sparsity(0.9), stats, allocator,
                                  {.all_layers = true});
    double const accuracy = pare::accuracy(net, test->images.span(), test->labels, 100)->accuracy;
    std::printf("  %.3f, the layers at", accuracy);
    for (auto const& l : done.value())
      std::printf(" %.1f %%", 100.0 - 100.0 * static_cast<double>(l.kept) / static_cast<double>(l.shape.size()));
    std::puts("");
    return accuracy;
  };
  std::puts("accuracy at 90 % by magnitude, with the same sparsity in every layer and with the same energy:");
  double const uniform = pruned(pare::uniform{});
  return pruned(equal_energy{}) > uniform ? 0 : 1;
}
