// SPDX-License-Identifier: Apache-2.0
// A multilayer perceptron while it is trained: linear layers with ReLU between them, softmax cross-entropy at the end,
// and the gradients of that loss.
//
// Eigen does the matrix products on one thread, so a seed gives the same network each time on the same machine.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <Eigen/Core>

#include <pare/core/matrix.hpp>
#include <pare/core/random.hpp>

namespace pare::demo {

/// A perceptron: layer i maps activations (N, K_i) to (N, M_i) = x * weights[i]^T + biases[i].
struct mlp_weights {
  std::vector<matrix<float>> weights;      // (M, K) each
  std::vector<std::vector<float>> biases;  // (M) each
};

/// `layer_sizes`: inputs, hidden widths, classes. Weights start normal with variance 2 / K (He et al. 2015).
inline mlp_weights draw_mlp(std::span<index_t const> layer_sizes, random_source& random) {
  PARE_EXPECTS(layer_sizes.size() >= 2, "draw_mlp: needs at least the number of inputs and of classes");
  mlp_weights net;
  for (std::size_t i = 0; i + 1 < layer_sizes.size(); ++i) {
    auto& w = net.weights.emplace_back(layer_sizes[i + 1], layer_sizes[i]);
    net.biases.emplace_back(static_cast<std::size_t>(w.rows()), 0.0f);
    float const deviation = std::sqrt(2.0f / static_cast<float>(w.cols()));
    for (index_t k = 0; k < w.size(); ++k) w.data()[k] = deviation * random.normal();
  }
  return net;
}

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

/// Indices 0 ... n - 1 in random order.
inline std::vector<index_t> shuffled(index_t n, random_source& random) {
  std::vector<index_t> order(static_cast<std::size_t>(n));
  for (index_t i = 0; i < n; ++i) order[static_cast<std::size_t>(i)] = i;
  for (index_t i = n - 1; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(random.below(i + 1))]);
  return order;
}

/// Sums over the samples that were trained on, measured while the weights moved.
struct training_sums {
  double loss = 0;
  double hits = 0;
};

/// Forward and back through a network, batch by batch; the gradients of the last batch stay in it.
class backpropagation {
 public:
  explicit backpropagation(mlp_weights const& net) : layers_(net.weights.size()) {}

  /// Copies the batch: rows `chosen` of inputs (N, K), and their labels, in [0, classes).
  void load(matrix<float> const& inputs, std::span<int const> labels, std::span<index_t const> chosen) {
    auto& first = layers_.front().input;
    first.resize(std::ssize(chosen), inputs.cols());
    labels_.resize(chosen.size());
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      std::copy_n(inputs.row(chosen[i]), inputs.cols(), first.data() + static_cast<index_t>(i) * inputs.cols());
      labels_[i] = labels[static_cast<std::size_t>(chosen[i])];
    }
  }

  /// Gradients of the mean cross-entropy of the batch; adds its loss and hits to `sums`. dropout: the share of hidden
  /// activations that is zeroed, in [0, 1).
  void run(mlp_weights const& net, double dropout, random_source& random, training_sums& sums) {
    std::size_t const depth = layers_.size();
    for (std::size_t l = 0; l < depth; ++l) {
      auto const w = detail::map(net.weights[l].span());
      Eigen::Map<Eigen::RowVectorXf const> const bias(net.biases[l].data(), w.rows());
      auto& out = l + 1 < depth ? layers_[l + 1].input : layers_[l].output;
      out.noalias() = layers_[l].input * w.transpose();
      out.rowwise() += bias;
      if (l + 1 < depth) out = out.cwiseMax(0.0f);
      if (l + 1 < depth && dropout > 0) drop(out, dropout, random);
    }
    softmax_gradient(layers_.back().output, sums);
    for (std::size_t l = depth; l-- > 0;) {
      auto& layer = layers_[l];
      if (l > 0) {  // an activation of zero, by ReLU or by dropout, passes no gradient
        auto& before = layers_[l - 1].output;
        before.noalias() = layer.output * detail::map(net.weights[l].span());
        before.array() *= static_cast<float>(1 / (1 - dropout)) * (layer.input.array() > 0.0f).cast<float>();
      }
      layer.weight.noalias() = layer.output.transpose() * layer.input;
      layer.bias = layer.output.colwise().sum();
    }
  }

  /// The gradient by the weights of layer l, (M, K), and by its biases, (M).
  [[nodiscard]] matrix_span<float> weight_gradient(std::size_t l) {
    auto& g = layers_[l].weight;
    return {g.data(), g.rows(), g.cols()};
  }
  [[nodiscard]] float const* bias_gradient(std::size_t l) const { return layers_[l].bias.data(); }

 private:
  struct layer_state {
    detail::eigen_matrix input;   // (batch, K): what entered the layer
    detail::eigen_matrix output;  // (batch, M): gradient of the loss by what left it
    detail::eigen_matrix weight;  // (M, K): gradient by the weights
    Eigen::RowVectorXf bias;      // (M): gradient by the biases
  };

  static void drop(detail::eigen_matrix& x, double dropout, random_source& random) {
    auto const scale = static_cast<float>(1 / (1 - dropout)), share = static_cast<float>(dropout);
    for (index_t i = 0; i < x.size(); ++i) x.data()[i] *= random.uniform() < share ? 0.0f : scale;
  }

  /// Replaces outputs (batch, classes) by the gradient of the mean cross-entropy, and adds up loss and hits.
  void softmax_gradient(detail::eigen_matrix& out, training_sums& sums) const {
    for (index_t i = 0; i < out.rows(); ++i) {
      auto row = out.row(i).array();
      index_t const label = labels_[static_cast<std::size_t>(i)];
      index_t best = 0;
      float const top = row.maxCoeff(&best);
      row = (row - top).exp();
      row /= row.sum();
      sums.loss -= std::log(std::max(row(label), 1e-30f));
      sums.hits += best == label;
      row(label) -= 1;
    }
    out /= static_cast<float>(out.rows());
  }

  std::vector<layer_state> layers_;
  std::vector<int> labels_;
};

}  // namespace pare::demo
