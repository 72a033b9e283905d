// SPDX-License-Identifier: Apache-2.0
// Whole attention heads and feed-forward channels of a Llama: which belong together, their removal, and FLAP's choice
// of them (An et al. 2024, AAAI, arXiv 2312.11983).
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include <pare/calibrate/input_moments.hpp>
#include <pare/nn/llama.hpp>
#include <pare/prune/bias_compensation.hpp>
#include <pare/prune/calibration.hpp>
#include <pare/prune/prune.hpp>
#include <pare/score/fluctuation.hpp>
#include <pare/score/normalise.hpp>
#include <pare/select/groups.hpp>

namespace pare::inline PARE_ABI {

/// The units of a network that can be removed whole, two groups a block: its key-value heads, each with the query heads
/// that share it, and its feed-forward channels. Tensors are positions in layers(). The last member of a unit is the
/// columns by which the rest of the network reads it, in o or down. O(heads + channels).
[[nodiscard]] inline std::vector<coupled_units> structured_units(llama const& net) {
  head_layout const heads = net.config().heads;
  std::vector<coupled_units> groups;
  for (std::size_t q = 0; q + 1 < net.layers().size(); q += llama::layers_per_block) {
    groups.push_back(head_groups({q, q + 1, q + 2, q + 3}, heads.query_heads, heads.key_heads, heads.size));
    groups.push_back(
        couple(net.config().intermediate_size, {{q + 4, axis::row}, {q + 5, axis::row}, {q + 6, axis::column}}));
  }
  return groups;
}

/// Removes the units of structured_units(net) with the lowest scores, of all groups in one pool, until their weights
/// are nearest to the fraction `target` of all weights of the blocks. scores: one vector a group.
///
/// The network keeps its shapes: what is removed is masked, and computes what smaller matrices would. means: the inputs
/// of o and down; where given, their biases make up for what they lose (compensate_bias), which gives biases to layers
/// that had none; tensors_to_save writes them.
/// Errors: a layer that is to make up for something and saw no inputs; NaN or infinite weights, statistics or scores.
/// On error the network is as it was. O(weights).
[[nodiscard]] inline result<std::vector<pruned_layer>> prune_units(
    llama& net, std::vector<std::vector<double>> const& scores, sparsity target,
    calibration<statistics<input_moments>> const* means = nullptr) {
  auto const groups = structured_units(net);
  auto const layers = net.layers();
  PARE_EXPECTS(scores.size() == groups.size(), "prune_units: there must be the scores of every group");
  PARE_EXPECTS(means == nullptr || means->size() == layers.size(), "prune_units: the means are of another network");
  std::vector<extents> shapes;
  std::vector<mask> masks;
  for (linear const* l : layers) {
    PARE_TRY_VOID(detail::require_finite(l->weight(), l->name(), "the weight"));
    shapes.push_back(l->shape());
    masks.push_back(kept(l->weights()));
  }
  std::vector<double> pool;
  std::vector<double> costs;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    PARE_EXPECTS(scores[g].size() == groups[g].units.size(), "prune_units: every unit needs a score");
    for (double const s : scores[g])
      if (!(s - s == 0.0)) return error{errc::not_finite, "scores of units", "a score is NaN or infinite"};
    pool.insert(pool.end(), scores[g].begin(), scores[g].end());
    auto const of_group = unit_costs(groups[g], shapes);
    costs.insert(costs.end(), of_group.begin(), of_group.end());
  }
  auto const keep = keep_by_cost(pool, costs, target, budget_end::nearest);
  auto first = keep.begin();
  for (coupled_units const& group : groups) {
    auto const last = first + std::ssize(group.units);
    drop_units(group, {first, last}, masks);
    first = last;
  }

  std::vector<std::vector<float>> biases(layers.size());
  for (std::size_t g = 0; means != nullptr && g < groups.size(); ++g) {
    std::size_t const l = groups[g].units.front().back().tensor;
    linear const& reads = *layers[l];
    input_moments const& seen = (*means)[l].get<input_moments>();
    if (seen.samples() == 0) return error{errc::missing, reads.name(), "no calibration sample was seen"};
    std::vector<double> mean(static_cast<std::size_t>(seen.features()));
    for (index_t j = 0; j < seen.features(); ++j) mean[static_cast<std::size_t>(j)] = seen.mean(j);
    biases[l] = reads.bias();
    biases[l].resize(static_cast<std::size_t>(reads.shape().rows), 0.0f);
    compensate_bias(reads.weight(), masks[l], mean, biases[l]);
    for (float const b : biases[l])
      if (!math::is_finite(b)) return error{errc::not_finite, reads.name(), "the new bias is NaN or infinite"};
  }
  std::vector<pruned_layer> done;
  for (std::size_t l = 0; l + 1 < layers.size(); ++l) {
    layers[l]->keep(masks[l]);
    if (!biases[l].empty()) layers[l]->assign_bias(std::move(biases[l]));
    done.push_back({layers[l]->name(), layers[l]->shape(), masks[l].count(), {}});
  }
  return done;
}

/// FLAP as published (its default AL-AM): every input channel of o and down scores by how much it fluctuates, in o
/// squared; the scores of a layer become z-scores; a head's is the mean of its channels'; heads and channels of all
/// blocks compete, at the cost of their weights; the bias makes up for the means of what is removed.
///
/// Unlike the published code: costs are the network's own (the code has 512/3 channels a head, which is wrong for
/// grouped queries), heads go with the queries that share them, variances do not depend on the order of sequences, and
/// what is lost is added to a bias that is there already.
struct flap_pruner {
  using needs = statistics<input_moments>;

  fluctuation::metric by = fluctuation::metric::wifv;
  bool compensate = true;

  /// stats: of the dense network, of o and down at least. Errors as for prune_units. O(weights).
  [[nodiscard]] result<std::vector<pruned_layer>> prune(llama& net, sparsity target,
                                                        calibration<needs> const& stats) const {
    PARE_EXPECTS(stats.size() == net.layers().size(), "flap_pruner: the statistics are of another network");
    for (coupled_units const& group : structured_units(net)) {
      std::size_t const l = group.units.front().back().tensor;
      if (stats[l].get<input_moments>().samples() == 0)
        return error{errc::missing, net.layers()[l]->name(), "no calibration sample was seen"};
    }
    return prune_units(net, scores(net, stats), target, compensate ? &stats : nullptr);
  }

  /// One vector for each group of structured_units(net).
  [[nodiscard]] std::vector<std::vector<double>> scores(llama const& net, calibration<needs> const& stats) const {
    auto const layers = net.layers();
    std::vector<std::vector<double>> out;
    for (coupled_units const& group : structured_units(net)) {
      std::size_t const l = group.units.front().back().tensor;
      bool const heads = out.size() % 2 == 0;
      matrix<float> const shares = score(layers[l]->weight(), fluctuation{.by = by, .squared = heads}, stats[l]);
      matrix<float> z(shares.span().row_range(0, 1));  // all rows are alike
      zscore{}.apply(z.span());
      std::vector<double>& of_group = out.emplace_back();
      for (auto const& unit : group.units) {
        unit_slice const& columns = unit.back();
        double sum = 0.0;
        for (index_t j = 0; j < columns.count; ++j) sum += static_cast<double>(z(0, columns.first + j));
        of_group.push_back(sum / static_cast<double>(columns.count));
      }
    }
    return out;
  }
};

}  // namespace pare::inline PARE_ABI
