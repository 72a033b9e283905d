// SPDX-License-Identifier: Apache-2.0
// What a backward pass hands out: for every linear layer its input and the gradient of the loss by its output.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <vector>

#include <pare/calibrate/outer_products.hpp>
#include <pare/nn/network.hpp>

namespace pare::inline PARE_ABI {

/// What a backward pass calls for every linear layer, from the last to the first, for some samples.
///
/// Semantics: `tap(layer, x, delta)` gets the layer's input x (K, N) and delta (M, N), the gradient of the loss by its
/// output W x + b, any strides; both are valid during the call. The gradient of the weights is delta x^T, that of the
/// bias the row sums of delta. A layer may be called several times (a convolution: once an image). A tap may have a
/// member `embedding(layer, tokens, delta)` too: the gradient delta (T, hidden) by the embeddings of T tokens, and the
/// linear layer whose weights they are, or null where the embedding has weights of its own.
template <class T>
concept gradient_tap = requires(T& tap, linear const& layer, matrix_span<float const> m) {
  tap(layer, m, m);
};

namespace detail {
/// Reads the tap's interest in the embedding.
template <class Tap>
void tap_embedding(Tap& tap, linear const* layer, std::span<int const> tokens, matrix_span<float const> delta) {
  if constexpr (requires { tap.embedding(layer, tokens, delta); }) tap.embedding(layer, tokens, delta);
}
}  // namespace detail

/// A layer's gradients.
struct layer_gradient {
  matrix<float> weight;     // (M, K); of pruned weights too
  std::vector<float> bias;  // (M), or empty where the layer has none
};

/// The tap that adds up the gradients of all weights and biases of a network, in the order of layers(): in float,
/// sample after sample. The network must stay where it is. Memory: that of the weights once more.
class weight_gradients {
 public:
  template <network N>
  explicit weight_gradients(N const& net) {
    for (linear const* l : net.layers()) {
      known_.push_back(l);
      layers_.push_back({matrix<float>(l->shape()), std::vector<float>(l->bias().size())});
    }
  }

  template <std::same_as<linear> Linear>
  void operator()(Linear const& layer, matrix_span<float const> x, matrix_span<float const> delta) {
    layer_gradient* const g = find(layer);
    if (g == nullptr) return;
    add_outer_products(delta, x, g->weight);
    for (std::size_t m = 0; m < g->bias.size(); ++m)
      for (index_t n = 0; n < delta.cols; ++n) g->bias[m] += delta(static_cast<index_t>(m), n);
  }
  /// With tied weights the embedding's gradient belongs to the output layer.
  void embedding(linear const* layer, std::span<int const> tokens, matrix_span<float const> delta) {
    layer_gradient* const g = layer == nullptr ? nullptr : find(*layer);
    if (g == nullptr) return;
    for (index_t t = 0; t < delta.rows; ++t) {
      float* const to = g->weight.row(tokens[static_cast<std::size_t>(t)]);
      for (index_t k = 0; k < delta.cols; ++k) to[k] += delta(t, k);
    }
  }

  [[nodiscard]] layer_gradient const& operator[](std::size_t l) const noexcept { return layers_[l]; }
  [[nodiscard]] std::size_t size() const noexcept { return layers_.size(); }
  /// All gradients 0 again.
  void clear() noexcept {
    for (layer_gradient& g : layers_) {
      std::fill_n(g.weight.data(), g.weight.size(), 0.0f);
      std::fill(g.bias.begin(), g.bias.end(), 0.0f);
    }
  }

 private:
  [[nodiscard]] layer_gradient* find(linear const& layer) noexcept {
    auto const at = std::find(known_.begin(), known_.end(), &layer);
    return at == known_.end() ? nullptr : &layers_[static_cast<std::size_t>(at - known_.begin())];
  }

  std::vector<linear const*> known_;
  std::vector<layer_gradient> layers_;
};

}  // namespace pare::inline PARE_ABI
