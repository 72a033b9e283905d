// SPDX-License-Identifier: Apache-2.0
// Random: S_ij uniform in [0, 1), the baseline that every criterion has to beat.
#pragma once

#include <pare/core/random.hpp>
#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

/// The same seed and shape give the same scores on every machine.
struct random_score {
  static constexpr scope compares = scope::matrix;  // the pool that its scores are meant for
  using needs = statistics<>;
  static constexpr char const* name() noexcept { return "random"; }
  std::uint64_t seed = 0;

  template <matrix_view W>
  void score(W const& weights, auto const& /*stats*/, score_sink<float> out) const {
    auto const shape = as_span(weights).shape();
    random_source random(seed);
    for (index_t i = 0; i < shape.rows; ++i)
      for (index_t j = 0; j < shape.cols; ++j) out(i, j) = random.uniform();
  }
};

}  // namespace pare::inline PARE_ABI
