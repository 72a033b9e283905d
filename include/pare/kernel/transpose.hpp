// SPDX-License-Identifier: Apache-2.0
// Square blocks transposed in registers: how token-major activations become panels, and products become token-major.
// (A is a parameter even where it changes nothing: see dispatch.hpp.)
#pragma once

#include <pare/kernel/simd.hpp>

namespace pare::inline PARE_ABI::detail {

/// The side of the blocks that transpose_block turns: a register of floats, where there is a kernel for it.
template <class A>
inline constexpr index_t transpose_side = std::is_base_of_v<xsimd::avx512f, A> ? 16
                                          : std::is_base_of_v<xsimd::avx, A>   ? 8
                                                                               : 4;

#if XSIMD_WITH_AVX512F
/// 64 shuffles for 16 loads and 16 stores: pairs, quadruples, then quarters of registers in two steps.
template <class A>
void transpose_16(float const* const* rows, float* out, index_t stride) noexcept {
  __m512 a[16];
  __m512 b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_ps(rows[i]);
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int half = 0; half < 2; ++half) {
      __m512d const low = _mm512_castps_pd(b[i + half]);
      __m512d const high = _mm512_castps_pd(b[i + 2 + half]);
      a[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      a[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  // a[4 q + c]: quarter p of it holds column 4 p + c of rows 4 q .. 4 q + 3.
  for (int c = 0; c < 4; ++c) {
    __m512 const even_low = _mm512_shuffle_f32x4(a[c], a[4 + c], 0x88);
    __m512 const odd_low = _mm512_shuffle_f32x4(a[c], a[4 + c], 0xdd);
    __m512 const even_high = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0x88);
    __m512 const odd_high = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0xdd);
    _mm512_storeu_ps(out + c * stride, _mm512_shuffle_f32x4(even_low, even_high, 0x88));
    _mm512_storeu_ps(out + (4 + c) * stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0x88));
    _mm512_storeu_ps(out + (8 + c) * stride, _mm512_shuffle_f32x4(even_low, even_high, 0xdd));
    _mm512_storeu_ps(out + (12 + c) * stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd));
  }
}
#endif

#if XSIMD_WITH_AVX
template <class A>
void transpose_8(float const* const* rows, float* out, index_t stride) noexcept {
  __m256 a[8];
  __m256 b[8];
  for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(rows[i]);
  for (int i = 0; i < 8; i += 2) {
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
  for (int i = 0; i < 8; i += 4)
    for (int half = 0; half < 2; ++half) {
      __m256d const low = _mm256_castps_pd(b[i + half]);
      __m256d const high = _mm256_castps_pd(b[i + 2 + half]);
      a[i + 2 * half] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
      a[i + 2 * half + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
    }
  for (int c = 0; c < 4; ++c) {
    _mm256_storeu_ps(out + c * stride, _mm256_permute2f128_ps(a[c], a[4 + c], 0x20));
    _mm256_storeu_ps(out + (4 + c) * stride, _mm256_permute2f128_ps(a[c], a[4 + c], 0x31));
  }
}
#endif

/// out[j * stride + i] = rows[i][j] for i, j < transpose_side<A>.
template <class A>
inline void transpose_block(float const* const* rows, float* out, index_t stride) noexcept {
  constexpr index_t side = transpose_side<A>;
#if XSIMD_WITH_AVX512F
  if constexpr (side == 16) return transpose_16<A>(rows, out, stride);
#endif
#if XSIMD_WITH_AVX
  if constexpr (side == 8) return transpose_8<A>(rows, out, stride);
#endif
  for (index_t i = 0; i < side; ++i)
    for (index_t j = 0; j < side; ++j) out[j * stride + i] = rows[i][j];
}

}  // namespace pare::inline PARE_ABI::detail
