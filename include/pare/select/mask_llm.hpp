// SPDX-License-Identifier: Apache-2.0
// MaskLLM: an N:M mask as one categorical choice a group, from learned logits (Fang et al. 2024, arXiv 2409.17481).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include <pare/core/random.hpp>
#include <pare/core/reduce.hpp>
#include <pare/pattern/pattern.hpp>

namespace pare::inline PARE_ABI {

/// The C(M, N) ways to keep n of m inputs; bit j of a choice is input j of the group. In the order of the published
/// code: lower inputs first (2:4: 1100, 1010, 1001, 0110, 0101, 0011 from input 0 on). Pre: 0 < n < m <= 16.
[[nodiscard]] inline std::vector<std::uint32_t> n_of_m_choices(index_t n, index_t m) {
  PARE_EXPECTS(0 < n && n < m && m <= 16, "n_of_m_choices: N:M keeps N of M with 0 < N < M <= 16");
  std::vector<std::uint32_t> choices;
  for (std::uint32_t bits = std::uint32_t{1} << m; bits-- > 0;) {  // input 0 as the highest bit: descending order
    if (std::popcount(bits) != static_cast<int>(n)) continue;
    std::uint32_t choice = 0;
    for (index_t j = 0; j < m; ++j) choice |= ((bits >> (m - 1 - j)) & 1u) << j;
    choices.push_back(choice);
  }
  return choices;
}

/// The learned choice of every group of weights (M, K): logits (M K / of, C(of, keep)), the groups row by row.
///
/// Training draws `soft_mask` with a scale and a temperature that a schedule changes (published: scale 1e2 -> 5e2,
/// temperature 4 -> 0.05, linearly); what is kept in the end is `best`. The weights stay as they are.
class mask_llm {
 public:
  /// Logits from a normal distribution of mean 0 and deviation `spread`. Pre: the pattern is N:M with M <= 16 and units
  /// of one weight, and tiles `weights`. O(M K).
  mask_llm(extents weights, any_pattern const& pattern, std::uint64_t seed, double spread = 0.01)
      : shape_(weights), group_(pattern.of()), choices_(choices_of(weights, pattern)) {
    logits_ = matrix<float>(weights.size() / group_, choice_count());
    random_source random(seed);
    for (index_t i = 0; i < logits_.size(); ++i)
      logits_.data()[i] = static_cast<float>(spread * static_cast<double>(random.normal()));
  }

  /// (M K / of, C(of, keep)); a trainer writes them.
  [[nodiscard]] matrix<float>& logits() noexcept { return logits_; }
  [[nodiscard]] matrix<float> const& logits() const noexcept { return logits_; }
  /// The choices that the columns of the logits stand for.
  [[nodiscard]] std::vector<std::uint32_t> const& choices() const noexcept { return choices_; }

  /// Makes the choices likely that agree with a mask found otherwise (SparseGPT, Wanda, magnitude):
  /// logits += strength (overlap - 1) sd(logits), overlap the inputs that choice and mask both keep, sd over all logits
  /// with n - 1. The -1 shifts all logits of a group of an N:M mask alike and changes nothing. Pre: prior's shape is
  /// (M, K).
  void add_prior(mask const& prior, double strength = 3.0) {
    PARE_EXPECTS(prior.shape() == shape_, "mask_llm::add_prior: the prior must have the weights' shape");
    index_t const n = logits_.size();
    if (n < 2) return;
    auto const logit = [&](index_t i) { return static_cast<double>(logits_.data()[i]); };
    double const mean = sum_of<double>(n, logit) / static_cast<double>(n);
    double const squares = sum_of<double>(n, [&](index_t i) { return (logit(i) - mean) * (logit(i) - mean); });
    double const step = strength * std::sqrt(squares / static_cast<double>(n - 1));
    for (index_t g = 0; g < logits_.rows(); ++g) {
      std::uint32_t kept = 0;
      for (index_t j = 0; j < group_; ++j) kept |= (prior(row_of(g), column_of(g) + j) ? 1u : 0u) << j;
      for (index_t c = 0; c < choice_count(); ++c) {
        int const overlap = std::popcount(kept & choices_[static_cast<std::size_t>(c)]);
        logits_(g, c) = static_cast<float>(static_cast<double>(logits_(g, c)) + step * (overlap - 1));
      }
    }
  }

