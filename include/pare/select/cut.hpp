// SPDX-License-Identifier: Apache-2.0
// Where a pool is cut: the k-th lowest of n scores, exactly, by counting.
//
// A small sample says between which two scores the k-th lowest probably lies; one pass counts what is below each of the
// two, so the claim is checked, not trusted. Further passes narrow the range by interpolation until it holds few
// scores, and those are put in order (Floyd & Rivest 1975 bracket with a sample too, but move the elements). Passes
// compare and count only: compilers vectorise them for any instruction set, and the scores stay where they are.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include <pare/core/random.hpp>
#include <pare/mask/mask.hpp>
#include <pare/select/order.hpp>

namespace pare::inline PARE_ABI::detail {

/// Which units of a pool go: all that score below `score`, and the first `ties` of those equal to it; `stay` others
/// equal to it are kept.
struct cut {
  float score = -std::numeric_limits<float>::infinity();
  index_t ties = 0;
  index_t stay = 0;
};

/// How many scores are below `low`, are at most `high`, and are not NaN.
struct tally {
  index_t below = 0;
  index_t upto = 0;
  index_t numbers = 0;

  /// Pre: n < 2^32.
  void add(float const* x, index_t n, float low, float high) noexcept {
    std::uint32_t b = 0;
    std::uint32_t u = 0;
    std::uint32_t ordered = 0;
    auto const one = [&](float score) {
      b += score < low;
      u += score <= high;
      ordered += score == score;
    };
    index_t i = 0;
    for (; i + mask::word_bits <= n; i += mask::word_bits)
      for (index_t j = 0; j < mask::word_bits; ++j) one(x[i + j]);  // of fixed length: vectorised at -O2 too
    for (; i < n; ++i) one(x[i]);
    below += b;
    upto += u;
    numbers += ordered;
  }
};

/// Finds the k-th lowest of the n scores of a pool, 0 <= k <= n. each_row(f) calls f(float const* x, index_t count) for
/// the rows of the pool in order. Throws (contract) where a score is NaN. Memory: a key for each 64 scores. Time: O(n);
/// about 3 passes over scores that are spread as those of weights are, at worst 100, since of three passes one at least
/// halves the range.
class cut_finder {
 public:
  template <class EachRow>
  [[nodiscard]] cut operator()(EachRow const& each_row, index_t n, index_t k) {
    range_ = {};
    below_ = 0;
    upto_ = n;
    index_t const few = std::max<index_t>(64, n / 64);
    key_range guess = n > few && k > 0 ? guess_by_sample(each_row, n, k) : range_;
    for (int misses = 0;;) {
      tally t;
      each_row([&](float const* x, index_t count) { t.add(x, count, score_of(guess.low), score_of(guess.high)); });
      PARE_EXPECTS(t.numbers == n, "select: a score is NaN, so there is no order to select by");
      if (k == 0) return {};
      bool const hit = narrow(guess, t, k);
      if (range_.low == range_.high) return {score_of(range_.low), k - below_, upto_ - k};
      if (upto_ - below_ <= few) return cut_among(each_row, k);
      misses = hit ? 0 : misses + 1;
      guess = misses % 3 < 2 ? guess_by_rank(k) : guess_in_the_middle();  // whose range is halved by a miss too
    }
  }

 private:
  /// Both ends belong to it.
  struct key_range {
    std::int32_t low = order_key(-std::numeric_limits<float>::infinity());
    std::int32_t high = order_key(std::numeric_limits<float>::infinity());
  };

  /// Three standard deviations of the sample's rank to both sides.
  template <class EachRow>
  [[nodiscard]] key_range guess_by_sample(EachRow const& each_row, index_t n, index_t k) {
    index_t const size = std::clamp<index_t>(n / 128, 64, 1 << 16);
    keys_.clear();
    random_source random;
    index_t const step = n / size;
    index_t first = 0;  // of the row
    index_t next = 0;
    each_row([&](float const* x, index_t count) {
      for (; next < first + count; next = std::ssize(keys_) * step + random.below(step))
        keys_.push_back(order_key(x[next - first]));
      first += count;
    });
    return guess_in_sample(k, n);
  }

