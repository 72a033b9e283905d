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
#include <pare/nn/reduce.hpp>

namespace pare::inline PARE_ABI {

/// Numbers of query heads and of key/value heads (a divisor of it), and the size of each.
struct head_layout {
  index_t query_heads = 0;
  index_t key_heads = 0;
  index_t size = 0;
};

/// Keys and values of one layer for the positions seen so far.
struct attention_cache {
  matrix<float> keys;    // (key_heads * size, capacity)
  matrix<float> values;  // (capacity, key_heads * size)

  attention_cache(head_layout heads, index_t capacity)
      : keys(heads.key_heads * heads.size, capacity), values(capacity, heads.key_heads * heads.size) {}

  /// Stores the keys and values of T positions from `first` on. Pre: k, v (T, key_heads * size); first + T <= capacity.
  void store(matrix_span<float const> k, matrix_span<float const> v, index_t first) noexcept {
    for (index_t t = 0; t < k.rows; ++t)
      for (index_t f = 0; f < k.cols; ++f) {
        keys(f, first + t) = k(t, f);
        values(first + t, f) = v(t, f);
      }
  }
};

/// x = softmax(x), n values. An all-equal row of -Inf, or a NaN, gives NaN.
inline void softmax(float* x, index_t n) noexcept {
  float const top = maximum(x, n);
  for (index_t i = 0; i < n; ++i) x[i] = exponential(x[i] - top);
  float const inverse = 1.0f / sum_of<float>(n, [x](index_t i) { return x[i]; });
  for (index_t i = 0; i < n; ++i) x[i] *= inverse;
}

namespace detail {
/// scores[p] = q . keys[:, p] for p in [0, n); q is one head, keys its rows of the cache.
inline void attention_scores(float const* q, matrix_span<float const> keys, float* scores, index_t n) noexcept {
  index_t const size = keys.rows;
  for (index_t p = 0; p < n; ++p) scores[p] = 0.0f;
  index_t d = 0;
  for (; d + 4 <= size; d += 4) {  // four features at once: a quarter of the traffic on scores
    float const *const k0 = keys.row(d), *const k1 = keys.row(d + 1), *const k2 = keys.row(d + 2),
                *const k3 = keys.row(d + 3);
    float const q0 = q[d], q1 = q[d + 1], q2 = q[d + 2], q3 = q[d + 3];
    for (index_t p = 0; p < n; ++p) scores[p] += q0 * k0[p] + q1 * k1[p] + q2 * k2[p] + q3 * k3[p];
  }
  for (; d < size; ++d) {
    float const* const k = keys.row(d);
    for (index_t p = 0; p < n; ++p) scores[p] += q[d] * k[p];
  }
}

/// out = sum over p in [0, n) of weights[p] * values[p, :], one head.
inline void weighted_values(float const* weights, matrix_span<float const> values, float* out, index_t n) noexcept {
  index_t const size = values.cols;
  for (index_t d = 0; d < size; ++d) out[d] = 0.0f;
  index_t p = 0;
  for (; p + 4 <= n; p += 4) {
    float const *const v0 = values.row(p), *const v1 = values.row(p + 1), *const v2 = values.row(p + 2),
                *const v3 = values.row(p + 3);
    float const w0 = weights[p], w1 = weights[p + 1], w2 = weights[p + 2], w3 = weights[p + 3];
    for (index_t d = 0; d < size; ++d) out[d] += w0 * v0[d] + w1 * v1[d] + w2 * v2[d] + w3 * v3[d];
  }
  for (; p < n; ++p)
    for (index_t d = 0; d < size; ++d) out[d] += weights[p] * values(p, d);
}
}  // namespace detail

/// out[t] = softmax(q[t] K^T / sqrt(size)) V for T queries at positions first, first + 1, ...; query t sees the
/// cached positions [0, first + t]. q, out (T, query_heads * size), rows contiguous; scores: at least first + T values.
/// O(T * (first + T) * query_heads * size), no allocation.
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
      for (index_t p = 0; p < seen; ++p) scores[p] *= scale;
      softmax(scores, seen);
      detail::weighted_values(scores, values, out.row(t) + h * heads.size, seen);
    }
  }
}

}  // namespace pare::inline PARE_ABI
