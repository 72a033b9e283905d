// SPDX-License-Identifier: Apache-2.0
// Linear mode connectivity: does the loss rise on the straight line between two networks (Frankle et al. 2020, arXiv
// 1912.05671)? Sparse networks that a dense one can be joined to without a barrier lie in its basin.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <span>
#include <vector>

#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI {

/// (1 - alpha) a + alpha b, elementwise; `a` at 0, `b` at 1, exactly. Pre: equal sizes.
inline void interpolate(std::span<float const> a, std::span<float const> b, double alpha, std::span<float> out) {
  PARE_EXPECTS(a.size() == b.size() && a.size() == out.size(), "interpolate: both networks must have the same shape");
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<float>((1.0 - alpha) * static_cast<double>(a[i]) + alpha * static_cast<double>(b[i]));
}

/// The loss (or error; lower = better) at alpha = 0, 1 / (n - 1), ..., 1 of the line between two networks.
struct loss_path {
  std::vector<double> losses;

  /// Barrier height: the highest loss on the line above the mean of its two ends (Frankle et al. 2020). At least 0
  /// where the ends are equal; two networks are linearly connected where it is no more than noise.
  [[nodiscard]] double barrier() const { return *std::max_element(losses.begin(), losses.end()) - mean_of_ends(); }
  /// The highest rise above the straight line between the two ends (Entezari et al. 2022, arXiv 2110.06296): unlike
  /// the above, 0 and not more where the loss goes evenly from a bad end to a good one.
  [[nodiscard]] double barrier_above_line() const {
    double highest = 0.0;
    for (std::size_t i = 0; i < losses.size(); ++i) {
      double const alpha = static_cast<double>(i) / static_cast<double>(losses.size() - 1);
      highest = std::max(highest, losses[i] - ((1.0 - alpha) * losses.front() + alpha * losses.back()));
    }
    return highest;
  }
  /// Mode connectivity of the three-regime model (Yang et al. 2021, arXiv 2107.11228): the mean of the ends less the
  /// loss at the point that differs most from it. Negative: a barrier; positive: better networks lie between; about 0:
  /// connected.
  [[nodiscard]] double connectivity() const {
    double furthest = 0.0;
    for (double const loss : losses)
      if (double const d = mean_of_ends() - loss; std::abs(d) > std::abs(furthest)) furthest = d;
    return furthest;
  }

 private:
  [[nodiscard]] double mean_of_ends() const { return 0.5 * (losses.front() + losses.back()); }
};

/// Walks the line: loss_at(alpha) for `points` values of alpha evenly from 0 to 1, of weights that the callback mixes
/// (see interpolate). Networks with batch normalisation need its statistics anew at each. Pre: points >= 2.
template <class Loss>
  requires requires(Loss& loss_at, double alpha) {
    { loss_at(alpha) } -> std::convertible_to<double>;
  }
[[nodiscard]] loss_path walk_line(Loss&& loss_at, index_t points = 11) {
  PARE_EXPECTS(points >= 2, "walk_line: a line has at least its two ends");
  loss_path path;
  for (index_t i = 0; i < points; ++i)
    path.losses.push_back(static_cast<double>(loss_at(static_cast<double>(i) / static_cast<double>(points - 1))));
  return path;
}

}  // namespace pare::inline PARE_ABI
