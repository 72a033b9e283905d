// SPDX-License-Identifier: Apache-2.0
// Channel permutation for N:M: an order of the input channels with which the groups keep more of the score, and its
// inverse for the layer that produces these inputs (Pool & Yu 2021, "Channel Permutations for N:M Sparsity", NeurIPS,
// as in NVIDIA's ASP; the start is RIA's, Zhang et al. 2024, "Plug-and-Play", ICLR).
//
//   y = W2 f(W1 x + b1)  =  permute_columns(W2, p) f(permute_rows(W1, p) x + permuted(b1, p))     (f elementwise)
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <pare/core/progress.hpp>
#include <pare/core/random.hpp>
#include <pare/core/result.hpp>
#include <pare/core/math.hpp>
#include <pare/select/select.hpp>

namespace pare::inline PARE_ABI {

struct permute_options {
  index_t escapes = 100;   // attempts to leave a local optimum
  index_t sweeps = 10000;  // over all pairs of stripes that changed: the budget
  std::uint64_t seed = 0;  // of the escapes
  pare::progress progress{};
};

/// Position j of the permuted matrix holds column order[j]. `kept_*`: the sum of the scores that N:M keeps.
struct column_permutation {
  std::vector<index_t> order;
  double kept_before = 0.0;
  double kept_after = 0.0;
};

namespace detail {

/// Local search over the assignment of columns to stripes (M consecutive positions each): for pairs of stripes, the
/// best exchange of columns between them, until no pair can gain. Rows lie along the memory, so that compilers
/// vectorise.
class stripe_search {
 public:
  /// units (R, K): scores, finite.
  stripe_search(matrix_span<float const> units, index_t keep, index_t of)
      : keep_(keep),
        of_(of),
        stripes_(units.cols / of),
        rows_(round_up(units.rows, lanes)),
        columns_(units.cols, rows_),
        kept_(static_cast<std::size_t>(stripes_)),
        changed_(kept_.size(), 1),
        seen_(kept_.size() * kept_.size(), 0) {
    for (index_t c = 0; c < units.cols; ++c)
      for (index_t r = 0; r < units.rows; ++r) columns_(c, r) = units(r, c);
    if (!exhaustive()) {
      thresholds_ = matrix<float>(units.cols, rows_);
      without_.resize(static_cast<std::size_t>(units.cols));
    }
    order_.resize(static_cast<std::size_t>(units.cols));
    std::iota(order_.begin(), order_.end(), index_t{0});
    assign(order_);
  }

  [[nodiscard]] std::vector<index_t> const& order() const noexcept { return order_; }
  [[nodiscard]] double kept() const { return std::accumulate(kept_.begin(), kept_.end(), 0.0); }

  void assign(std::vector<index_t> const& order) {
    order_ = order;
    for (index_t s = 0; s < stripes_; ++s) refresh(s);
  }

  /// RIA's start: columns by falling sum are dealt to the stripes, to and fro.
  [[nodiscard]] std::vector<index_t> snake_deal() const {
    std::vector<double> sums(order_.size());
    for (std::size_t c = 0; c < sums.size(); ++c)
      for (index_t r = 0; r < rows_; ++r) sums[c] += static_cast<double>(columns_(static_cast<index_t>(c), r));
    std::vector<index_t> by_sum(order_.size());
    std::iota(by_sum.begin(), by_sum.end(), index_t{0});
    std::stable_sort(by_sum.begin(), by_sum.end(), [&](index_t a, index_t b) {
      return sums[static_cast<std::size_t>(a)] > sums[static_cast<std::size_t>(b)];
    });
    std::vector<index_t> dealt(order_.size());
    for (index_t i = 0; i < std::ssize(dealt); ++i) {
      index_t const turn = i / stripes_;
      index_t const stripe = turn % 2 == 0 ? i % stripes_ : stripes_ - 1 - i % stripes_;
      dealt[static_cast<std::size_t>(stripe * of_ + turn)] = by_sum[static_cast<std::size_t>(i)];
    }
    return dealt;
  }

