// SPDX-License-Identifier: Apache-2.0
// Trains a multilayer perceptron: linear layers with ReLU between them, softmax cross-entropy at the end.
//
// AdamW (Loshchilov, Hutter 2019) with a short warm-up and a cosine decay of the learning rate. Eigen does the matrix
// products on one thread, so a seed gives the same network each time on the same machine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include <pare/core/matrix.hpp>
#include <pare/core/random.hpp>

namespace pare::demo {

/// A trained perceptron: layer i maps activations (N, K_i) to (N, M_i) = x * weights[i]^T + biases[i].
struct mlp_weights {
  std::vector<matrix<float>> weights;      // (M, K) each
  std::vector<std::vector<float>> biases;  // (M) each
};

struct training_options {
  index_t epochs = 20;
  index_t batch = 128;
  double learning_rate = 1.5e-3;  // at its peak
  double weight_decay = 0.3;      // decoupled, relative to the learning rate; biases do not decay
  double dropout = 0;             // share of the hidden activations that is zeroed while training, in [0, 1)
  std::uint64_t seed = 1;
};

namespace detail {
using eigen_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

inline Eigen::Map<eigen_matrix const> map(matrix_span<float const> m) { return {m.data, m.rows, m.cols}; }
}  // namespace detail

/// The network's outputs before the softmax, (N, classes), for inputs (N, K).
inline matrix<float> logits(mlp_weights const& net, matrix<float> const& inputs) {
  detail::eigen_matrix x = detail::map(inputs.span());
  for (std::size_t i = 0; i < net.weights.size(); ++i) {
    Eigen::Map<Eigen::RowVectorXf const> const bias(net.biases[i].data(), net.weights[i].rows());
    x = ((x * detail::map(net.weights[i].span()).transpose()).rowwise() + bias).eval();
    if (i + 1 < net.weights.size()) x = x.cwiseMax(0.0f);
  }
  return matrix<float>(matrix_span<float const>(x.data(), x.rows(), x.cols()));
}

/// The share of inputs whose largest output is at their label; 0 for an empty set.
inline double accuracy(mlp_weights const& net, matrix<float> const& inputs, std::span<int const> labels) {
  matrix<float> const out = logits(net, inputs);
  index_t right = 0;
  for (index_t i = 0; i < out.rows(); ++i) {
    float const* row = out.row(i);
    right += std::max_element(row, row + out.cols()) - row == labels[static_cast<std::size_t>(i)];
  }
  return out.rows() == 0 ? 0.0 : static_cast<double>(right) / static_cast<double>(out.rows());
}

/// What one pass over the training data gave: means over its samples, measured while the weights moved.
struct epoch_summary {
  double loss = 0;
  double accuracy = 0;
};

/// Owns the network while it is trained. Call `epoch` options.epochs times; each call may bring new data.
class mlp_trainer {
 public:
  /// `layer_sizes`: inputs, hidden widths, classes. Weights start normal with variance 2 / K (He et al. 2015).
  mlp_trainer(std::span<index_t const> layer_sizes, training_options options)
      : options_(options), random_(options.seed) {
    PARE_EXPECTS(layer_sizes.size() >= 2, "mlp_trainer: needs at least the number of inputs and of classes");
    for (std::size_t i = 0; i + 1 < layer_sizes.size(); ++i) {
      auto& w = net_.weights.emplace_back(layer_sizes[i + 1], layer_sizes[i]);
      net_.biases.emplace_back(static_cast<std::size_t>(w.rows()), 0.0f);
      float const deviation = std::sqrt(2.0f / static_cast<float>(w.cols()));
      for (index_t k = 0; k < w.size(); ++k) w.data()[k] = deviation * random_.normal();
      layers_.push_back({.weight = moments(w.size()), .bias = moments(w.rows()), .input = {}, .gradient = {}});
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
    std::vector<index_t> order(labels.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<index_t>(i);
    for (std::size_t i = order.size() - 1; i > 0; --i)
      std::swap(order[i], order[static_cast<std::size_t>(random_.below(static_cast<index_t>(i) + 1))]);

    epoch_summary sum;
    std::vector<int> expected(static_cast<std::size_t>(batch));
    for (index_t b = 0; b < batches; ++b) {
      auto& first = layers_.front().input;
      first.resize(batch, inputs.cols());
      for (index_t i = 0; i < batch; ++i) {
        index_t const sample = order[static_cast<std::size_t>(b * batch + i)];
        std::copy_n(inputs.row(sample), inputs.cols(), first.data() + i * inputs.cols());
        expected[static_cast<std::size_t>(i)] = labels[static_cast<std::size_t>(sample)];
      }
      step(expected, learning_rate(static_cast<double>(b) / static_cast<double>(batches)), sum);
    }
    ++epochs_done_;
    double const samples = static_cast<double>(batches * batch);
    return {sum.loss / samples, sum.accuracy / samples};
  }

 private:
  struct moments {
    explicit moments(index_t n) : mean(Eigen::ArrayXf::Zero(n)), square(Eigen::ArrayXf::Zero(n)) {}
    Eigen::ArrayXf mean, square;
  };
  struct layer_state {
    moments weight, bias;
    detail::eigen_matrix input;     // (batch, K): what entered the layer
    detail::eigen_matrix gradient;  // (batch, M): of the loss by what left it
  };

  /// Warm-up over the first half epoch, then half a cosine down to zero. `part`: how much of this epoch is done.
  [[nodiscard]] float learning_rate(double part) const {
    double const at = static_cast<double>(epochs_done_) + part;
    double const warm = std::min(1.0, at * 2 + 0.01);
    double const left = std::min(1.0, at / static_cast<double>(std::max<index_t>(1, options_.epochs)));
    return static_cast<float>(options_.learning_rate * warm * 0.5 * (1 + std::cos(3.14159265358979 * left)));
  }

  void step(std::span<int const> labels, float rate, epoch_summary& sum) {
    std::size_t const depth = layers_.size();
    for (std::size_t l = 0; l < depth; ++l) {
      auto const w = detail::map(net_.weights[l].span());
      Eigen::Map<Eigen::RowVectorXf const> const bias(net_.biases[l].data(), w.rows());
      auto& out = l + 1 < depth ? layers_[l + 1].input : layers_[l].gradient;
      out.noalias() = layers_[l].input * w.transpose();
      out.rowwise() += bias;
      if (l + 1 < depth) out = out.cwiseMax(0.0f);
      if (l + 1 < depth && options_.dropout > 0) drop(out);
    }
    softmax_gradient(labels, layers_.back().gradient, sum);

    ++steps_;
    for (std::size_t l = depth; l-- > 0;) {
      auto& state = layers_[l];
      auto const w = detail::map(net_.weights[l].span());
      if (l > 0) {  // an activation of zero, by ReLU or by dropout, passes no gradient
        layers_[l - 1].gradient.noalias() = state.gradient * w;
        layers_[l - 1].gradient.array() *= scale_of_kept() * (state.input.array() > 0.0f).cast<float>();
      }
      weight_gradient_.noalias() = state.gradient.transpose() * state.input;
      bias_gradient_ = state.gradient.colwise().sum();
      update({net_.weights[l].data(), static_cast<std::size_t>(w.size())}, weight_gradient_.data(), state.weight, rate,
             static_cast<float>(options_.weight_decay));
      update(net_.biases[l], bias_gradient_.data(), state.bias, rate, 0.0f);
    }
  }

  [[nodiscard]] float scale_of_kept() const { return static_cast<float>(1 / (1 - options_.dropout)); }

  void drop(detail::eigen_matrix& x) {
    float const scale = scale_of_kept(), share = static_cast<float>(options_.dropout);
    for (index_t i = 0; i < x.size(); ++i) x.data()[i] *= random_.uniform() < share ? 0.0f : scale;
  }

  /// Replaces outputs (batch, classes) by the gradient of the mean cross-entropy, and adds up loss and hits.
  static void softmax_gradient(std::span<int const> labels, detail::eigen_matrix& out, epoch_summary& sum) {
    for (index_t i = 0; i < out.rows(); ++i) {
      auto row = out.row(i).array();
      index_t const label = labels[static_cast<std::size_t>(i)];
      index_t best = 0;
      float const top = row.maxCoeff(&best);
      row = (row - top).exp();
      row /= row.sum();
      sum.loss -= std::log(std::max(row(label), 1e-30f));
      sum.accuracy += best == label;
      row(label) -= 1;
    }
    out /= static_cast<float>(out.rows());
  }

  void update(std::span<float> values, float const* gradient, moments& m, float rate, float decay) const {
    constexpr float beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f;
    auto const t = static_cast<float>(steps_);
    float const unbias1 = 1 / (1 - std::pow(beta1, t)), unbias2 = 1 / (1 - std::pow(beta2, t));
    // A plain loop: Eigen's square root is approximate in registers and exact outside them, so that its result would
    // depend on where the memory begins.
    for (std::size_t i = 0; i < values.size(); ++i) {
      auto const k = static_cast<index_t>(i);
      float const mean = m.mean[k] = beta1 * m.mean[k] + (1 - beta1) * gradient[i];
      float const square = m.square[k] = beta2 * m.square[k] + (1 - beta2) * gradient[i] * gradient[i];
      values[i] -= rate * (unbias1 * mean / (std::sqrt(unbias2 * square) + epsilon) + decay * values[i]);
    }
  }

  training_options options_;
  random_source random_;
  mlp_weights net_;
  std::vector<layer_state> layers_;
  detail::eigen_matrix weight_gradient_;
  Eigen::RowVectorXf bias_gradient_;
  index_t epochs_done_ = 0;
  index_t steps_ = 0;
};

}  // namespace pare::demo
