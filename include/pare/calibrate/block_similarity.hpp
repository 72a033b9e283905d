// SPDX-License-Identifier: Apache-2.0
// How much blocks of a transformer change their hidden states: block influence (ShortGPT, Men et al. 2024, arXiv
// 2403.03853) and the angular distance (Gromov et al. 2024, arXiv 2403.17887; CFSP, Wang et al. 2025).
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include <pare/core/reduce.hpp>
#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI {

/// The change between the hidden states before and after one block (or several), token by token:
///   influence = mean of 1 - cos(h_in, h_out), angle = mean of arccos(cos) / pi, both 0 where the direction stays.
/// A cosine that is no number (a state of zeros, or one with NaN) counts as 1/2, as in the published code of both;
/// rounding does not carry a cosine out of [-1, 1]. The sums, which published code ranks by, are mean times samples.
/// In double; the order of batches changes rounding only.
class block_similarity {
 public:
  /// before, after (T, hidden), any strides: T tokens. O(T hidden).
  void add(matrix_span<float const> before, matrix_span<float const> after) {
    PARE_EXPECTS(before.shape() == after.shape(),
                 "block_similarity::add: the states before and after must have one shape");
    for (index_t t = 0; t < before.rows; ++t) {
      auto const dot = [t](matrix_span<float const> x, matrix_span<float const> y) {
        return sum_of<double>(x.cols,
                              [&](index_t k) { return static_cast<double>(x(t, k)) * static_cast<double>(y(t, k)); });
      };
      double c = dot(before, after) / (std::sqrt(dot(before, before)) * std::sqrt(dot(after, after)));
      if (!(c - c == 0.0)) c = 0.5;
      c = c < -1.0 ? -1.0 : (c > 1.0 ? 1.0 : c);
      influence_ += 1.0 - c;
      angle_ += std::acos(c) / 3.14159265358979323846;
    }
    samples_ += before.rows;
  }
  void merge(block_similarity const& other) noexcept {
    influence_ += other.influence_;
    angle_ += other.angle_;
    samples_ += other.samples_;
  }

  /// Tokens seen.
  [[nodiscard]] index_t samples() const noexcept { return samples_; }
  /// In [0, 2]; 0 before the first token.
  [[nodiscard]] double influence() const noexcept { return mean(influence_); }
  /// In [0, 1]; 0 before the first token.
  [[nodiscard]] double angle() const noexcept { return mean(angle_); }

 private:
  [[nodiscard]] double mean(double sum) const noexcept {
    return samples_ == 0 ? 0.0 : sum / static_cast<double>(samples_);
  }

  double influence_ = 0.0;
  double angle_ = 0.0;
  index_t samples_ = 0;
};

/// The same for every run of `length` blocks that follow each other: run f spans blocks f .. f + length - 1. Runs of 1
/// are ShortGPT's; longer ones find the blocks that can be dropped together.
class run_similarity {
 public:
  /// The tokens of a sequence that count: all (ShortGPT, CFSP), or its last one (Gromov et al.).
  enum class tokens { all, last };

  /// Pre: 0 < length <= blocks.
  explicit run_similarity(index_t blocks, index_t length = 1, tokens which = tokens::all)
      : length_(length), which_(which) {
    PARE_EXPECTS(0 < length && length <= blocks, "run_similarity: a run has at least one block and at most all");
    runs_.resize(static_cast<std::size_t>(blocks - length + 1));
  }

  /// states: blocks + 1 matrices (T, hidden) of one sequence: what goes into the first block, and what comes out of
  /// each. O(runs T hidden).
  void add(std::span<matrix_span<float const> const> states) {
    PARE_EXPECTS(std::ssize(states) == runs() + length_,
                 "run_similarity::add: one more matrix of states than there are blocks");
    for (auto const& s : states)
      PARE_EXPECTS(s.shape() == states[0].shape(), "run_similarity::add: the states must have one shape");
    for (index_t f = 0; f < runs(); ++f) {
      auto before = states[static_cast<std::size_t>(f)];
      auto after = states[static_cast<std::size_t>(f + length_)];
      if (which_ == tokens::last && before.rows > 0) {
        before = before.row_range(before.rows - 1, 1);
        after = after.row_range(after.rows - 1, 1);
      }
      runs_[static_cast<std::size_t>(f)].add(before, after);
    }
  }
  void merge(run_similarity const& other) {
    PARE_EXPECTS(other.runs() == runs() && other.length_ == length_ && other.which_ == which_,
                 "run_similarity::merge: both must be of the same runs and tokens");
    for (std::size_t f = 0; f < runs_.size(); ++f) runs_[f].merge(other.runs_[f]);
  }

  /// How many runs there are: blocks - length + 1.
  [[nodiscard]] index_t runs() const noexcept { return static_cast<index_t>(runs_.size()); }
  /// The run that begins with block `first`.
  [[nodiscard]] block_similarity const& run(index_t first) const noexcept {
    return runs_[static_cast<std::size_t>(first)];
  }
  /// The first block of the run with the smallest angle, the lowest of equal ones: dropping it changes least.
  [[nodiscard]] index_t closest() const noexcept {
    index_t best = 0;
    for (index_t f = 1; f < runs(); ++f)
      if (run(f).angle() < run(best).angle()) best = f;
    return best;
  }

 private:
  std::vector<block_similarity> runs_;
  index_t length_;
  tokens which_;
};

}  // namespace pare::inline PARE_ABI
