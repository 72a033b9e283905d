// SPDX-License-Identifier: Apache-2.0
// Trains a multilayer perceptron: AdamW with a short warm-up and a cosine decay of the learning rate.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "train/mlp.hpp"
#include "train/optimiser.hpp"

namespace pare::demo {

struct training_options {
  index_t epochs = 20;
  index_t batch = 128;
  double learning_rate = 1.5e-3;  // at its peak
  double weight_decay = 0.3;      // decoupled, relative to the learning rate; biases do not decay
  double dropout = 0;             // share of the hidden activations that is zeroed while training, in [0, 1)
  std::uint64_t seed = 1;
};

/// What one pass over the training data gave: means over its samples, measured while the weights moved.
struct epoch_summary {
  double loss = 0;
  double accuracy = 0;
};

/// Owns the network while it is trained. Call `epoch` options.epochs times; each call may bring new data.
class mlp_trainer {
 public:
  mlp_trainer(std::span<index_t const> layer_sizes, training_options options)
      : options_(options), random_(options.seed), net_(draw_mlp(layer_sizes, random_)), gradients_(net_) {
    for (std::size_t l = 0; l < net_.weights.size(); ++l) {
      weights_.emplace_back(net_.weights[l].size());
      biases_.emplace_back(net_.weights[l].rows());
    }
  }

  [[nodiscard]] mlp_weights const& network() const noexcept { return net_; }

  /// One pass over `inputs` (N, K) in random order. Labels are in [0, classes). A last, incomplete batch is left out.
  epoch_summary epoch(matrix<float> const& inputs, std::span<int const> labels) {
    PARE_EXPECTS(inputs.cols() == net_.weights.front().cols(), "mlp_trainer: inputs must have K columns");
    PARE_EXPECTS(inputs.rows() == static_cast<index_t>(labels.size()), "mlp_trainer: needs one label for each input");
    index_t const batch = std::min(options_.batch, inputs.rows());
    index_t const batches = batch > 0 ? inputs.rows() / batch : 0;
    if (batches == 0) return {};
    std::vector<index_t> const order = shuffled(inputs.rows(), random_);
    training_sums sums;
    for (index_t b = 0; b < batches; ++b) {
      gradients_.load(inputs, labels,
                      std::span(order).subspan(static_cast<std::size_t>(b * batch), static_cast<std::size_t>(batch)));
      gradients_.run(net_, options_.dropout, random_, sums);
      update(learning_rate(static_cast<double>(b) / static_cast<double>(batches)));
    }
    ++epochs_done_;
    double const samples = static_cast<double>(batches * batch);
    return {sums.loss / samples, sums.hits / samples};
  }

 private:
  /// Warm-up over the first half epoch, then half a cosine down to zero. `part`: how much of this epoch is done.
  [[nodiscard]] float learning_rate(double part) const {
    double const at = static_cast<double>(epochs_done_) + part;
    double const warm = std::min(1.0, at * 2 + 0.01);
    return static_cast<float>(options_.learning_rate * warm *
                              cosine_decay(at / static_cast<double>(std::max<index_t>(1, options_.epochs))));
  }

  void update(float rate) {
    ++steps_;
    for (std::size_t l = 0; l < weights_.size(); ++l) {
      auto& w = net_.weights[l];
      weights_[l].update({w.data(), static_cast<std::size_t>(w.size())}, gradients_.weight_gradient(l).data, steps_,
                         rate, static_cast<float>(options_.weight_decay));
      biases_[l].update(net_.biases[l], gradients_.bias_gradient(l), steps_, rate, 0.0f);
    }
  }

  training_options options_;
  random_source random_;
  mlp_weights net_;
  backpropagation gradients_;
  std::vector<optimiser> weights_, biases_;
  index_t epochs_done_ = 0;
  index_t steps_ = 0;
};

}  // namespace pare::demo
