// SPDX-License-Identifier: Apache-2.0
// Losses and their gradients: cross-entropy of logits, and the contrastive InfoNCE of embeddings.
//
// What a backward pass takes is a *logit loss*: called with the logits of some rows it replaces them by the gradient of
// the loss and returns what these rows add to it. Sums over rows are kept in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/reduce.hpp>
#include <pare/core/result.hpp>
#include <pare/nn/activation.hpp>

namespace pare::inline PARE_ABI {

/// A loss that is a sum over the rows of the logits (N, C): over images or positions.
///
/// Semantics: `loss(logits, first)` takes rows [first, first + logits.rows) of all, replaces them by the gradient of
/// the loss by them and returns their part of the loss. Errors (data): whatever the loss cannot be computed of.
template <class L>
concept logit_loss = requires(L& loss, matrix_span<float> logits, index_t first) {
  { loss(logits, first) } -> std::same_as<result<double>>;
};

/// Whether a loss is the mean or the sum over its samples.
enum class reduction { mean, sum };

namespace detail {
/// Replaces n logits by e^(logit - their maximum); returns the sum, and that maximum through `top`. Pre: n > 0.
inline double exponentials(float* x, index_t n, float& top) noexcept {
  top = maximum(x, n);
  for (index_t i = 0; i < n; ++i) x[i] = exponential(x[i] - top);
  return sum_of<double>(n, [x](index_t i) { return static_cast<double>(x[i]); });
}

/// Replaces n logits by weight * (softmax - one at `target`), the gradient of weight * -ln softmax(logits)[target], and
/// returns -ln softmax(logits)[target]. Pre: logits finite, target in range.
inline double softmax_gradient(float* x, index_t n, index_t target, float weight) noexcept {
  float const at_target = x[target];
  float top = 0.0f;
  double const total = exponentials(x, n, top);
  float const factor = weight * static_cast<float>(1.0 / total);
  for (index_t i = 0; i < n; ++i) x[i] *= factor;
  x[target] -= weight;
  return std::log(total) + static_cast<double>(top) - static_cast<double>(at_target);
}
}  // namespace detail

/// -ln softmax(logits)[target]. Pre: logits finite, target in range.
[[nodiscard]] inline double negative_log_likelihood(std::span<float const> logits, index_t target) noexcept {
  float const* const x = logits.data();
  index_t const count = std::ssize(logits);
  float const top = maximum(x, count);
  double const total = sum_of<double>(count, [&](index_t i) { return static_cast<double>(exponential(x[i] - top)); });
  return std::log(total) + static_cast<double>(top) - static_cast<double>(x[target]);
}

/// -ln softmax(logits)[target], summed over the rows or their mean. Label: any integer. The targets must outlive it.
template <std::integral Label>
class cross_entropy {
 public:
  /// One target a row.
  explicit cross_entropy(std::span<Label const> targets, reduction how = reduction::mean) noexcept
      : cross_entropy(targets, std::ssize(targets), how) {}
  explicit cross_entropy(std::vector<Label> const& targets, reduction how = reduction::mean) noexcept
      : cross_entropy(std::span<Label const>(targets), how) {}
  /// `rows` rows of logits, of which the last ones, without a target, add nothing. Pre: rows >= the number of targets.
  cross_entropy(std::span<Label const> targets, index_t rows, reduction how) noexcept
      : targets_(targets),
        rows_(rows),
        weight_(how == reduction::sum || targets.empty() ? 1.0 : 1.0 / static_cast<double>(targets.size())) {}

  /// How many rows of logits there must be in all.
  [[nodiscard]] index_t rows() const noexcept { return rows_; }

