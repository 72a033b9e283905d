// SPDX-License-Identifier: Apache-2.0
// Score transform: the mean over a 3 x 3 neighbourhood (GAPrune smooths gradient alignments so; arXiv 2509.10844).
#pragma once

#include <pare/score/transform.hpp>

namespace pare::inline PARE_ABI {

/// (1/9) sum of the scores at rows i - 1 .. i + 1, columns j - 1 .. j + 1; those outside the matrix count as 0. What
/// is near in a linear layer means nothing: use it where a published method asks for it. One more matrix of memory.
struct box_filter {
  void apply(score_sink<float> scores) const {
    matrix<float> const before{matrix_span<float const>(scores)};
    for (index_t i = 0; i < scores.rows; ++i)
      for (index_t j = 0; j < scores.cols; ++j) {
        double sum = 0.0;
        for (index_t r = i > 0 ? i - 1 : 0; r <= i + 1 && r < scores.rows; ++r)
          for (index_t c = j > 0 ? j - 1 : 0; c <= j + 1 && c < scores.cols; ++c)
            sum += static_cast<double>(before(r, c));
        scores(i, j) = static_cast<float>(sum / 9.0);
      }
  }
};

}  // namespace pare::inline PARE_ABI
