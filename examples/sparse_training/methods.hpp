// SPDX-License-Identifier: Apache-2.0
// Ways to a sparse network, each a loop of training with a schedule and a selection from the library.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include <pare/allocate/erk.hpp>
#include <pare/prune/schedule.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/select/grow_drop.hpp>
#include <pare/select/random_mask.hpp>
#include <pare/select/select.hpp>

#include "sparse_training/sparse_trainer.hpp"

namespace pare::demo {

/// What every method is given: data, the network to begin with, how long to train, how often masks may change.
struct experiment {
  task const* data = nullptr;
  mlp_weights start;
  sparse_training_options training;
  index_t every = 100;      // steps between two updates of a mask
  index_t rewind_step = 0;  // what lottery tickets go back to
};

/// What a method comes to. FLOPs are of the whole training, relative to training the dense network once.
struct outcome {
  double accuracy = 0;
  double density = 1;
  double flops = 1;
  mlp_weights network;
  std::vector<mask> masks;
};

namespace detail {

inline index_t size_of(mlp_weights const& net) {
  index_t n = 0;
  for (auto const& w : net.weights) n += w.size();
  return n;
}

inline outcome finish(experiment const& e, sparse_trainer const& t) {
  index_t kept = 0;
  for (mask const& m : t.masks()) kept += m.count();
  double const size = static_cast<double>(size_of(t.network()));
  return {accuracy(t.network(), e.data->test.images, e.data->test.labels), static_cast<double>(kept) / size,
          t.flops() / (6.0 * size * static_cast<double>(e.training.steps)), t.network(), t.masks()};
}

/// Magnitudes as scores; what a mask removed already goes first.
inline std::vector<matrix<float>> magnitudes(mlp_weights const& net, std::vector<mask> const& keep) {
  std::vector<matrix<float>> scores;
  for (std::size_t l = 0; l < keep.size(); ++l) {
    auto& s = scores.emplace_back(score(net.weights[l], magnitude{}));
    for (index_t r = 0; r < s.rows(); ++r)
      for (index_t c = 0; c < s.cols(); ++c)
        if (!keep[l](r, c)) s(r, c) = -1.0f;
  }
  return scores;
}

/// The smallest magnitudes of the whole network removed, up to sparsity s.
inline std::vector<mask> prune_globally(mlp_weights const& net, std::vector<mask> const& keep, sparsity s) {
  auto const scores = magnitudes(net, keep);
  std::vector<matrix_span<float const>> views;
  for (auto const& layer : scores) views.push_back(layer.span());
  return select_network(std::span<matrix_span<float const> const>(views), unstructured{}, s);
}

/// Random masks with the layers' sparsities from an allocator.
template <budget_allocator Allocator>
std::vector<mask> random_masks(mlp_weights const& net, Allocator const& share, sparsity s, std::uint64_t seed) {
  std::vector<layer_info> layers;
  for (auto const& w : net.weights) layers.push_back({"", {w.rows(), w.cols()}, w.size(), {}});
  auto const each = share.allocate(layers, s);
  std::vector<mask> masks;
  for (std::size_t l = 0; l < each.size(); ++l) masks.push_back(random_mask(net.weights[l].shape(), each[l], seed + l));
  return masks;
}

}  // namespace detail

/// The yardstick: nothing is pruned.
inline outcome train_dense(experiment const& e) {
  sparse_trainer t(e.data->train, e.start, e.training);
  t.train(0, e.training.steps);
  return detail::finish(e, t);
}

/// Masks that are given, from the first step to the last (of an isolated ticket, a random mask, ...).
inline outcome train_masked(experiment const& e, std::vector<mask> masks) {
  sparse_trainer t(e.data->train, e.start, e.training);
  t.keep_only(std::move(masks));
  t.train(0, e.training.steps);
  return detail::finish(e, t);
}

/// A trained network, pruned by magnitude at once, and trained again from its weights, with the order of the data that
/// e's seed gives.
inline outcome train_again(experiment e, outcome const& dense, sparsity s) {
  e.start = dense.network;
  return train_masked(e, detail::prune_globally(dense.network, dense.masks, s));
}

/// Random pruning before training (Liu et al. 2022), the masks never change. Layers' shares: erk{} or uniform{}.
template <budget_allocator Allocator>
outcome train_static(experiment const& e, Allocator const& share, sparsity s) {
  return train_masked(e, detail::random_masks(e.start, share, s, e.training.seed));
}

/// GMP: gradual magnitude pruning (Zhu and Gupta 2017), the same cubic schedule in every layer, from the first tenth
/// of the training to three quarters of it.
inline outcome train_gmp(experiment const& e, sparsity s) {
  sparse_trainer t(e.data->train, e.start, e.training);
  gradual const schedule = cubic_window(e.training.steps, 0.1, 0.25, s, e.every);
  t.train(0, e.training.steps, [&](index_t step) {
    if (!schedule.due(step)) return false;
    auto const scores = detail::magnitudes(t.network(), t.masks());
    std::vector<mask> masks;
    for (auto const& layer : scores) masks.push_back(select(layer, unstructured{}, schedule(step)));
    t.keep_only(std::move(masks));
    return false;
  });
  return detail::finish(e, t);
}

/// SET (Mocanu et al. 2018): a random mask by Erdos-Renyi; every so often a share of the weights closest to zero is
/// exchanged for random ones. As in the comparison of RigL's paper these begin at 0, and the share goes down by a
/// cosine.
inline outcome train_set(experiment const& e, sparsity s) {
  sparse_trainer t(e.data->train, e.start, e.training);
  t.keep_only(detail::random_masks(e.start, erk{}, s, e.training.seed));
  drop_rate const zeta{.begin = e.every, .end = e.training.steps * 3 / 4, .from = 0.3, .every = e.every};
  t.train(0, e.training.steps, [&](index_t step) {
    if (!zeta.due(step)) return false;
    std::vector<mask> masks;
    for (std::size_t l = 0; l < t.masks().size(); ++l)
      masks.push_back(set_update(t.network().weights[l], t.masks()[l], zeta(step),
                                 e.training.seed + static_cast<std::uint64_t>(step) * 97 + l));
    t.keep_only(std::move(masks));
    return true;
  });
  return detail::finish(e, t);
}

/// RigL (Evci et al. 2020): the same, with the smallest magnitudes dropped and the largest gradients grown.
inline outcome train_rigl(experiment const& e, sparsity s) {
  sparse_trainer t(e.data->train, e.start, e.training);
  t.keep_only(detail::random_masks(e.start, erk{}, s, e.training.seed));
  drop_rate const rate{.begin = e.every, .end = e.training.steps * 3 / 4, .from = 0.3, .every = e.every};
  t.train(0, e.training.steps, [&](index_t step) {
    if (!rate.due(step)) return false;
    std::vector<mask> masks;
    for (std::size_t l = 0; l < t.masks().size(); ++l)
      masks.push_back(rigl_update(t.network().weights[l], t.masks()[l], t.dense_gradient(l), rate(step)));
    t.keep_only(std::move(masks));
    return true;
  });
  return detail::finish(e, t);
}

/// GraNet (Liu et al. 2021): from half of the weights by ERK down along a cubic, the smallest magnitudes of the network
/// going first, with an exchange by the gradient in each layer after each cut.
inline outcome train_granet(experiment const& e, sparsity s) {
  sparse_trainer t(e.data->train, e.start, e.training);
  sparsity const initial{std::min(0.5, s.value)};
  t.keep_only(detail::random_masks(e.start, erk{}, initial, e.training.seed));
  index_t const end = e.training.steps * 3 / 4;
  gradual const schedule{.begin = e.every, .end = end, .from = initial, .to = s, .every = e.every};
  drop_rate const rate{.begin = e.every, .end = end, .from = 0.5, .to = 0.005, .every = e.every};
  t.train(0, e.training.steps, [&](index_t step) {
    if (!schedule.due(step)) return false;
    t.keep_only(detail::prune_globally(t.network(), t.masks(), schedule(step)));
    if (!rate.due(step)) return false;
    std::vector<mask> masks;
    for (std::size_t l = 0; l < t.masks().size(); ++l)
      masks.push_back(granet_update(t.network().weights[l], t.masks()[l], t.dense_gradient(l), rate(step)));
    t.keep_only(std::move(masks));
    return true;
  });
  return detail::finish(e, t);
}

/// SPDF (Thangarasa et al. 2023): sparse for three quarters of the training by a random mask, dense in the last.
inline outcome train_spdf(experiment const& e, sparsity s) {
  sparse_trainer t(e.data->train, e.start, e.training);
  gradual const schedule = densify(e.training.steps * 3 / 4, s);
  t.keep_only(detail::random_masks(e.start, uniform{}, schedule(0), e.training.seed));
  t.train(0, e.training.steps, [&](index_t step) {
    if (schedule.due(step)) t.keep_only(detail::random_masks(e.start, uniform{}, schedule(step), e.training.seed));
    return false;
  });
  return detail::finish(e, t);
}

/// Lottery tickets by iterative magnitude pruning with rewinding (Frankle and Carbin 2019, Frankle et al. 2020): the
/// outcome of each level, 0 the dense network. FLOPs are of all levels up to it.
inline std::vector<outcome> train_tickets(experiment const& e, index_t levels) {
  iterative_pruning const schedule{.train_steps = e.training.steps, .rewind_step = e.rewind_step};
  std::vector<outcome> out;
  mlp_weights rewound = e.start;
  std::vector<mask> masks;
  double flops = 0;
  for (index_t level = 0; level <= levels; ++level) {
    sparse_trainer t(e.data->train, rewound, e.training);
    if (level > 0) t.keep_only(masks);
    index_t const first = level > 0 ? e.rewind_step : 0;
    t.train(first, e.training.steps, [&](index_t step) {
      if (level == 0 && step == e.rewind_step) rewound = t.network();
      return false;
    });
    out.push_back(detail::finish(e, t));
    out.back().flops = flops += out.back().flops;
    masks = detail::prune_globally(t.network(), t.masks(), schedule.at_level(level + 1));
  }
  return out;
}

/// The controls of a ticket: its masks with other initial weights, ...
inline outcome train_reinitialised(experiment e, std::vector<mask> const& ticket, std::uint64_t seed) {
  random_source random(seed);
  std::vector<index_t> sizes{e.start.weights[0].cols()};
  for (auto const& w : e.start.weights) sizes.push_back(w.rows());
  e.start = draw_mlp(sizes, random);
  return train_masked(e, ticket);
}

/// ... and as many weights in each layer at random places, with the initial weights that they had.
inline outcome train_reshuffled(experiment const& e, std::vector<mask> const& ticket, std::uint64_t seed) {
  std::vector<mask> masks;
  for (std::size_t l = 0; l < ticket.size(); ++l)
    masks.push_back(random_mask(
        ticket[l].shape(), exactly(ticket[l].shape().size() - ticket[l].count(), ticket[l].shape().size()), seed + l));
  return train_masked(e, masks);
}

}  // namespace pare::demo
