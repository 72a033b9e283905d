// SPDX-License-Identifier: Apache-2.0
// Inputs for tiles of four rows: a register holds some columns of a tile, four weights each, and meets as many inputs,
// each of them four times.
#pragma once

#include <pare/kernel/simd.hpp>

#if XSIMD_WITH_AVX
#include <immintrin.h>
#endif

namespace pare::inline PARE_ABI::simd {

/// Columns of four rows in a register.
template <class A>
inline constexpr index_t tile_columns = lanes<A> / 4;

/// Inputs of the columns of a register, each four times: Run that follow each other from from[0] on, Run from from[1]
/// on, and so forth. Run divides tile_columns<A>.
template <class A, index_t Run>
[[nodiscard, gnu::always_inline]] inline floats<A> spread(float const* const* from) noexcept {
  static_assert(tile_columns<A> % Run == 0);
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, A>) {
    __m128 four;
    if constexpr (Run == 4) {
      four = _mm_loadu_ps(from[0]);
    } else if constexpr (Run == 2) {
      __m128 const low = _mm_loadl_pi(_mm_setzero_ps(), reinterpret_cast<__m64 const*>(from[0]));
      four = _mm_loadh_pi(low, reinterpret_cast<__m64 const*>(from[1]));
    } else {
      four = _mm_setr_ps(*from[0], *from[1], *from[2], *from[3]);
    }
    __m512i const lane = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return floats<A>(_mm512_permutexvar_ps(lane, _mm512_castps128_ps512(four)));
  }
#endif
#if XSIMD_WITH_AVX
  if constexpr (std::is_base_of_v<xsimd::avx, A> && !std::is_base_of_v<xsimd::avx512f, A>) {
    __m128 const second = _mm_broadcast_ss(Run == 2 ? from[0] + 1 : from[1]);
    return floats<A>(_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_broadcast_ss(from[0])), second, 1));
  }
#endif
  if constexpr (tile_columns<A> == 1) {
    return floats<A>(*from[0]);
  } else {
    alignas(64) float lane[lanes<A>];
    for (index_t i = 0; i < lanes<A>; ++i) lane[i] = from[i / 4 / Run][i / 4 % Run];
    return floats<A>::load_aligned(lane);
  }
}

/// The sum of the columns of a register: of its four rows.
template <class A>
[[gnu::always_inline]] inline void add_columns(floats<A> v, float* rows) noexcept {
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, A>) {
    __m256 const half =
        _mm256_add_ps(_mm512_castps512_ps256(v), _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)));
    _mm_storeu_ps(rows, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
    return;
  }
#endif
#if XSIMD_WITH_AVX
  if constexpr (std::is_base_of_v<xsimd::avx, A> && !std::is_base_of_v<xsimd::avx512f, A>) {
    _mm_storeu_ps(rows, _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
    return;
  }
#endif
  alignas(64) float lane[lanes<A>];
  v.store_aligned(lane);
  for (index_t i = 0; i < 4; ++i) {
    rows[i] = lane[i];
    for (index_t c = 1; c < tile_columns<A>; ++c) rows[i] += lane[4 * c + i];
  }
}

}  // namespace pare::inline PARE_ABI::simd
