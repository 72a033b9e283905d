// SPDX-License-Identifier: Apache-2.0
// Causal grouped-query attention over a cache of keys and values.
//
// Keys are cached feature-major (one row per feature, positions along it), so that the scores of one query are
// sums of long rows; values position-major, so that the output is a sum of short rows. Both loops vectorise.
#pragma once

#include <cmath>

#include <pare/core/index.hpp>
#include <pare/core/matrix.hpp>
#include <pare/nn/activation.hpp>
#include <pare/core/reduce.hpp>

namespace pare::inline PARE_ABI {

/// Numbers of query heads and of key/value heads (a divisor of it), and the size of each.
struct head_layout {
  index_t query_heads = 0;
  index_t key_heads = 0;
  index_t size = 0;
};

namespace detail {
inline constexpr index_t score_block = 32;  // positions whose scores are summed in registers
inline constexpr index_t value_block = 8;   // features of the output that are summed in registers
}  // namespace detail

/// How many scores attend() works on for a query that sees `positions` positions.
[[nodiscard]] constexpr index_t score_space(index_t positions) noexcept {
  return round_up(positions, detail::score_block);
}

/// Keys and values of one layer for the positions seen so far.
struct attention_cache {
  matrix<float> keys;    // (key_heads * size, capacity rounded up to whole blocks)
  matrix<float> values;  // (capacity, key_heads * size)

  attention_cache(head_layout heads, index_t capacity)
      : keys(heads.key_heads * heads.size, score_space(capacity)), values(capacity, heads.key_heads * heads.size) {}

  /// Stores the keys and values of T positions from `first` on. Pre: k, v (T, key_heads * size); first + T <= capacity.
  void store(matrix_span<float const> k, matrix_span<float const> v, index_t first) noexcept {
    for (index_t t = 0; t < k.rows; ++t)
      for (index_t f = 0; f < k.cols; ++f) {
        keys(f, first + t) = k(t, f);
        values(first + t, f) = v(t, f);
      }
  }
};

namespace detail {
/// scores[p] = q . keys[:, p] for whole blocks that cover [0, n); q is one head, keys its rows of the cache.
inline void attention_scores(float const* q, matrix_span<float const> keys, float* scores, index_t n) noexcept {
  for (index_t first = 0; first < n; first += score_block) {
    float total[score_block] = {};
    for (index_t d = 0; d < keys.rows; ++d) {
      float const* const k = keys.row(d) + first;
      for (index_t i = 0; i < score_block; ++i) total[i] += q[d] * k[i];
    }
    for (index_t i = 0; i < score_block; ++i) scores[first + i] = total[i];
  }
}

/// scores[p] = e^(scale * (scores[p] - their maximum)) for p in [0, n); returns the sum. Pre: scale > 0.
inline float exponential_weights(float* scores, index_t n, float scale) noexcept {
  float const top = maximum(scores, n);
  for (index_t p = 0; p < n; ++p) scores[p] = exponential(scale * (scores[p] - top));
  return sum_of<float>(n, [scores](index_t p) { return scores[p]; });
}

/// out = factor * sum over p in [0, n) of weights[p] * values[p, :], one head.
inline void weighted_values(float const* weights, matrix_span<float const> values, float factor, float* out,
                            index_t n) noexcept {
  index_t d = 0;
  for (; d + value_block <= values.cols; d += value_block) {
    float even[value_block] = {};  // two chains of additions, so that one need not wait for the other
    float odd[value_block] = {};
    index_t p = 0;
    for (; p + 2 <= n; p += 2) {
      float const* const v = values.row(p) + d;
      float const* const w = values.row(p + 1) + d;
      for (index_t i = 0; i < value_block; ++i) even[i] += weights[p] * v[i];
      for (index_t i = 0; i < value_block; ++i) odd[i] += weights[p + 1] * w[i];
    }
    if (p < n)
      for (index_t i = 0; i < value_block; ++i) even[i] += weights[p] * values(p, d + i);
    for (index_t i = 0; i < value_block; ++i) out[d + i] = factor * (even[i] + odd[i]);
  }
  for (; d < values.cols; ++d) out[d] = factor * sum_of<float>(n, [&](index_t p) { return weights[p] * values(p, d); });
}
}  // namespace detail

/// out[t] = softmax(q[t] K^T / sqrt(size)) V for T queries at positions first, first + 1, ...; query t sees the
/// cached positions [0, first + t]. q, out (T, query_heads * size), rows contiguous; scores: score_space(first + T)
/// values to work in. O(T * (first + T) * query_heads * size), no allocation. NaN among a query's scores gives NaN.
inline void attend(head_layout heads, matrix_span<float const> q, attention_cache const& cache, index_t first,
                   matrix_span<float> out, float* scores) noexcept {
  float const scale = 1.0f / std::sqrt(static_cast<float>(heads.size));
  index_t const group = heads.query_heads / heads.key_heads;
  for (index_t h = 0; h < heads.query_heads; ++h) {
    index_t const feature = h / group * heads.size;
    auto const keys = cache.keys.span().row_range(feature, heads.size);
    auto const values = cache.values.span().col_range(feature, heads.size);
    for (index_t t = 0; t < q.rows; ++t) {
      index_t const seen = first + t + 1;
      detail::attention_scores(q.row(t) + h * heads.size, keys, scores, seen);
      float const total = detail::exponential_weights(scores, seen, scale);
      detail::weighted_values(scores, values, 1.0f / total, out.row(t) + h * heads.size, seen);
    }
  }
}

/// What attend_backward works in: keys and values the other way round than the cache has them, and their gradients.
struct attention_gradients {
  matrix<float> keys;               // (capacity, key_heads * size)
  matrix<float> values;             // (key_heads * size, capacity rounded up to whole blocks)
  matrix<float> d_keys, d_values;   // as values
  matrix<float> weights, d_scores;  // (1, capacity rounded up), of one query