  /// Searches from the present order on. False where `progress` cancelled.
  bool run(permute_options const& options) {
    if (stripes_ < 2) return true;
    random_source random(options.seed);
    index_t sweeps = options.sweeps;
    auto best_order = order_;
    auto best_changed = changed_;
    auto best_seen = seen_;
    double best = kept();
    for (index_t attempt = 0; attempt <= options.escapes; ++attempt) {
      if (attempt > 0) kick(random);
      bool any = true;
      while (any && sweeps-- > 0)
        if (!sweep(options.progress, attempt, options.escapes + 1, any)) return false;
      if (double const now = kept(); now > best || attempt == 0) {
        best = now;
        best_order = order_;
        best_changed = changed_;
        best_seen = seen_;
      } else {
        restore(best_order);
        changed_ = best_changed;
        seen_ = best_seen;
      }
      if (sweeps < 0) break;
    }
    return true;
  }

 private:
  static constexpr index_t lanes = 32;       // more than compilers unroll, so that they vectorise instead
  static constexpr index_t chunk = 256;      // rows that are summed in float
  static constexpr double tolerance = 2e-6;  // of what two stripes keep: above the rounding of such sums
  static constexpr int pairs = 28;           // of 8 columns
  static constexpr int ways = 35;            // to split 8 columns into two groups of 4

  /// 2:4 tries all ways to split the columns of two stripes; other patterns try all swaps of two columns.
  [[nodiscard]] bool exhaustive() const noexcept { return keep_ == 2 && of_ == 4; }

  [[nodiscard]] float const* column(index_t position) const noexcept {
    return columns_.row(order_[static_cast<std::size_t>(position)]);
  }

  /// Recomputes what a stripe keeps, and for swaps: for each of its columns, what the others keep without it and, in
  /// each row, the value above which another column would be kept in its place.
  void refresh(index_t stripe) {
    index_t const first = stripe * of_;
    double total = 0.0;
    std::vector<float> sorted(static_cast<std::size_t>(of_));
    auto const n = static_cast<std::size_t>(keep_);
    if (!exhaustive()) std::fill_n(without_.begin() + first, of_, 0.0);
    for (index_t r = 0; r < rows_; ++r) {
      for (index_t i = 0; i < of_; ++i) sorted[static_cast<std::size_t>(i)] = column(first + i)[r];
      std::sort(sorted.begin(), sorted.end(), [](float a, float b) { return a > b; });
      double row = 0.0;
      for (std::size_t i = 0; i < n; ++i) row += static_cast<double>(sorted[i]);
      total += row;
      if (exhaustive()) continue;
      for (index_t i = first; i < first + of_; ++i) {
        float const v = column(i)[r];
        bool const is_kept = v >= sorted[n - 1];
        thresholds_(i, r) = is_kept ? sorted[n] : sorted[n - 1];
        without_[static_cast<std::size_t>(i)] +=
            is_kept ? row - static_cast<double>(v) + static_cast<double>(sorted[n]) : row;
      }
    }
    kept_[static_cast<std::size_t>(stripe)] = total;
  }

  void touch(index_t stripe) {
    refresh(stripe);
    changed_[static_cast<std::size_t>(stripe)] = ++clock_;
  }

  void restore(std::vector<index_t> const& order) {
    for (index_t s = 0; s < stripes_; ++s) {
      auto const from = order.begin() + s * of_;
      auto const to = order_.begin() + s * of_;
      if (std::equal(from, from + of_, to)) continue;
      std::copy_n(from, of_, to);
      refresh(s);
    }
  }

  /// Rotates one column of each of three stripes (swaps, where there are only two): no single exchange undoes it.
  void kick(random_source& random) {
    index_t const a = random.below(stripes_);
    index_t const b = (a + 1 + random.below(stripes_ - 1)) % stripes_;
    auto const pick = [&](index_t stripe) -> index_t& {
      return order_[static_cast<std::size_t>(stripe * of_ + random.below(of_))];
    };
    std::swap(pick(a), pick(b));
    touch(a);
    if (stripes_ > 2) {
      index_t c = random.below(stripes_ - 2);
      if (c >= std::min(a, b)) ++c;
      if (c >= std::max(a, b)) ++c;
      std::swap(pick(b), pick(c));
      touch(c);
    }
    touch(b);
  }

