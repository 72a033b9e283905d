// SPDX-License-Identifier: Apache-2.0
// What the removed weights gave in the mean goes to the bias (FLAP, An et al. 2024, AAAI, arXiv 2312.11983; its score
// is score/fluctuation.hpp, its allocation allocate/flap.hpp).
#pragma once

#include <span>

#include <pare/core/matrix.hpp>
#include <pare/mask/mask.hpp>

namespace pare::inline PARE_ABI {

/// Whether what is lost is added to the bias, or becomes it (as in the published code, whose layers have none before).
enum class bias_update { add, assign };

/// bias_i += sum over what `keep` removes of W_ij mean_j: the outputs keep their mean. For any mask, whole columns or
/// not; of all changes of the bias it is the one that leaves least squared error. w (M, K): the weights before they
/// were pruned. bias (M). O(M K).
inline void compensate_bias(matrix_span<float const> w, mask const& keep, std::span<double const> mean,
                            std::span<float> bias, bias_update how = bias_update::add) {
  PARE_EXPECTS(keep.shape() == w.shape(), "compensate_bias: the mask must have the weights' shape");
  PARE_EXPECTS(std::ssize(mean) == w.cols && std::ssize(bias) == w.rows,
               "compensate_bias: there must be one mean for each input and one bias for each output");
  for (index_t i = 0; i < w.rows; ++i) {
    float& b = bias[static_cast<std::size_t>(i)];
    double sum = how == bias_update::add ? static_cast<double>(b) : 0.0;
    for (index_t j = 0; j < w.cols; ++j)
      if (!keep(i, j)) sum += static_cast<double>(w(i, j)) * mean[static_cast<std::size_t>(j)];
    b = static_cast<float>(sum);
  }
}

}  // namespace pare::inline PARE_ABI
