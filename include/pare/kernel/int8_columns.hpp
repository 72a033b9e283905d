// SPDX-License-Identifier: Apache-2.0
// Activations as 8-bit codes, for the kernels that multiply with 8-bit weights.
//
// Every group of G inputs of a column gets a scale of its own, max|x| / 127, and the codes x / scale rounded to the
// nearest (ties to even), -127 ... 127. Columns are interleaved by group; zeros follow the last input:
//
//   codes:   group 0: column 0, column 1, ... (a record each) | group 1: ...        record: G codes | 16 offsets
//   scales:  group 0: column 0, column 1, ...                 | group 1: ...
//
// Dot products of bytes want one side without sign. That is the weights', stored as code + 128: the 128 sum(x) that
// this adds is the same for all rows, whatever is pruned. The offsets take it away again: the i-th is -128 times the
// sum of the codes 4 i + (0 ... 3) + 64 j, which are those that lane i of 16 multiplies.
#pragma once

#include <cstdint>
#include <cstring>

#include <pare/kernel/kernel.hpp>

#if XSIMD_WITH_AVX512BW
#include <immintrin.h>
#endif

namespace pare::inline PARE_ABI::detail {

/// Inputs that kernels take together where weights have a scale for G.
template <index_t G>
inline constexpr index_t int8_group = G < 128 ? G : 128;

/// Bytes of the offsets of a record, and of a record.
inline constexpr index_t int8_offsets = 64;
template <index_t G>
inline constexpr index_t int8_record = G + int8_offsets;

/// The floats of working memory that `count` columns of `inputs` inputs take.
template <index_t G>
[[nodiscard]] constexpr index_t int8_floats(index_t inputs, index_t count) noexcept {
  return ceil_div(inputs, G) * count * (int8_record<G> / 4 + 1);
}

/// |x - code scale| <= scale / 2 up to float rounding, for subnormal x too.
template <class A>
[[nodiscard, gnu::always_inline]] inline float int8_scale(float largest) noexcept {
  float const scale = largest / 127.0f;
  return largest == 0.0f ? 0.0f : (scale < 0x1p-126f ? 0x1p-126f : scale);
}

/// n <= G inputs of one column; false where one of them is NaN or infinite. The same bits on every architecture.
template <class A, index_t G>
[[nodiscard]] bool quantise_group(float const* x, index_t n, std::int8_t* record, float& scale) noexcept {
  constexpr index_t lanes = 16;  // of 32 bits, each of which multiplies 4 codes
#if XSIMD_WITH_AVX512BW
  if constexpr (std::is_base_of_v<xsimd::avx512bw, A>) {
    auto const load = [&](index_t i) {
      if (n - i >= lanes) return _mm512_loadu_ps(x + i);
      return _mm512_maskz_loadu_ps(static_cast<__mmask16>(n > i ? (1u << (n - i)) - 1 : 0), x + i);
    };
    __m512 largest = _mm512_setzero_ps();
    __mmask16 finite = 0xffff;
    for (index_t i = 0; i < G; i += lanes) {
      __m512 const v = load(i);
      largest = _mm512_max_ps(largest, _mm512_abs_ps(v));
      finite &= _mm512_cmp_ps_mask(_mm512_sub_ps(v, v), _mm512_setzero_ps(), _CMP_EQ_OQ);
    }
    if (finite != 0xffff) return false;
    scale = int8_scale<A>(_mm512_reduce_max_ps(largest));
    __m512 const inverse = _mm512_set1_ps(scale == 0.0f ? 0.0f : 1.0f / scale);
    for (index_t i = 0; i < G; i += lanes) {
      __m512i const code = _mm512_cvtps_epi32(_mm512_mul_ps(load(i), inverse));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(record + i), _mm512_cvtepi32_epi8(code));
    }
    __m512i sums = _mm512_setzero_si512();
    for (index_t i = 0; i < G; i += 4 * lanes) {
      __m512i const codes = _mm512_loadu_si512(record + i);
      __m512i const even = _mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 8);
      __m512i const pairs = _mm512_add_epi16(even, _mm512_srai_epi16(codes, 8));
      sums = _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(-128)));
    }
    _mm512_storeu_si512(record + G, sums);
    return true;
  }
#endif
  float largest = 0.0f;
  float not_finite = 0.0f;
  for (index_t i = 0; i < n; ++i) {
    float const magnitude = x[i] < 0.0f ? -x[i] : x[i];
    largest = magnitude > largest ? magnitude : largest;
    not_finite += x[i] - x[i];
  }
  if (!(not_finite == 0.0f)) return false;
  scale = int8_scale<A>(largest);
  float const inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
  std::int32_t sums[lanes] = {};
  constexpr float integers = 0x1.8p23f;  // floats of this size have no fraction, so the addition rounds
  for (index_t i = 0; i < G; ++i) {
    float product = i < n ? x[i] * inverse : 0.0f;
#if defined(__GNUC__) && defined(__x86_64__)
    asm("" : "+x"(product));  // not fused with the addition, which would round once instead of twice
#endif
    record[i] = static_cast<std::int8_t>((product + integers) - integers);
    sums[i / 4 % lanes] -= 128 * record[i];
  }
  std::memcpy(record + G, sums, sizeof sums);
  return true;
}

/// The columns of x (K, N) in `memory`, which has int8_floats of room; false where x holds NaN or Inf. O(K N).
template <class A, index_t G>
[[nodiscard]] bool quantise_columns(matrix_span<float const> x, float* memory, int8_columns& out) noexcept {
  index_t const groups = ceil_div(x.rows, G);
  auto* codes = reinterpret_cast<std::int8_t*>(memory);
  float* scale = memory + groups * x.cols * (int8_record<G> / 4);
  out = {codes, scale, x.cols};
  for (index_t first = 0; first < x.rows; first += G) {
    index_t const n = x.rows - first < G ? x.rows - first : G;
    for (index_t j = 0; j < x.cols; ++j, codes += int8_record<G>, ++scale) {
      float const* column = &x(first, j);
      float copy[G];
      if (x.row_stride != 1) {
        for (index_t i = 0; i < n; ++i) copy[i] = x(first + i, j);
        column = copy;
      }
      if (!quantise_group<A, G>(column, n, codes, *scale)) return false;
    }
  }
  return true;
}

}  // namespace pare::inline PARE_ABI::detail