  /// The mask of the highest logit of each group, the first of equal ones. Pre: no logit is NaN.
  [[nodiscard]] mask best() const {
    mask keep(shape_);
    for (index_t g = 0; g < logits_.rows(); ++g) keep_choice(keep, g, argmax(logits_.row(g), choice_count()));
    return keep;
  }

  /// One mask drawn at random: choice c of a group with the probability softmax(scale logits)_c.
  [[nodiscard]] mask sample(std::uint64_t seed, double scale = 1.0) const {
    mask keep(shape_);
    random_source random(seed);
    matrix<float> noisy(1, choice_count());
    for (index_t g = 0; g < logits_.rows(); ++g) {
      for (index_t c = 0; c < choice_count(); ++c) noisy(0, c) = static_cast<float>(perturbed(g, c, scale, random));
      keep_choice(keep, g, argmax(noisy.data(), choice_count()));
    }
    return keep;
  }

  /// The Gumbel-softmax mask (M, K), in [0, 1]: sum_c y_c choice_c with y = softmax((scale logits + gumbel) /
  /// temperature), the noise that `sample` of this seed draws. Each group sums to N. Pre: temperature > 0.
  [[nodiscard]] matrix<float> soft_mask(std::uint64_t seed, double scale, double temperature) const {
    PARE_EXPECTS(temperature > 0.0, "mask_llm::soft_mask: the temperature must be positive");
    matrix<float> soft(shape_);
    random_source random(seed);
    matrix<double> y(1, choice_count());
    for (index_t g = 0; g < logits_.rows(); ++g) {
      double highest = 0.0;
      for (index_t c = 0; c < choice_count(); ++c) {
        y(0, c) = perturbed(g, c, scale, random) / temperature;
        highest = c == 0 || y(0, c) > highest ? y(0, c) : highest;
      }
      double sum = 0.0;
      for (index_t c = 0; c < choice_count(); ++c) sum += y(0, c) = std::exp(y(0, c) - highest);
      for (index_t j = 0; j < group_; ++j) {
        double kept = 0.0;
        for (index_t c = 0; c < choice_count(); ++c)
          if (((choices_[static_cast<std::size_t>(c)] >> j) & 1u) != 0) kept += y(0, c);
        soft(row_of(g), column_of(g) + j) = static_cast<float>(kept / sum);
      }
    }
    return soft;
  }

 private:
  static std::vector<std::uint32_t> choices_of(extents weights, any_pattern const& pattern) {
    PARE_EXPECTS(pattern.of() > 0 && (pattern.unit() == extents{1, 1}), "mask_llm: the pattern must be N:M");
    PARE_EXPECTS(fits(pattern, weights), "mask_llm: the number of columns must be a multiple of M");
    return n_of_m_choices(pattern.keep(), pattern.of());
  }
  [[nodiscard]] index_t choice_count() const noexcept { return static_cast<index_t>(choices_.size()); }
  [[nodiscard]] index_t row_of(index_t g) const noexcept { return g * group_ / shape_.cols; }
  [[nodiscard]] index_t column_of(index_t g) const noexcept { return g * group_ % shape_.cols; }
  /// scale * logit plus Gumbel noise, -log(-log u).
  [[nodiscard]] double perturbed(index_t g, index_t c, double scale, random_source& random) const {
    double const u = (static_cast<double>(random.bits() >> 11) + 0.5) * 0x1p-53;  // in (0, 1)
    return scale * static_cast<double>(logits_(g, c)) - std::log(-std::log(u));
  }
  void keep_choice(mask& keep, index_t g, index_t c) const noexcept {
    for (index_t j = 0; j < group_; ++j)
      if (((choices_[static_cast<std::size_t>(c)] >> j) & 1u) != 0) keep.set(row_of(g), column_of(g) + j);
  }

  extents shape_;
  index_t group_;
  std::vector<std::uint32_t> choices_;
  matrix<float> logits_;
};

}  // namespace pare::inline PARE_ABI
