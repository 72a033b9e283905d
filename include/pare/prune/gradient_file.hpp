// SPDX-License-Identifier: Apache-2.0
// Gradients that another framework computed, read from a safetensors file, for criteria that need them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <pare/io/checkpoint.hpp>
#include <pare/prune/calibration.hpp>
#include <pare/prune/prune.hpp>

namespace pare::inline PARE_ABI {

/// Adds one sample's gradients to the statistics of a corpus: the file holds, under the name of each weight of `net`,
/// the gradient by it, of its shape (a convolution's as the checkpoint has it), in any floating dtype. Call it once for
/// each file: a sample, or the mean over a small batch. Other tensors are passed over; layers whose position is in
/// `only` must be there (layers_to_prune gives it). Errors: missing or misshapen tensors, by name; NaN or infinite
/// gradients, by place. On error nothing is added.
template <class Corpus = any_corpus, network N, class Needs>
[[nodiscard]] result<void> add_gradients(N const& net, checkpoint const& file, std::vector<std::size_t> const& only,
                                         calibration<Needs>& into) {
  auto const layers = net.layers();
  PARE_EXPECTS(into.size() == layers.size(), "add_gradients: the statistics are of another network");
  std::vector<matrix<float>> gradients;
  for (std::size_t const l : only) {
    PARE_TRY(auto tensor, file.read_weight(layers[l]->name(), layers[l]->shape()));
    PARE_TRY_VOID(detail::require_finite(tensor.values.span(), layers[l]->name(), "the gradient"));
    gradients.push_back(std::move(tensor.values));
  }
  for (std::size_t i = 0; i < only.size(); ++i) {
    into[only[i]].template add_gradient<Corpus>(gradients[i].span());
    into[only[i]].template close<Corpus>(1);
  }
  return {};
}

}  // namespace pare::inline PARE_ABI