  [[nodiscard]] key_range guess_in_sample(index_t k, index_t n) {
    auto const size = static_cast<double>(keys_.size());
    double const share = static_cast<double>(k) / static_cast<double>(n);
    auto const spread = static_cast<index_t>(3.0 * math::sqrt(size * share * (1.0 - share))) + 1;
    auto const rank = static_cast<index_t>(size * share);
    key_range guess;
    auto lowest = keys_.begin();
    if (rank - spread > 0) {
      lowest += rank - spread;
      std::nth_element(keys_.begin(), lowest, keys_.end());
      guess.low = std::clamp(*lowest, range_.low, range_.high);
    }
    if (rank + spread < std::ssize(keys_)) {
      auto const highest = keys_.begin() + rank + spread;
      std::nth_element(lowest, highest, keys_.end());
      guess.high = std::clamp(*highest, range_.low, range_.high);
    }
    return guess;
  }

  /// Where the k-th lowest lies if the keys in the range are spread evenly, with room for what they are not: for a
  /// slope of their density, and for chance.
  [[nodiscard]] key_range guess_by_rank(index_t k) const {
    std::int64_t const width = std::int64_t{range_.high} - range_.low;
    auto const inside = static_cast<double>(upto_ - below_);
    double const share = (static_cast<double>(k - below_) - 0.5) / inside;
    double const both = share * (1.0 - share);
    double const room = both / 8.0 + 2.0 * math::sqrt(both / inside);
    auto const key = [&](double part) {
      return range_.low + static_cast<std::int64_t>(static_cast<double>(width) * std::clamp(part, 0.0, 1.0));
    };
    std::int64_t const low = key(share - room);
    std::int64_t const high = std::min(key(share + room), low + width / 2);  // a guess is less than the range
    return {static_cast<std::int32_t>(low), static_cast<std::int32_t>(high)};
  }
  [[nodiscard]] key_range guess_in_the_middle() const {
    std::int32_t const middle = std::midpoint(range_.low, range_.high);
    return {middle, middle};
  }

  /// Takes in what a tally of `guess` says; whether the k-th lowest is in the guess.
  bool narrow(key_range guess, tally t, index_t k) {
    if (t.below >= k) {
      range_.high = guess.low - 1;
      upto_ = t.below;
    } else if (t.upto < k) {
      range_.low = guess.high + 1;
      below_ = t.upto;
    } else {
      range_ = guess;
      below_ = t.below;
      upto_ = t.upto;
      return true;
    }
    return false;
  }

  /// Puts the scores in the range in order.
  template <class EachRow>
  [[nodiscard]] cut cut_among(EachRow const& each_row, index_t k) {
    float const low = score_of(range_.low);
    float const high = score_of(range_.high);
    keys_.clear();
    keys_.reserve(static_cast<std::size_t>(upto_ - below_));
    each_row([&](float const* x, index_t count) {
      for (index_t i = 0; i < count; i += mask::word_bits, x += mask::word_bits) {
        auto const inside = [x, low, high](index_t j) { return (x[j] >= low) & (x[j] <= high); };
        for (auto bits = mask::pack(std::min(count - i, mask::word_bits), inside); bits != 0; bits &= bits - 1)
          keys_.push_back(order_key(x[std::countr_zero(bits)]));
      }
    });
    // Not so where a compiler was told that there is no NaN, and there is one.
    PARE_EXPECTS(std::ssize(keys_) == upto_ - below_, "select: a score is NaN, so there is no order to select by");
    auto const kth = keys_.begin() + (k - below_ - 1);
    std::nth_element(keys_.begin(), kth, keys_.end());
    index_t const ties = 1 + std::count(keys_.begin(), kth, *kth);
    return {score_of(*kth), ties, std::count(kth + 1, keys_.end(), *kth)};
  }

  key_range range_;    // of the k-th lowest
  index_t below_ = 0;  // how many scores are lower than the range
  index_t upto_ = 0;   // the same and those in the range
  std::vector<std::int32_t> keys_;
};

/// Writes what a cut keeps of n scores to the words of a mask, and takes the ties that go from `at.ties`.
inline void write_kept(float const* x, index_t n, cut& at, mask::word* words) noexcept {
  for (index_t i = 0; i < n; i += mask::word_bits, x += mask::word_bits) {
    index_t const count = std::min(n - i, mask::word_bits);
    mask::word not_lower = 0;
    mask::word higher = 0;
    if (at.ties == 0 || at.stay > 0)
      not_lower = mask::pack(count, [x, score = at.score](index_t j) { return x[j] >= score; });
    if (at.ties > 0) higher = mask::pack(count, [x, score = at.score](index_t j) { return x[j] > score; });
    for (auto ties = not_lower & ~higher; at.ties > 0 && ties != 0; ties &= ties - 1) {
      not_lower ^= ties & -ties;
      --at.ties;
    }
    *words++ = not_lower | higher;
  }
}

}  // namespace pare::inline PARE_ABI::detail
