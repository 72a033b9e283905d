// SPDX-License-Identifier: Apache-2.0
// Gradients of a perceptron.
#pragma once

#include <algorithm>
#include <vector>

#include <pare/nn/gradient.hpp>
#include <pare/nn/loss.hpp>
#include <pare/nn/mlp.hpp>

namespace pare::inline PARE_ABI {

/// A forward pass that is kept for the way back. Memory: twice the activations of all layers for `capacity` inputs.
/// Allocates in the constructor only, besides what the layers' products do. The network must outlive it.
class mlp_tape {
 public:
  mlp_tape(mlp const& net, index_t capacity) : net_(&net), capacity_(capacity) {
    index_t widest = net.input_size();
    for (linear const& l : net.layers_) {
      inputs_.emplace_back(capacity, l.shape().cols);
      outputs_.emplace_back(capacity, l.shape().rows);
      widest = std::max(widest, l.shape().rows);
    }
    delta_ = matrix<float>(capacity, widest);
  }

  /// Forward, the loss, and back. inputs (N, K) as mlp::forward takes them, N at most the capacity; returns the loss.
  /// The tap is called for every layer with all N samples at once, and not at all after an error of the loss.
  template <class T, logit_loss Loss, gradient_tap Tap>
  [[nodiscard]] result<double> backward(matrix_span<T> inputs, Loss&& loss, Tap&& tap) {
    PARE_EXPECTS(inputs.cols == net_->input_size(), "mlp_tape::backward: inputs must be (N, first layer size)");
    PARE_EXPECTS(inputs.rows <= capacity_, "mlp_tape::backward: more inputs than the tape has room for");
    index_t const count = inputs.rows;
    PARE_TRY_VOID(detail::expect_rows(loss, count));
    auto const rows = [count](matrix<float>& m) { return m.span().row_range(0, count); };
    std::size_t const depth = inputs_.size();
    net_->normalise(inputs, rows(inputs_[0]));
    layer_epilogue act;
    act.act = net_->config_.activation;
    for (std::size_t l = 0; l < depth; ++l) {
      auto const z = rows(outputs_[l]);
      net_->layers_[l].forward(rows(inputs_[l]).transposed(), z.transposed());
      if (l + 1 == depth) break;
      auto const a = rows(inputs_[l + 1]);
      for (index_t i = 0; i < z.rows * z.cols; ++i) a.data[i] = act(z.data[i], 0, 0);
    }
    PARE_TRY(double const value, loss(rows(outputs_.back()), index_t{0}));
    // From here on outputs_[l] becomes the gradient by it.
    for (std::size_t l = depth; l-- > 0;) {
      linear const& layer = net_->layers_[l];
      auto const delta = rows(outputs_[l]).transposed();
      tap(layer, matrix_span<float const>(rows(inputs_[l]).transposed()), matrix_span<float const>(delta));
      if (l == 0) break;
      matrix_span<float> const d_input(delta_.data(), count, layer.shape().cols);
      layer.backward(delta, d_input.transposed());
      auto const z = rows(outputs_[l - 1]);
      for (index_t i = 0; i < z.rows * z.cols; ++i) z.data[i] = d_input.data[i] * derivative(act.act, z.data[i]);
    }
    return value;
  }

 private:
  mlp const* net_;
  index_t capacity_;
  std::vector<matrix<float>> inputs_;   // (capacity, K) of each layer
  std::vector<matrix<float>> outputs_;  // (capacity, M) of each layer, before the activation
  matrix<float> delta_;                 // the gradient by a layer's input, (N, K) at its beginning
};

/// The loss of a perceptron on inputs (N, K), and its gradients for the tap; see mlp_tape.
template <class T, logit_loss Loss, gradient_tap Tap>
[[nodiscard]] result<double> backward(mlp const& net, matrix_span<T> inputs, Loss&& loss, Tap&& tap) {
  return mlp_tape(net, inputs.rows).backward(inputs, loss, tap);
}

}  // namespace pare::inline PARE_ABI
