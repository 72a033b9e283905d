// SPDX-License-Identifier: Apache-2.0
// What the 8-bit kernels do with instructions that xsimd has no name for.
#pragma once

#include <bit>
#include <cstdint>

#include <pare/kernel/simd.hpp>

#if XSIMD_WITH_AVX2 || XSIMD_WITH_AVX512BW
#include <immintrin.h>
#endif

namespace pare::inline PARE_ABI::simd {

#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)

/// 64 bytes; may begin anywhere. Loaded once: compilers would fold the load into every instruction that uses it.
template <class A>
[[nodiscard, gnu::always_inline]] inline __m512i load_bytes(void const* p) noexcept {
  __m512i v = _mm512_loadu_si512(p);
#if defined(__GNUC__)
  asm("" : "+v"(v));
#endif
  return v;
}

/// The first bytes of v at the set bits of the mask, in order; those of `rest` elsewhere. Merging, because vpexpandb
/// with zeroing waits for what the destination held before (5 cycles instead of 1), unless it is the source; and `rest`
/// is a copy, which costs nothing.
template <class A>
[[nodiscard, gnu::always_inline]] inline __m512i expand_bytes(__m512i rest, std::uint64_t bits, __m512i v) noexcept {
  return _mm512_mask_expand_epi8(rest, _cvtu64_mask64(bits), v);
}

/// sums + the products of unsigned and signed bytes, four to a lane; no saturation. Where many sums are alive g++ 12
/// copies each of them before and after the instruction, which writes to the register that it adds to.
template <class A>
[[nodiscard, gnu::always_inline]] inline __m512i add_products(__m512i sums, __m512i without_sign,
                                                              __m512i with_sign) noexcept {
#if defined(__GNUC__) && !defined(__clang__)
  asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(without_sign), "v"(with_sign));
  return sums;
#else
  return _mm512_dpbusd_epi32(sums, without_sign, with_sign);
#endif
}

#endif

}  // namespace pare::inline PARE_ABI::simd
