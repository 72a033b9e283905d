// SPDX-License-Identifier: Apache-2.0
// FLAP: inputs that fluctuate little can be replaced by their mean (An et al. 2024, AAAI, arXiv 2312.11983).
#pragma once

#include <cmath>

#include <pare/calibrate/input_moments.hpp>
#include <pare/score/column_scores.hpp>

namespace pare::inline PARE_ABI {

/// A score C_j of every input channel j, from its variance var_j and mean_j over all samples. Each weight of column j
/// gets C_j / M: select with columns (or heads, as blocks of columns) as units, any_pattern({M, 1}, 0, 0). A factor of
/// all variances of a layer changes nothing within it, nor after `zscore{}`, with which the paper compares layers. What
/// is removed is made up for in the bias, W mean. O(M K).
///
/// The published code updates its running variance with the mean that it has just overwritten and starts after the
/// first sequence, so that its variances depend on the order of sequences; those here do not.
struct fluctuation {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<input_moments>;
  static constexpr char const* name() noexcept { return "fluctuation"; }

  enum class metric {
    wifv,  // var_j sum_i W_ij^2 (default of paper and code)
    ifv,   // var_j
    wifn,  // mean_i |W_ij| sqrt(mean of x_j^2)
  };

  metric by = metric::wifv;
  bool squared = false;  // C_j^2, as the published code has it for the inputs of attention's output projection

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    auto const w = as_span(weights);
    input_moments const& moments = stats.template get<input_moments>();
    PARE_EXPECTS(moments.features() == w.cols,
                 "fluctuation: the statistics are of a layer with another number of inputs");
    detail::spread_over_columns(out, [&](index_t j) {
      double const c = channel(w, moments, j);
      return squared ? c * c : c;
    });
  }

 private:
  template <class T>
  [[nodiscard]] double channel(matrix_span<T const> w, input_moments const& moments, index_t j) const {
    switch (by) {
      case metric::ifv:
        return moments.variance(j);
      case metric::wifn:
        return detail::column_total(w, j, [](double v) { return std::abs(v); }) / static_cast<double>(w.rows) *
               std::sqrt(moments.variance(j) + moments.mean(j) * moments.mean(j));
      case metric::wifv:
        break;
    }
    return moments.variance(j) * detail::column_total(w, j, [](double v) { return v * v; });
  }
};

}  // namespace pare::inline PARE_ABI