  /// See logit_loss. Pre: columns contiguous.
  /// Errors: no targets; targets outside the classes; more rows than targets; logits that are not finite.
  [[nodiscard]] result<double> operator()(matrix_span<float> logits, index_t first) const {
    PARE_EXPECTS(first >= 0 && logits.col_stride == 1, "cross_entropy: the logits of a row must be contiguous");
    if (targets_.empty()) return error{errc::missing, "targets", "expected at least one, found none"};
    if (first + logits.rows > rows_)
      return error{errc::mismatch, "targets",
                   "expected one for each of at least " + std::to_string(first + logits.rows) + " rows, found " +
                       std::to_string(rows_)};
    double total = 0;
    for (index_t i = 0; i < logits.rows; ++i) {
      float* const x = logits.row(i);
      if (first + i >= std::ssize(targets_)) {
        std::fill_n(x, logits.cols, 0.0f);
        continue;
      }
      auto const target = static_cast<index_t>(targets_[static_cast<std::size_t>(first + i)]);
      if (target < 0 || target >= logits.cols)
        return error{errc::out_of_range, "targets",
                     "expected numbers in [0, " + std::to_string(logits.cols) + "), found " + std::to_string(target)};
      if (!all_finite(x, logits.cols))
        return error{errc::not_finite, "logits",
                     "expected finite logits, found NaN or Inf in row " + std::to_string(first + i)};
      total += detail::softmax_gradient(x, logits.cols, target, static_cast<float>(weight_));
    }
    return weight_ * total;
  }

 private:
  std::span<Label const> targets_;
  index_t rows_;
  double weight_;
};

/// The loss of a language model on a window: every token but the first is predicted from those before it, as
/// perplexity() counts it. The tokens must outlive it.
[[nodiscard]] inline cross_entropy<int> next_token(std::span<int const> tokens, reduction how = reduction::mean) {
  return {tokens.empty() ? tokens : tokens.subspan(1), std::ssize(tokens), how};
}

/// A loss of logits / temperature. GraSP softens its loss so, with 200.
template <logit_loss Loss>
class tempered {
 public:
  /// Pre: temperature > 0.
  tempered(Loss loss, float temperature) : loss_(std::move(loss)), factor_(1.0f / temperature) {
    PARE_EXPECTS(temperature > 0.0f, "tempered: the temperature must be positive");
  }
  [[nodiscard]] index_t rows() const requires requires(Loss const& l) { l.rows(); }
  { return loss_.rows(); }
  /// See logit_loss. Errors: those of the loss.
  [[nodiscard]] result<double> operator()(matrix_span<float> logits, index_t first) {
    scale(logits);
    PARE_TRY(double const value, loss_(logits, first));
    scale(logits);
    return value;
  }

