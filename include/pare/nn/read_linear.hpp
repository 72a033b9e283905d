// SPDX-License-Identifier: Apache-2.0
// A linear layer from a checkpoint: the one place where tensors become layers.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <pare/core/index.hpp>
#include <pare/core/result.hpp>
#include <pare/io/checkpoint.hpp>
#include <pare/nn/linear.hpp>

namespace pare::inline PARE_ABI {

/// Whether a layer adds a bias.
enum class has_bias { no, yes };

/// The layer `name`.weight of the given shape (M, K), with `name`.bias (M) where it has one. A tensor of more than
/// two axes (a convolution's) is read with all axes after the first joined. Zeros of a dense tensor count as pruned:
/// that is how most tools store what they pruned.
/// Errors: missing or misshapen tensors.
[[nodiscard]] inline result<linear> read_linear(checkpoint const& file, std::string const& name, extents shape,
                                                has_bias bias) {
  PARE_TRY(auto weight, file.read_weight(name + ".weight", shape));
  std::vector<float> offsets;
  if (bias == has_bias::yes) {
    PARE_TRY(offsets, file.read_vector(name + ".bias", shape.rows));
  }
  linear layer(name + ".weight", std::move(weight.values), std::move(offsets));
  layer.tensor_shape(file.shape(name + ".weight").value_or(std::vector<index_t>{}));
  layer.keep(weight.keep.keeps_all() ? nonzeros(layer.weight()) : weight.keep);
  return layer;
}

}  // namespace pare::inline PARE_ABI
