// SPDX-License-Identifier: Apache-2.0
// What the kernels for a few columns do with AVX-512 that xsimd has no name for: weights by the register, spread over
// the lanes that have one.
//
// Three traps, all measured on Zen 5:
//  - vexpandps from memory costs 3 times a load and the expansion of a register, and compilers fold the two;
//  - its result depends on what the destination held before, zeroed lanes or not. Where the destination is the
//    register of a sum, steps wait for each other: bf16 3.7 instead of 2.5 cycles per 32 columns. So it is the source;
//  - a mask from a general register (kmovw) costs 2.6 cycles per 16 columns; loads (1.8) and tests of a broadcast (1.7)
//    do not.
#pragma once

#include <pare/kernel/simd.hpp>

#if XSIMD_WITH_AVX2
#include <immintrin.h>

namespace pare::inline PARE_ABI::simd {

/// For each mask of 8 bits: which value each lane takes; negative: none. 8 KB, read from the first-level cache.
struct expansion_table {
  alignas(64) std::uint32_t lanes[256][8] = {};
  constexpr expansion_table() noexcept {
    for (std::uint32_t bits = 0; bits < 256; ++bits)
      for (std::uint32_t lane = 0, n = 0; lane < 8; ++lane)
        lanes[bits][lane] = (bits >> lane & 1u) != 0 ? n++ : 0x80000000u;
  }
};
template <class A>
inline constexpr expansion_table expansions{};

/// AVX2's expansion: a permutation from the table, whose sign bits choose the zeros.
template <class A>
[[nodiscard, gnu::always_inline]] inline __m256 expand_8(__m256 v, std::uint8_t lanes) noexcept {
  __m256i const from = _mm256_load_si256(reinterpret_cast<__m256i const*>(expansions<A>.lanes[lanes]));
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(v, from), _mm256_setzero_ps(), _mm256_castsi256_ps(from));
}

}  // namespace pare::inline PARE_ABI::simd
#endif

#if XSIMD_WITH_AVX512CD
#include <immintrin.h>

namespace pare::inline PARE_ABI::simd {

/// The first values of v to the lanes of the mask, in order; 0 to the others.
template <class A>
[[nodiscard, gnu::always_inline]] inline __m512 expand(__m512 v, __mmask16 lanes) noexcept {
#if defined(__GNUC__)
  asm("vexpandps %0, %0%{%1%}%{z%}" : "+v"(v) : "Yk"(lanes));
  return v;
#else
  return _mm512_maskz_expand_ps(lanes, v);
#endif
}
#if defined(__AVX512VBMI2__)
/// A mask of 64 bits from memory, and its halves. (The casts that the intrinsics ask for go through general registers.)
template <class A>
[[nodiscard, gnu::always_inline]] inline __mmask64 load_mask(std::uint64_t const* mask) noexcept {
#if defined(__GNUC__)
  __mmask64 k;
  asm("kmovq %1, %0" : "=k"(k) : "m"(*mask));
  return k;
#else
  return *mask;
#endif
}
template <class A>
[[nodiscard, gnu::always_inline]] inline __mmask32 low_bits(__mmask64 mask) noexcept {
  return static_cast<__mmask32>(mask);
}
template <class A>
[[nodiscard, gnu::always_inline]] inline __mmask32 high_bits(__mmask64 mask) noexcept {
#if defined(__GNUC__)
  __mmask32 k;
  asm("kshiftrq $32, %1, %0" : "=k"(k) : "k"(mask));
  return k;
#else
  return static_cast<__mmask32>(mask >> 32);
#endif
}
template <class A>
[[nodiscard, gnu::always_inline]] inline __m512i expand_words(__m512i v, __mmask32 lanes) noexcept {
#if defined(__GNUC__)
  asm("vpexpandw %0, %0%{%1%}%{z%}" : "+v"(v) : "Yk"(lanes));
  return v;
#else
  return _mm512_maskz_expand_epi16(lanes, v);
#endif
}
#endif

/// Half of a mask in all lanes, from memory: compilers would take it from the general register where it is counted.
template <class A>
[[nodiscard, gnu::always_inline]] inline __m512i broadcast_word(std::uint64_t const* mask, index_t half) noexcept {
  auto const* word = reinterpret_cast<char const*>(mask) + 4 * half;
#if defined(__GNUC__)
  __m512i v;
  asm("vpbroadcastd %1, %0" : "=v"(v) : "m"(*word));
  return v;
#else
  int bits;
  std::memcpy(&bits, word, sizeof bits);
  return _mm512_set1_epi32(bits);
#endif
}

/// A run of x in a register: compilers would load it anew for each row.
template <class A>
[[nodiscard, gnu::always_inline]] inline __m512 load_x(float const* p) noexcept {
  return in_register<A>(floats<A>(_mm512_load_ps(p)));
}

/// 16 weights as floats; may begin anywhere.
template <class A>
[[nodiscard, gnu::always_inline]] inline __m512 load_16(float const* p) noexcept {
  return _mm512_loadu_ps(p);
}
template <class A>
[[nodiscard, gnu::always_inline]] inline __m512 load_16(bf16 const* p) noexcept {
  __m256i const words = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
}
/// Of 16 pairs of bf16, those in the lower halves, and those in the upper halves.
template <class A>
[[nodiscard, gnu::always_inline]] inline __m512 low_halves(__m512i pairs) noexcept {
  return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}
template <class A>
[[nodiscard, gnu::always_inline]] inline __m512 high_halves(__m512i pairs) noexcept {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

}  // namespace pare::inline PARE_ABI::simd
#endif