  /// Every pair of stripes of which one changed since it was looked at last. `any`: whether something changed.
  bool sweep(progress const& report, index_t done, index_t total, bool& any) {
    any = false;
    for (index_t s = 0; s + 1 < stripes_; ++s) {
      if (!report("permute", done, total)) return false;
      for (index_t t = s + 1; t < stripes_; ++t) {
        std::uint32_t& seen = seen_[static_cast<std::size_t>(s * stripes_ + t)];
        if (changed_[static_cast<std::size_t>(s)] <= seen && changed_[static_cast<std::size_t>(t)] <= seen) continue;
        seen = clock_;
        bool const gained = exhaustive() ? split_anew(s, t) : swap_columns(s, t);
        if (!gained) continue;
        any = true;
        touch(s);
        touch(t);
        if (exhaustive()) seen = clock_;  // nothing is left to gain between these two
      }
    }
    return true;
  }

  [[nodiscard]] double worth(index_t s, index_t t) const {
    double const both = kept_[static_cast<std::size_t>(s)] + kept_[static_cast<std::size_t>(t)];
    return tolerance * (both < 0.0 ? -both : both);
  }

  /// A group of four as two pairs of columns; a way is two groups.
  struct way {
    int group[2][4];  // columns of the window, 0..7
    int pair[2][2];   // the pairs (0, 1) and (2, 3) of each group, by number
  };
  static constexpr int pair_number(int a, int b) noexcept { return a * (15 - a) / 2 + b - a - 1; }  // a < b
  static constexpr auto all_ways() noexcept {
    struct table {
      way at[ways];
    } out{};
    int n = 0;
    for (int a = 1; a < 8; ++a)
      for (int b = a + 1; b < 8; ++b)
        for (int c = b + 1; c < 8; ++c) {
          way& w = out.at[n++];
          int count[2] = {0, 0};
          for (int i = 0; i < 8; ++i) {
            int const side = i == 0 || i == a || i == b || i == c ? 0 : 1;
            w.group[side][count[side]++] = i;
          }
          for (int side = 0; side < 2; ++side)
            for (int half = 0; half < 2; ++half)
              w.pair[side][half] = pair_number(w.group[side][2 * half], w.group[side][2 * half + 1]);
        }
    return out;
  }

  /// 2:4: the best of all 35 ways to split the eight columns of two stripes. The two largest of a group of two pairs
  /// are one of each pair, or a pair: max(high + high', max(sum, sum')).
  bool split_anew(index_t s, index_t t) {
    static constexpr auto table = all_ways();
    float const* in[8];
    for (index_t i = 0; i < 4; ++i) {
      in[i] = column(s * 4 + i);
      in[4 + i] = column(t * 4 + i);
    }
    double total[ways] = {};
    for (index_t from = 0; from < rows_; from += chunk) {
      alignas(64) float partial[ways][lanes] = {};
      index_t const end = std::min(from + chunk, rows_);
      for (index_t r = from; r < end; r += lanes) {
        alignas(64) float high[pairs][lanes];
        alignas(64) float sum[pairs][lanes];
        int p = 0;
        for (int a = 0; a < 8; ++a)
          for (int b = a + 1; b < 8; ++b, ++p)
            for (index_t l = 0; l < lanes; ++l) {
              float const x = in[a][r + l];
              float const y = in[b][r + l];
              high[p][l] = x > y ? x : y;
              sum[p][l] = x + y;
            }
        for (int w = 0; w < ways; ++w) {
          auto const& pair = table.at[w].pair;
          for (index_t l = 0; l < lanes; ++l) {
            float const across = high[pair[0][0]][l] + high[pair[0][1]][l];
            float const within = sum[pair[0][0]][l] > sum[pair[0][1]][l] ? sum[pair[0][0]][l] : sum[pair[0][1]][l];
            float const across2 = high[pair[1][0]][l] + high[pair[1][1]][l];
            float const within2 = sum[pair[1][0]][l] > sum[pair[1][1]][l] ? sum[pair[1][0]][l] : sum[pair[1][1]][l];
            partial[w][l] += (across > within ? across : within) + (across2 > within2 ? across2 : within2);
          }
        }
      }
      for (int w = 0; w < ways; ++w)
        for (index_t l = 0; l < lanes; ++l) total[w] += static_cast<double>(partial[w][l]);
    }
    int best = 0;  // the first way is {0, 1, 2, 3}: as it is
    for (int w = 1; w < ways; ++w)
      if (total[w] > total[best]) best = w;
    if (!(total[best] - total[0] > worth(s, t))) return false;
    index_t old[8];
    for (index_t i = 0; i < 4; ++i) {
      old[i] = order_[static_cast<std::size_t>(s * 4 + i)];
      old[4 + i] = order_[static_cast<std::size_t>(t * 4 + i)];
    }
    for (index_t i = 0; i < 4; ++i) {
      order_[static_cast<std::size_t>(s * 4 + i)] = old[table.at[best].group[0][i]];
      order_[static_cast<std::size_t>(t * 4 + i)] = old[table.at[best].group[1][i]];
    }
    return true;
  }

