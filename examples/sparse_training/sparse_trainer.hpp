// SPDX-License-Identifier: Apache-2.0
// Trains a perceptron of which some weights are held at zero. Which ones, a callback may change at every step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <pare/mask/mask.hpp>

#include "train/mlp.hpp"
#include "train/optimiser.hpp"
#include "train/task.hpp"

namespace pare::demo {

struct sparse_training_options {
  index_t steps = 2000;
  index_t batch = 100;
  double learning_rate = 1.2e-3;  // at its peak
  update_rule rule = update_rule::adamw;
  std::uint64_t seed = 1;  // of the order of the data
};

/// The network, its masks and its optimiser. Weights that a mask removes are zero, and so are their moments: a weight
/// that comes back begins at zero. Biases are never pruned.
class sparse_trainer {
 public:
  /// `data` must outlive it.
  sparse_trainer(samples const& data, mlp_weights start, sparse_training_options options)
      : data_(&data), options_(options), net_(std::move(start)), gradients_(net_) {
    PARE_EXPECTS(data.images.rows() >= options.batch && options.batch > 0, "sparse_trainer: less data than one batch");
    for (std::size_t l = 0; l < net_.weights.size(); ++l) {
      masks_.emplace_back(net_.weights[l].shape(), true);
      weights_.emplace_back(net_.weights[l].size(), options.rule);
      biases_.emplace_back(net_.weights[l].rows(), options.rule);
    }
  }

  [[nodiscard]] mlp_weights const& network() const noexcept { return net_; }
  [[nodiscard]] std::vector<mask> const& masks() const noexcept { return masks_; }
  [[nodiscard]] sparse_training_options const& options() const noexcept { return options_; }

  /// Removes what the masks remove; what they bring back begins at zero.
  void keep_only(std::vector<mask> keep) {
    for (std::size_t l = 0; l < masks_.size(); ++l) {
      apply(keep[l], net_.weights[l]);
      mask const changed = keep[l] ^ masks_[l];
      for (index_t r = 0; r < changed.rows(); ++r)
        changed.for_each_in_row(r, [&](index_t c) { weights_[l].forget(r * changed.cols() + c); });
    }
    masks_ = std::move(keep);
  }

  /// The gradient by all weights of layer l, (M, K), those that are removed included, of the step's batch.
  [[nodiscard]] matrix_span<float const> dense_gradient(std::size_t l) {
    flops_ += 2.0 * static_cast<double>(masks_[l].shape().size() - masks_[l].count());
    return gradients_.weight_gradient(l);
  }

  /// Steps [first, last) of the training. exchange(step), called when the step's gradients are there, may change the
  /// masks; where it returns true that was the step, and the weights do not move (as in RigL).
  template <class Exchange>
  void train(index_t first, index_t last, Exchange exchange) {
    for (index_t step = first; step < last; ++step) {
      gradients_.load(data_->images, data_->labels, batch_at(step));
      gradients_.run(net_, 0.0, unused_, sums_);
      for (mask const& keep : masks_) flops_ += 6.0 * static_cast<double>(keep.count());
      if (!exchange(step)) update(step);
    }
  }
  void train(index_t first, index_t last) {
    train(first, last, [](index_t) { return false; });
  }

  /// FLOPs of all steps so far for one image: of a step 2 for each kept weight and pass (forward, by inputs, by
  /// weights), 2 more for each removed weight whose gradient was asked for.
  [[nodiscard]] double flops() const noexcept { return flops_; }

 private:
  /// The batch of a step depends on the seed and the step alone, so that a run from a later step sees the same data.
  std::span<index_t const> batch_at(index_t step) {
    index_t const batches = data_->images.rows() / options_.batch;
    if (index_t const epoch = step / batches; epoch != epoch_) {
      random_source random(random_source(options_.seed + static_cast<std::uint64_t>(epoch) * 1000003).bits());
      order_ = shuffled(data_->images.rows(), random);
      epoch_ = epoch;
    }
    return std::span(order_).subspan(static_cast<std::size_t>(step % batches * options_.batch),
                                     static_cast<std::size_t>(options_.batch));
  }

  void update(index_t step) {
    ++updates_;
    double const done = static_cast<double>(step) / static_cast<double>(options_.steps);
    double const warm = std::min(1.0, 0.01 + 20.0 * done);  // over the first twentieth
    auto const rate = static_cast<float>(options_.learning_rate * warm * cosine_decay(done));
    for (std::size_t l = 0; l < weights_.size(); ++l) {
      auto& w = net_.weights[l];
      auto const gradient = gradients_.weight_gradient(l);
      if (!masks_[l].keeps_all()) apply(masks_[l], gradient);
      weights_[l].update({w.data(), static_cast<std::size_t>(w.size())}, gradient.data, updates_, rate, 0.0f);
      biases_[l].update(net_.biases[l], gradients_.bias_gradient(l), updates_, rate, 0.0f);
    }
  }

  samples const* data_;
  sparse_training_options options_;
  mlp_weights net_;
  backpropagation gradients_;
  std::vector<mask> masks_;
  std::vector<optimiser> weights_, biases_;
  std::vector<index_t> order_;  // of the epoch
  index_t epoch_ = -1;
  index_t updates_ = 0;
  double flops_ = 0;
  random_source unused_;  // there is no dropout
  training_sums sums_;
};

}  // namespace pare::demo