  attention_gradients(head_layout heads, index_t capacity)
      : keys(capacity, heads.key_heads * heads.size),
        values(heads.key_heads * heads.size, score_space(capacity)),
        d_keys(values.shape()),
        d_values(values.shape()),
        weights(1, values.cols()),
        d_scores(1, values.cols()) {}
};

namespace detail {
/// sums[d, p] += factors[d] * weights[p] for whole blocks that cover [0, n).
inline void add_outer_product(float const* factors, float const* weights, matrix_span<float> sums, index_t n) noexcept {
  for (index_t d = 0; d < sums.rows; ++d)
    for (index_t first = 0; first < n; first += score_block) {
      float* const to = sums.row(d) + first;
      float total[score_block];
      for (index_t i = 0; i < score_block; ++i) total[i] = to[i] + factors[d] * weights[first + i];
      for (index_t i = 0; i < score_block; ++i) to[i] = total[i];
    }
}
}  // namespace detail

/// The gradients of attend's inputs for a whole sequence (first = 0): dq (T, query_heads * size), dk and dv
/// (T, key_heads * size) from d_out (T, query_heads * size), that of its output. q and cache as attend had them
/// (queries and keys after RoPE, and so are dq and dk); the weights are computed again, so that no T x T matrix is
/// kept. Pre: T at most the capacity of `work`. O(T^2 * query_heads * size), no allocation.
inline void attend_backward(head_layout heads, matrix_span<float const> q, attention_cache const& cache,
                            matrix_span<float const> d_out, matrix_span<float> dq, matrix_span<float> dk,
                            matrix_span<float> dv, attention_gradients& work) noexcept {
  float const scale = 1.0f / std::sqrt(static_cast<float>(heads.size));
  index_t const group = heads.query_heads / heads.key_heads;
  index_t const count = q.rows;
  for (index_t f = 0; f < dk.cols; ++f) {
    for (index_t p = 0; p < score_space(count); ++p) work.d_keys(f, p) = work.d_values(f, p) = 0.0f;
    for (index_t p = 0; p < count; ++p) {
      work.keys(p, f) = cache.keys(f, p);
      work.values(f, p) = cache.values(p, f);
    }
  }
  float* const weights = work.weights.data();
  float* const d_scores = work.d_scores.data();
  for (index_t h = 0; h < heads.query_heads; ++h) {
    index_t const feature = h / group * heads.size;
    auto const keys = cache.keys.span().row_range(feature, heads.size);
    auto const values = matrix_span<float const>(work.values.span().row_range(feature, heads.size));
    auto const d_keys = work.d_keys.span().row_range(feature, heads.size);
    auto const d_values = work.d_values.span().row_range(feature, heads.size);
    for (index_t t = 0; t < count; ++t) {
      index_t const seen = t + 1;
      float const* const query = q.row(t) + h * heads.size;
      float const* const delta = d_out.row(t) + h * heads.size;
      detail::attention_scores(query, keys, weights, seen);
      float const normaliser = 1.0f / detail::exponential_weights(weights, seen, scale);
      detail::attention_scores(delta, values, d_scores, seen);  // by the weights, first
      for (index_t p = 0; p < seen; ++p) weights[p] *= normaliser;
      float const mean = sum_of<float>(seen, [&](index_t p) { return weights[p] * d_scores[p]; });
      for (index_t p = 0; p < seen; ++p) d_scores[p] = scale * weights[p] * (d_scores[p] - mean);
      for (index_t p = seen; p < score_space(seen); ++p) weights[p] = d_scores[p] = 0.0f;
      detail::weighted_values(d_scores, matrix_span<float const>(work.keys.span().col_range(feature, heads.size)), 1.0f,
                              dq.row(t) + h * heads.size, seen);
      detail::add_outer_product(query, d_scores, d_keys, seen);
      detail::add_outer_product(delta, weights, d_values, seen);
    }
  }
  for (index_t p = 0; p < count; ++p)
    for (index_t f = 0; f < dk.cols; ++f) {
      dk(p, f) = work.d_keys(f, p);
      dv(p, f) = work.d_values(f, p);
    }
}

}  // namespace pare::inline PARE_ABI