 private:
  void scale(matrix_span<float> m) const noexcept {
    for (index_t i = 0; i < m.rows; ++i)
      for (index_t j = 0; j < m.cols; ++j) m(i, j) *= factor_;
  }
  Loss loss_;
  float factor_;
};

/// The sum of all logits: what SynFlow differentiates.
struct sum_of_logits {
  [[nodiscard]] result<double> operator()(matrix_span<float> logits, index_t /*first*/) const noexcept {
    double total = 0.0;
    for (index_t i = 0; i < logits.rows; ++i)
      for (index_t j = 0; j < logits.cols; ++j) {
        total += static_cast<double>(logits(i, j));
        logits(i, j) = 1.0f;
      }
    return total;
  }
};

namespace detail {
/// An error where a loss says for how many rows it is, and that is not `count`: its mean would be another one.
template <logit_loss Loss>
result<void> expect_rows(Loss const& loss, index_t count) {
  if constexpr (requires { loss.rows(); }) {
    if (loss.rows() != count)
      return error{errc::mismatch, "targets",
                   "expected " + std::to_string(count) + " rows, found targets for " + std::to_string(loss.rows())};
  }
  return {};
}
}  // namespace detail

namespace detail {
/// out = x / ||x||, one row; returns 1 / ||x||, or 0 where it is not a positive number.
inline float unit_row(float const* x, float* out, index_t n) noexcept {
  double const square =
      sum_of<double>(n, [x](index_t i) { return static_cast<double>(x[i]) * static_cast<double>(x[i]); });
  if (!(square > 0.0) || !std::isfinite(square)) return 0.0f;
  auto const factor = static_cast<float>(1.0 / std::sqrt(square));
  for (index_t i = 0; i < n; ++i) out[i] = x[i] * factor;
  return factor;
}

/// Replaces d, a gradient by unit = x / ||x||, by the gradient by x: (d - (d . unit) unit) / ||x||.
inline void unit_row_backward(float const* unit, float inverse_norm, float* d, index_t n) noexcept {
  float const along = sum_of<float>(n, [&](index_t i) { return d[i] * unit[i]; });
  for (index_t i = 0; i < n; ++i) d[i] = inverse_norm * (d[i] - along * unit[i]);
}
}  // namespace detail

/// InfoNCE with the other queries' texts as negatives (van den Oord et al. 2018), as embedding models are trained: the
/// mean over the queries i of the cross-entropy of scale * cos(query i, c) over all candidates c = [positives;
/// negatives], with target positive i. queries, positives (B, D), negatives (any number of rows, D), rows contiguous;
/// writes the gradients d_queries (B, D) and d_candidates (B + negatives, D).
/// O(B (B + negatives) D). Errors: no queries; an embedding that is zero or not finite.
[[nodiscard]] inline result<double> info_nce(matrix_span<float const> queries, matrix_span<float const> positives,
                                             matrix_span<float const> negatives, matrix_span<float> d_queries,
                                             matrix_span<float> d_candidates, float scale = 20.0f) {
  index_t const batch = queries.rows;
  index_t const width = queries.cols;
  index_t const candidates = batch + negatives.rows;
  PARE_EXPECTS(positives.shape() == queries.shape() && (negatives.rows == 0 || negatives.cols == width),
               "info_nce: there must be one positive for each query, and all embeddings must be of one size");
  PARE_EXPECTS(d_queries.shape() == queries.shape() && d_candidates.shape() == (extents{candidates, width}),
               "info_nce: the gradients must have the shapes of the embeddings");
  if (batch == 0) return error{errc::missing, "queries", "expected at least one query, found none"};
  // Row r of all: queries, then candidates.
  auto const row = [&](index_t r) {
    return r < batch ? queries.row(r) : r < 2 * batch ? positives.row(r - batch) : negatives.row(r - 2 * batch);
  };
  auto const d_row = [&](index_t r) { return r < batch ? d_queries.row(r) : d_candidates.row(r - batch); };
  matrix<float> units(batch + candidates, width);
  std::vector<float> inverse_norms;
  for (index_t r = 0; r < units.rows(); ++r) {
    inverse_norms.push_back(detail::unit_row(row(r), units.row(r), width));
    if (inverse_norms.back() == 0.0f)
      return error{errc::not_finite, "embeddings",
                   "expected finite ones that are not zero, found another in row " + std::to_string(r) +
                       " of the queries, positives and negatives"};
    std::fill_n(d_row(r), width, 0.0f);
  }
  matrix<float> similarities(1, candidates);
  double total = 0;
  for (index_t i = 0; i < batch; ++i) {
    float* const s = similarities.data();
    float const* const q = units.row(i);
    for (index_t c = 0; c < candidates; ++c) {
      float const* const u = units.row(batch + c);
      s[c] = scale * sum_of<float>(width, [&](index_t k) { return q[k] * u[k]; });
    }
    total += detail::softmax_gradient(s, candidates, i, 1.0f / static_cast<float>(batch));
    for (index_t c = 0; c < candidates; ++c) {
      float const* const u = units.row(batch + c);
      float const weight = scale * s[c];
      for (index_t k = 0; k < width; ++k) {
        d_queries(i, k) += weight * u[k];
        d_candidates(c, k) += weight * q[k];
      }
    }
  }
  for (index_t r = 0; r < units.rows(); ++r)
    detail::unit_row_backward(units.row(r), inverse_norms[static_cast<std::size_t>(r)], d_row(r), width);
  return total / static_cast<double>(batch);
}

}  // namespace pare::inline PARE_ABI
