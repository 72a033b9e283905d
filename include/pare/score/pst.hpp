// SPDX-License-Identifier: Apache-2.0
// PST: magnitude plus a learned importance of low rank (Li et al. 2022, IJCAI; arXiv 2205.11005).
#pragma once

#include <cmath>

#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

/// S = |W| + a1 A B + a2 (R (+) C), with (R (+) C)_ij = R_i + C_j. The factors are learned elsewhere, for one layer,
/// and must outlive the criterion. An empty A (or an empty R) leaves its term out. The published code scores the frozen
/// weights even though those in use are W + b U V; score the merged weights to have their magnitude instead.
/// O(M K r).
struct pst {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<>;
  static constexpr char const* name() noexcept { return "pst"; }

  matrix_span<float const> a{};        // (M, r)
  matrix_span<float const> b{};        // (r, K)
  matrix_span<float const> rows{};     // (M, 1): R
  matrix_span<float const> columns{};  // (1, K): C
  double low_rank_weight = 1.0;        // a1
  double structure_weight = 1.0;       // a2

  template <matrix_view W>
  void score(W const& weights, auto const& /*stats*/, score_sink<float> out) const {
    auto const w = as_span(weights);
    bool const low_rank = a.data != nullptr;
    bool const structure = rows.data != nullptr;
    PARE_EXPECTS(!low_rank || (a.rows == w.rows && b.cols == w.cols && a.cols == b.rows),
                 "pst: A must be (M, r) and B (r, K) for weights (M, K)");
    PARE_EXPECTS(!structure || (rows.shape() == extents{w.rows, 1} && columns.shape() == extents{1, w.cols}),
                 "pst: R must be (M, 1) and C (1, K) for weights (M, K)");
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) {
        double s = std::abs(static_cast<double>(w(i, j)));
        double product = 0.0;
        for (index_t k = 0; k < a.cols; ++k) product += static_cast<double>(a(i, k)) * static_cast<double>(b(k, j));
        s += low_rank_weight * product;
        if (structure) s += structure_weight * (static_cast<double>(rows(i, 0)) + static_cast<double>(columns(0, j)));
        out(i, j) = static_cast<float>(s);
      }
  }
};

}  // namespace pare::inline PARE_ABI
