// SPDX-License-Identifier: Apache-2.0
// N:M by counting: a score's rank in its group is how many of the group go before it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <pare/mask/mask.hpp>

namespace pare::inline PARE_ABI::detail {

/// For rows of `cols` scores in groups of m. No branch depends on a score, so that compilers vectorise over the row.
class group_ranks {
 public:
  /// Pre: m > 0 divides cols.
  group_ranks(index_t cols, index_t m)
      : m_(m), cols_(cols), row_(static_cast<std::size_t>(cols + 2 * m + mask::word_bits)) {
    for (index_t i = 0; i < m + mask::word_bits; ++i) place_.push_back(static_cast<std::int32_t>(i % m));
  }

  /// Writes the mask that keeps the n highest of each group of x. Throws (contract) where a score is NaN. O(cols m).
  void write_kept(float const* x, index_t n, mask::word* words) {
    std::copy_n(x, cols_, row_.begin() + m_);  // so that there is something to compare with before and after it
    auto const removed = static_cast<std::int32_t>(m_ - n);
    std::int32_t unordered = 0;
    for (index_t i = 0; i < cols_; i += mask::word_bits) {
      float const* const at = row_.data() + m_ + i;
      std::int32_t const* const place = place_.data() + i % m_;
      std::int32_t rank[mask::word_bits] = {};
      for (index_t j = 0; j < mask::word_bits; ++j) unordered |= at[j] != at[j];
      for (index_t d = 1; d < m_; ++d) {
        auto const before = static_cast<std::int32_t>(d);
        auto const after = static_cast<std::int32_t>(m_ - d);
        for (index_t j = 0; j < mask::word_bits; ++j)
          rank[j] += ((at[j - d] <= at[j]) & (place[j] >= before)) + ((at[j + d] < at[j]) & (place[j] < after));
      }
      *words++ = mask::pack(std::min(cols_ - i, mask::word_bits), [&](index_t j) { return rank[j] >= removed; });
    }
    PARE_EXPECTS(unordered == 0, "select: a score is NaN, so there is no order to select by");
  }

 private:
  index_t m_;
  index_t cols_;
  std::vector<float> row_;           // m zeros, the scores, and zeros
  std::vector<std::int32_t> place_;  // of a score in its group; from any group's start on
};

}  // namespace pare::inline PARE_ABI::detail