  /// What a stripe gains by the column x in the place of the one at `position`: sum of max(0, x - threshold).
  [[nodiscard]] double inflow(float const* x, index_t position) const {
    float const* const threshold = thresholds_.row(position);
    double total = 0.0;
    for (index_t from = 0; from < rows_; from += chunk) {
      float partial[lanes] = {};
      index_t const end = std::min(from + chunk, rows_);
      for (index_t r = from; r < end; r += lanes)
        for (index_t l = 0; l < lanes; ++l) {
          float const d = x[r + l] - threshold[r + l];
          partial[l] += d > 0.0f ? d : 0.0f;
        }
      for (float const p : partial) total += static_cast<double>(p);
    }
    return total;
  }

  /// The best swap of a column of one stripe with one of the other.
  bool swap_columns(index_t s, index_t t) {
    double best = worth(s, t);
    index_t best_a = -1;
    index_t best_b = -1;
    double const now = kept_[static_cast<std::size_t>(s)] + kept_[static_cast<std::size_t>(t)];
    for (index_t a = s * of_; a < (s + 1) * of_; ++a)
      for (index_t b = t * of_; b < (t + 1) * of_; ++b) {
        double const gain = without_[static_cast<std::size_t>(a)] + inflow(column(b), a) +
                            without_[static_cast<std::size_t>(b)] + inflow(column(a), b) - now;
        if (gain > best) best = gain, best_a = a, best_b = b;
      }
    if (best_a < 0) return false;
    std::swap(order_[static_cast<std::size_t>(best_a)], order_[static_cast<std::size_t>(best_b)]);
    return true;
  }

