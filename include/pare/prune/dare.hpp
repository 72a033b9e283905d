// SPDX-License-Identifier: Apache-2.0
// DARE: most of what fine-tuning changed is dropped, the rest is scaled up (Yu et al. 2024, arXiv 2311.03099), by
// 1/(1-p) or, at high p, by 1/q (DAREx: Deng et al. 2025, arXiv 2410.09344).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include <pare/calibrate/gram.hpp>
#include <pare/core/random.hpp>
#include <pare/core/result.hpp>
#include <pare/mask/mask.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/random_score.hpp>
#include <pare/select/select.hpp>

namespace pare::inline PARE_ABI {

/// What is dropped of the changes: each with the probability p on its own (as published), exactly floor(p n) of them at
/// random, or the floor(p n) smallest.
enum class dare_draw { bernoulli, exact, magnitude };

/// tuned - base, (M, K).
[[nodiscard]] inline matrix<float> delta_of(matrix_span<float const> tuned, matrix_span<float const> base) {
  PARE_EXPECTS(tuned.shape() == base.shape(), "delta_of: both must have the same shape");
  matrix<float> delta(tuned);
  for (index_t i = 0; i < delta.rows(); ++i)
    for (index_t j = 0; j < delta.cols(); ++j) delta(i, j) -= base(i, j);
  return delta;
}

/// Which changes stay when the fraction `dropped` of them goes. The same seed and shape give the same mask on every
/// machine; magnitude needs no seed. O(M K).
[[nodiscard]] inline mask dare_mask(matrix_span<float const> delta, sparsity dropped,
                                    dare_draw draw = dare_draw::bernoulli, std::uint64_t seed = 0) {
  if (draw == dare_draw::magnitude) return select(score(delta, magnitude{}), unstructured{}, dropped);
  if (draw == dare_draw::exact) return select(score(delta, random_score{seed}), unstructured{}, dropped);
  mask keep(delta.shape());
  random_source random(seed);
  for (index_t i = 0; i < delta.rows; ++i)
    for (index_t j = 0; j < delta.cols; ++j)
      // 53 bits: a probability of 0.999999 is what it says
      keep.set(i, j, static_cast<double>(random.bits() >> 11) * 0x1p-53 >= dropped.value);
  return keep;
}

/// base + delta / q where `keep` is set, base elsewhere. q = 1 - p: DARE; 1: no rescaling. Pre: q > 0. O(M K).
[[nodiscard]] inline matrix<float> dare_merge(matrix_span<float const> base, matrix_span<float const> delta,
                                              mask const& keep, double q) {
  PARE_EXPECTS(delta.shape() == base.shape() && keep.shape() == base.shape(),
               "dare_merge: base, delta and mask must have the same shape");
  PARE_EXPECTS(q > 0.0, "dare_merge: the divisor q must be positive");
  matrix<float> out(base);
  for (index_t i = 0; i < out.rows(); ++i)
    keep.for_each_in_row(i, [&](index_t j) {
      out(i, j) = static_cast<float>(static_cast<double>(out(i, j)) + static_cast<double>(delta(i, j)) / q);
    });
  return out;
}

/// q by trial, of a whole network or a layer: error_of(q) is what to minimise, such as the loss on a validation set
/// (DAREx-q) or, without labels, the change of the outputs. It is asked at low, low + step, ... up to high, then around
/// the best of these in tenths of a step. Of equal errors the first q wins; NaN never does. Pre: 0 < low <= high,
/// step > 0.
template <class Error>
[[nodiscard]] double dare_search(double low, double high, double step, Error error_of) {
  PARE_EXPECTS(0.0 < low && low <= high && step > 0.0, "dare_search: 0 < low <= high and step > 0");
  double best = low;
  double least = std::numeric_limits<double>::infinity();
  auto const walk = [&](double from, double to, double by) {
    auto const steps = static_cast<index_t>(std::floor((to - from) / by + 1e-9));
    for (index_t i = 0; i <= steps; ++i) {
      double const q = from + static_cast<double>(i) * by;
      if (q < low) continue;
      if (double const e = error_of(q); e < least) {
        least = e;
        best = q;
      }
    }
  };
  walk(low, high, step);
  double const centre = best;
  walk(centre - 0.9 * step, std::min(centre + 0.9 * step, high), step / 10.0);
  return best;
}

/// The q of one layer that changes its outputs least, ||delta X - (kept delta) X / q||^2, without labels and without
/// trial: with Y = delta X and Y' = (kept delta) X it is ||Y'||^2 / <Y, Y'>. inputs: the Gram matrix of X.
/// Error: what is kept has no part in the direction of the whole, so that no positive q helps. O(M K^2).
[[nodiscard]] inline result<double> dare_q_by_output(matrix_span<float const> delta, mask const& keep,
                                                     gram const& inputs) {
  PARE_EXPECTS(keep.shape() == delta.shape(), "dare_q_by_output: the mask must have the shape of delta");
  PARE_EXPECTS(inputs.features() == delta.cols, "dare_q_by_output: the Gram matrix is of another number of inputs");
  double kept = 0.0;    // ||Y'||^2
  double common = 0.0;  // <Y, Y'>
  std::vector<double> image(static_cast<std::size_t>(delta.cols));
  for (index_t i = 0; i < delta.rows; ++i) {
    for (double& v : image) v = 0.0;
    keep.for_each_in_row(i, [&](index_t k) {
      for (index_t j = 0; j < delta.cols; ++j)
        image[static_cast<std::size_t>(j)] += static_cast<double>(delta(i, k)) * static_cast<double>(inputs(k, j));
    });
    for (index_t j = 0; j < delta.cols; ++j) {
      double const part = static_cast<double>(delta(i, j)) * image[static_cast<std::size_t>(j)];
      common += part;
      if (keep(i, j)) kept += part;
    }
  }
  if (!std::isfinite(kept) || !std::isfinite(common))
    return error{errc::not_finite, "delta", "the change of the outputs is NaN or infinite"};
  if (!(kept > 0.0) || !(common > 0.0))
    return error{errc::out_of_range, "delta", "what is kept of it does nothing that the whole does, so no q helps"};
  return kept / common;
}

/// DAREx's analytical choice, one q for each row: among 1 - p, 1 - p + 0.001, ... below 0.999 the one with the least
///
///   | eta (1 - (1-p)/q) sum_j c_ij + eta^2 Phi(p) sum_j c_ij^2 / (4 q^2) + ln(2 / (1 - gamma)) |
///
/// where c_ij = delta_ij mean_j and Phi(p) = (1 - 2p) / ln((1-p)/p). The published code takes the mean over the rows as
/// the layer's q, and ends its walk where `stop` of the rows were worse at least once than before, so that rows without
/// a minimum do not pull it up.
struct dare_analytic {
  double eta = 0.45;    // balances the two terms; published with 0.27 to 1.01 for single tasks
  double gamma = 0.95;  // confidence of the bound
  double stop = 0.8;

