// SPDX-License-Identifier: Apache-2.0
// What all networks have in common: linear layers that can be listed, pruned, prepared and counted.
#pragma once

#include <concepts>
#include <vector>

#include <pare/core/result.hpp>
#include <pare/nn/linear.hpp>

namespace pare::inline PARE_ABI {

/// A network of linear layers.
///
/// Semantics: `layers()` gives the layers that may be pruned, in forward order, always the same; the pointers are valid
/// until the network is moved. `keeps_dense_by_default(l)`: layers that the field leaves dense unless asked (the first
/// convolution, the output layer). A forward pass calls its tap with every layer's input just before that layer.
template <class N>
concept network = requires(N& net, N const& fixed, linear const& layer) {
  { net.layers() } -> std::same_as<std::vector<linear*>>;
  { fixed.layers() } -> std::same_as<std::vector<linear const*>>;
  { fixed.keeps_dense_by_default(layer) } -> std::same_as<bool>;
};

/// Which layers are calibrated together when a network is pruned layer by layer: those of a transformer block
/// (`layers_per_block`, as SparseGPT and Wanda do), else each on its own. The number of a layer's stage, never falling.
template <network N>
[[nodiscard]] constexpr std::size_t stage_of(std::size_t layer) noexcept {
  if constexpr (requires { N::layers_per_block; }) {
    return layer / N::layers_per_block;
  } else {
    return layer;
  }
}

/// The first layer, at `layer` or before it, that reads the same input: a transformer block's keys and values read what
/// its queries do (`input_of`); else each layer reads its own.
template <network N>
[[nodiscard]] constexpr std::size_t input_of(std::size_t layer) noexcept {
  if constexpr (requires { N::input_of(layer); }) {
    return N::input_of(layer);
  } else {
    return layer;
  }
}

/// Data on its way through a network, all of it at one boundary of stages (see stage_of): what calibrates them one
/// after the other in time linear in their number.
///
/// Semantics: it starts at the network's input and refers to the network, so that it runs with the weights that it has
/// then. `stage()` comes next. `show(tap)` calls the tap with the inputs of that stage's layers, as a forward pass
/// does, and stays; `advance(tap)` does the same and then stands behind the stage. Pre: there is such a stage. Error:
/// cancelled, after which it is of no use.
template <class W>
concept stage_walk = requires(W& walk, W const& fixed, no_tap& tap) {
  { fixed.stage() } -> std::same_as<std::size_t>;
  { walk.show(tap) } -> std::same_as<result<void>>;
  { walk.advance(tap) } -> std::same_as<result<void>>;
};

/// Whether every column of what a backward pass tells of a layer is a sample of its own (an image of a perceptron),
/// rather than a position of one sample (of a text, of an image that is convolved).
template <network N>
inline constexpr bool columns_are_samples = requires {
  requires N::columns_are_samples;
};

/// Prepares every layer; see linear::prepare.
template <network N>
void prepare(N& net, prepare_options const& options) {
  for (linear* l : net.layers()) l->prepare(options);
}

/// Lets every layer multiply on `exec`, which must outlive the network's use.
template <network N>
void run_on(N& net, execution_ref exec) {
  for (linear* l : net.layers()) l->run_on(exec);
}

/// Sizes of a network's linear layers.
struct weight_count {
  index_t weights = 0;    // all elements
  index_t kept = 0;       // those not pruned
  std::size_t bytes = 0;  // in their canonical formats, biases included
  [[nodiscard]] double sparsity() const noexcept {
    return weights == 0 ? 0.0 : 1.0 - static_cast<double>(kept) / static_cast<double>(weights);
  }
};

template <network N>
[[nodiscard]] weight_count count_weights(N const& net) {
  weight_count n;
  for (linear const* l : net.layers()) {
    n.weights += l->shape().size();
    n.kept += l->weights().nnz();
    n.bytes += l->bytes();
  }
  return n;
}

}  // namespace pare::inline PARE_ABI
