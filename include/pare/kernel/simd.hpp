// SPDX-License-Identifier: Apache-2.0
// The only home of xsimd and of intrinsics: one vector type per architecture, and what differs between xsimd versions.
#pragma once

#include <type_traits>

#include <xsimd/xsimd.hpp>

#include <pare/core/index.hpp>

namespace pare::inline PARE_ABI::simd {

/// The best instruction set that this translation unit is compiled for.
using default_arch = xsimd::default_arch;

/// A register of floats of architecture A.
template <class A>
using floats = xsimd::batch<float, A>;

/// Floats a register.
template <class A>
inline constexpr index_t lanes = static_cast<index_t>(floats<A>::size);

/// The architecture has 32 vector registers (AVX-512, AArch64); others are taken to have 16.
template <class A>
inline constexpr bool has_32_registers = std::is_base_of_v<xsimd::avx512f, A> || std::is_base_of_v<xsimd::neon64, A>;

/// x86 before FMA: multiply_add rounds twice.
template <class A>
inline constexpr bool rounds_product =
    (std::is_base_of_v<xsimd::sse2, A> ||
     std::is_base_of_v<xsimd::avx, A>)&&!std::is_base_of_v<xsimd::fma3<xsimd::avx2>, A> &&
    !std::is_base_of_v<xsimd::fma3<xsimd::avx>, A> && !std::is_base_of_v<xsimd::fma3<xsimd::sse4_2>, A> &&
    !std::is_base_of_v<xsimd::fma4, A>;

/// a * b + c in one instruction where the architecture has it; the same rounding wherever it is inlined.
template <class A>
[[nodiscard]] inline floats<A> multiply_add(floats<A> a, floats<A> b, floats<A> c) noexcept {
#if XSIMD_WITH_AVX512F
  // xsimd 8.1 has no fused form for AVX-512: its generic one is a multiplication and an addition.
  if constexpr (std::is_base_of_v<xsimd::avx512f, A>) return floats<A>(_mm512_fmadd_ps(a, b, c));
#endif
#if defined(__FMA__) && defined(__GNUC__)
  // Code for an older architecture in a file compiled for a newer one: g++ would fuse some of the pairs and not others.
  if constexpr (rounds_product<A>) {
    typename floats<A>::register_type product = a * b;
    asm("" : "+x"(product));
    return floats<A>(product) + c;
  }
#endif
  return xsimd::fma(a, b, c);
}

/// The sum of the lanes, in an order that depends on A only.
template <class A>
[[nodiscard]] inline float sum(floats<A> v) noexcept {
  if constexpr (requires { reduce_add(v); }) {
    return reduce_add(v);  // found in xsimd by its argument
  } else {
    return hadd(v);  // its name until xsimd 10
  }
}

}  // namespace pare::inline PARE_ABI::simd
