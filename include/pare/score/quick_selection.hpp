// SPDX-License-Identifier: Apache-2.0
// QuickSelection: the strength of an input neuron (Atashgahi et al. 2022, Machine Learning; arXiv 2012.00560).
#pragma once

#include <cmath>

#include <pare/score/column_scores.hpp>

namespace pare::inline PARE_ABI {

/// C_j = sum_i |W_ij|, the strength of input j in the first layer of a (sparsely trained) network. Each weight of
/// column j gets C_j / M: select with columns as units, any_pattern({M, 1}, 0, 0), and the inputs that stay are the
/// features. The variant `fs_strength12` of the published code adds C to itself, which changes no order. O(M K).
struct quick_selection {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<>;
  static constexpr char const* name() noexcept { return "quickselection"; }

  template <matrix_view W>
  void score(W const& weights, auto const& /*stats*/, score_sink<float> out) const {
    auto const w = as_span(weights);
    detail::spread_over_columns(
        out, [&](index_t j) { return detail::column_total(w, j, [](double v) { return std::abs(v); }); });
  }
};

}  // namespace pare::inline PARE_ABI
