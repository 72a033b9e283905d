// SPDX-License-Identifier: Apache-2.0
// FLAP: inputs that fluctuate little are removed, and their mean goes to the bias (An et al. 2024, AAAI,
// arXiv 2312.11983).
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include <pare/prune/layer_pruner.hpp>

namespace pare::inline PARE_ABI {

/// How important an input feature j is: with the variance v_j of x_j and the second moment E x_j^2 = v_j + mean_j^2,
///   wifv  v_j sum_o W_oj^2                   the output's variance that goes with it (the published default)
///   ifv   v_j
///   wifn  mean_o |W_oj| sqrt(E x_j^2)
enum class flap_metric { wifv, ifv, wifn };

/// Whether what is lost is added to the bias, or becomes it (as in the published code, whose layers have none before).
enum class bias_update { add, assign };

/// The importance of each input feature of w (M, K); higher = keep. mean, variance: of each feature over the
/// calibration samples; any factor of all variances that is the same for the layer is allowed, but for wifn. O(M K).
[[nodiscard]] inline std::vector<float> flap_scores(matrix_span<float const> w, std::span<double const> mean,
                                                    std::span<double const> variance,
                                                    flap_metric by = flap_metric::wifv) {
  PARE_EXPECTS(std::ssize(mean) == w.cols && std::ssize(variance) == w.cols,
               "flap_scores: there must be one mean and one variance for each input feature");
  std::vector<float> scores(mean.size());
  for (index_t j = 0; j < w.cols; ++j) {
    auto const at = static_cast<std::size_t>(j);
    double squares = 0.0;
    double magnitudes = 0.0;
    for (index_t i = 0; i < w.rows; ++i) {
      auto const v = static_cast<double>(w(i, j));
      squares += v * v;
      magnitudes += std::abs(v);
    }
    double s = variance[at];
    if (by == flap_metric::wifv) s *= squares;
    if (by == flap_metric::wifn)
      s = w.rows == 0
              ? 0.0
              : magnitudes / static_cast<double>(w.rows) * std::sqrt(std::max(variance[at] + mean[at] * mean[at], 0.0));
    scores[at] = static_cast<float>(s);
  }
  return scores;
}

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

/// Removes whole input features of w (M, K), the floor(target K) least important, and makes up for them in the bias
/// (M). Returns the weights and their mask of whole columns. Errors: a mean, a variance or a weight that is not finite,
/// with the bias as it was. O(M K).
[[nodiscard]] inline result<pruned_weights> prune_features(matrix_span<float const> w, std::span<float> bias,
                                                           std::span<double const> mean,
                                                           std::span<double const> variance, sparsity target,
                                                           flap_metric by = flap_metric::wifv,
                                                           bias_update how = bias_update::add) {
  std::vector<float> scores = flap_scores(w, mean, variance, by);
  for (std::size_t j = 0; j < scores.size(); ++j)
    if (!math::is_finite(scores[j]) || !std::isfinite(mean[j]))
      return error{errc::not_finite, "scores", "a mean or a score of an input feature is NaN or infinite"};
  mask const features =
      select(matrix_span<float const>(scores.data(), 1, w.cols), unstructured{}, target, scope::matrix);
  pruned_weights out{matrix<float>(w), mask(w.shape())};
  for (index_t r = 0; r < w.rows; ++r)
    std::copy_n(features.row_words(0), features.words_per_row(), out.keep.row_words(r));
  compensate_bias(w, out.keep, mean, bias, how);
  apply(out.keep, out.weights);
  return out;
}

}  // namespace pare::inline PARE_ABI