  /// mean: of each input over the calibration samples; bias_delta: the change of the bias (empty where there is none),
  /// an input that is always 1. Pre: 0 < p < 1. O(M K + 1000 M).
  [[nodiscard]] std::vector<double> rows(matrix_span<float const> delta, std::span<double const> mean, sparsity dropped,
                                         std::span<float const> bias_delta = {}) const {
    double const p = dropped.value;
    PARE_EXPECTS(std::ssize(mean) == delta.cols, "dare_analytic: there must be one mean for each input");
    PARE_EXPECTS(bias_delta.empty() || std::ssize(bias_delta) == delta.rows,
                 "dare_analytic: there must be one bias for each output");
    PARE_EXPECTS(0.0 < p && p < 1.0, "dare_analytic: p must lie in (0, 1)");
    PARE_EXPECTS(0.0 <= gamma && gamma < 1.0, "dare_analytic: gamma must lie in [0, 1)");
    double const phi = std::abs(1.0 - 2.0 * p) < 1e-6 ? 0.5 : (1.0 - 2.0 * p) / std::log((1.0 - p) / p);
    auto const n = static_cast<std::size_t>(delta.rows);
    std::vector<double> sum(n), squares(n), q(n, 1.0 - p);
    std::vector<double> least(n, std::numeric_limits<double>::infinity());
    for (std::size_t i = 0; i < n; ++i) {
      auto const add = [&](double c) {
        sum[i] += c;
        squares[i] += c * c;
      };
      for (index_t j = 0; j < delta.cols; ++j)
        add(static_cast<double>(delta(static_cast<index_t>(i), j)) * mean[static_cast<std::size_t>(j)]);
      if (!bias_delta.empty()) add(static_cast<double>(bias_delta[i]));
    }
    std::vector<bool> turned(n, false);  // was not better than before at least once
    std::size_t count = 0;
    auto const first = static_cast<int>(std::floor((1.0 - p) * 1000.0 + 1e-9));
    for (int k = std::max(first, 1); k < 999 && static_cast<double>(count) < stop * static_cast<double>(n); ++k) {
      double const trial = 0.001 * k;
      for (std::size_t i = 0; i < n; ++i) {
        double const e = std::abs(eta * (1.0 - (1.0 - p) / trial) * sum[i] +
                                  eta * eta * phi * squares[i] / (4.0 * trial * trial) + std::log(2.0 / (1.0 - gamma)));
        if (e <= least[i]) q[i] = trial;
        if (e >= least[i] && !turned[i]) {
          turned[i] = true;
          ++count;
        }
        least[i] = std::min(least[i], e);
      }
    }
    return q;
  }

  /// The mean over the rows: the layer's q. Pre: as for rows; at least one row.
  [[nodiscard]] double layer(matrix_span<float const> delta, std::span<double const> mean, sparsity dropped,
                             std::span<float const> bias_delta = {}) const {
    PARE_EXPECTS(delta.rows > 0, "dare_analytic: a layer without outputs has no q");
    double sum = 0.0;
    for (double const v : rows(delta, mean, dropped, bias_delta)) sum += v;
    return sum / static_cast<double>(delta.rows);
  }
};

}  // namespace pare::inline PARE_ABI