  index_t keep_;
  index_t of_;
  index_t stripes_;
  index_t rows_;           // padded with zeros, which keep nothing
  matrix<float> columns_;  // (K, rows): the scores of each column
  std::vector<index_t> order_;
  std::vector<double> kept_;            // by stripe
  matrix<float> thresholds_;            // by position
  std::vector<double> without_;         // by position
  std::vector<std::uint32_t> changed_;  // when, by stripe
  std::vector<std::uint32_t> seen_;     // when, by pair
  std::uint32_t clock_ = 1;
};

inline void require_permutation(std::span<index_t const> order, index_t n) {
  PARE_EXPECTS(std::ssize(order) == n, "permutation: it must have as many entries as there are channels");
  std::vector<bool> there(order.size(), false);
  for (index_t const c : order) {
    PARE_EXPECTS(c >= 0 && c < n && !there[static_cast<std::size_t>(c)], "permutation: every channel must occur once");
    there[static_cast<std::size_t>(c)] = true;
  }
}

}  // namespace detail

/// Searches an order of the columns of `scores` (M, K) with which the N:M pattern keeps a larger sum of scores. Starts
/// from the better of the given order and RIA's deal; 2:4 then takes the best of all exchanges between two stripes of
/// four, other patterns the best swap of two columns, until no pair of stripes gains; then it moves three columns at
/// random and searches again, `escapes` times, keeping what is better. Deterministic; never worse than the given order.
/// Columns of a group are in ascending order, and groups by their first column.
/// Pre: the pattern is N:M and fits; scores are finite. Error: cancelled by progress.
/// O(K^2 M) for each sweep over all pairs (the first few), O(K M) for those after an escape; memory: the scores twice
/// (2:4: once), and K^2 / M^2 words.
template <matrix_view Scores, sparsity_pattern P>
[[nodiscard]] result<column_permutation> find_permutation(Scores const& scores, P const& pattern,
                                                          permute_options const& options = {}) {
  static_assert(fixed_ratio_pattern<P> || std::is_same_v<P, any_pattern>,
                "pare::find_permutation: only N:M depends on the order of the inputs");
  PARE_EXPECTS(pattern.of() > 0, "find_permutation: only N:M depends on the order of the inputs");
  PARE_EXPECTS(options.escapes >= 0 && options.sweeps >= 0, "find_permutation: a budget must not be negative");
  matrix<float> const units = unit_scores(as_span(scores), pattern);
  for (index_t i = 0; i < units.size(); ++i)
    PARE_EXPECTS(math::is_finite(units.data()[i]), "find_permutation: a score is NaN or infinite");
  detail::stripe_search search(units.span(), pattern.keep(), pattern.of());
  column_permutation out{search.order(), search.kept(), search.kept()};
  auto const given = out.order;
  search.assign(search.snake_deal());
  if (!(search.kept() > out.kept_before)) search.assign(given);
  if (!search.run(options)) return error{errc::cancelled, "permute", "cancelled"};
  if (!(search.kept() > out.kept_before)) return out;

  out.kept_after = search.kept();
  std::vector<std::vector<index_t>> stripes;
  for (auto at = search.order().begin(); at != search.order().end(); at += pattern.of()) {
    stripes.emplace_back(at, at + pattern.of());
    std::sort(stripes.back().begin(), stripes.back().end());
  }
  std::sort(stripes.begin(), stripes.end());
  out.order.clear();
  for (auto const& stripe : stripes) out.order.insert(out.order.end(), stripe.begin(), stripe.end());
  return out;
}

/// Column j of the result is column order[j] of w (M, K): the consumer of permuted channels. O(M K).
template <matrix_view W>
[[nodiscard]] matrix<element_t<W>> permute_columns(W const& weights, std::span<index_t const> order) {
  auto const w = as_span(weights);
  detail::require_permutation(order, w.cols);
  matrix<element_t<W>> out(w.shape());
  for (index_t i = 0; i < w.rows; ++i)
    for (index_t j = 0; j < w.cols; ++j) out(i, j) = w(i, order[static_cast<std::size_t>(j)]);
  return out;
}

/// Row i of the result is row order[i] of w (M, K): the producer of permuted channels, M of them. O(M K).
template <matrix_view W>
[[nodiscard]] matrix<element_t<W>> permute_rows(W const& weights, std::span<index_t const> order) {
  auto const w = as_span(weights);
  detail::require_permutation(order, w.rows);
  matrix<element_t<W>> out(w.shape());
  for (index_t i = 0; i < w.rows; ++i)
    for (index_t j = 0; j < w.cols; ++j) out(i, j) = w(order[static_cast<std::size_t>(i)], j);
  return out;
}

/// Entry i of the result is values[order[i]]: a producer's bias, or the scale of a norm.
[[nodiscard]] inline std::vector<float> permuted(std::span<float const> values, std::span<index_t const> order) {
  detail::require_permutation(order, std::ssize(values));
  std::vector<float> out;
  for (index_t const c : order) out.push_back(values[static_cast<std::size_t>(c)]);
  return out;
}

}  // namespace pare::inline PARE_ABI
