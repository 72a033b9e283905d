// SPDX-License-Identifier: Apache-2.0
// The only home of xsimd and of intrinsics: one vector type per architecture, and what differs between xsimd versions.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <xsimd/xsimd.hpp>

#include <pare/core/dtype.hpp>
#include <pare/core/index.hpp>

namespace pare::inline PARE_ABI {

/// What the layout of an operand depends on, of the architecture that will run it.
struct machine {
  index_t lanes = 1;              // floats a register
  bool has_32_registers = false;  // else 16
  bool expands = false;           // spreads consecutive floats over the set lanes of a mask, and looks up 32 floats
  bool expands_words = false;     // the same with 16-bit elements
  bool multiplies_bytes = false;  // adds up products of bytes, and expands bytes
  bool multiplies_words = false;  // adds up products of 16-bit integers, in registers of 256 bits
  bool permutes_8 = false;        // looks up 8 floats (AVX2)
  bool intel = false;             // Intel's processor with AVX-512 (see simd::with_processor)
};

}  // namespace pare::inline PARE_ABI

namespace pare::inline PARE_ABI::simd {

/// The best instruction set that this translation unit is compiled for.
using default_arch = xsimd::default_arch;

/// What multiplies where no architecture is named.
#if defined(PARE_DISPATCH)
struct dispatched {};  // what the program chose when it started (see dispatch.hpp)
using best_arch = dispatched;
#else
using best_arch = default_arch;
#endif

/// A, for a processor of Intel's and for any other (see with_processor).
template <class A>
struct on_intel : A {};
template <class A>
struct on_others : A {};
/// The architecture that xsimd knows.
template <class A>
struct plain {
  using arch = A;
};
template <class A>
struct plain<on_intel<A>> {
  using arch = A;
};
template <class A>
struct plain<on_others<A>> {
  using arch = A;
};

/// A register of floats of architecture A.
template <class A>
using floats = xsimd::batch<float, typename plain<A>::arch>;

/// Floats a register.
template <class A>
inline constexpr index_t lanes = static_cast<index_t>(floats<A>::size);

/// The architecture has 32 vector registers (AVX-512, AArch64); others are taken to have 16.
template <class A>
inline constexpr bool has_32_registers = std::is_base_of_v<xsimd::avx512f, A> || std::is_base_of_v<xsimd::neon64, A>;

/// AVX-512 has expansion and two-register permutes; its VBMI2, for which xsimd has no architecture before version 10,
/// expands 16-bit elements too, and with VNNI it multiplies bytes.
template <class A>
inline constexpr bool expands = std::is_base_of_v<xsimd::avx512cd, A>;
template <class A>
inline constexpr bool expands_words =
#if defined(__AVX512VBMI2__) && defined(__AVX512VNNI__)  // no processor has the first alone; PARE_ABI names both
    std::is_base_of_v<xsimd::avx512bw, A>;
#else
    false;
#endif
template <class A>
inline constexpr bool multiplies_bytes = expands_words<A>;
template <class A>
inline constexpr bool multiplies_words = std::is_base_of_v<xsimd::avx2, A> || std::is_base_of_v<xsimd::avx512bw, A>;

template <class A>
inline constexpr bool permutes_8 = std::is_base_of_v<xsimd::avx2, A>;

template <class A>
inline constexpr machine machine_of = {lanes<A>,         has_32_registers<A>, expands<A>,
                                       expands_words<A>, multiplies_bytes<A>, multiplies_words<A>,
                                       permutes_8<A>};

/// What A is called, with what this translation unit may use beside it: as pare_add_dispatch calls its units, where one
/// of them is the same.
template <class A>
inline constexpr char const* arch_name = multiplies_bytes<A>                           ? "avx512vnni"
                                         : std::is_same_v<A, xsimd::fma3<xsimd::avx2>> ? "avx2"
                                         : std::is_same_v<A, xsimd::sse4_2>            ? "sse4_2"
                                                                                       : A::name();

/// A is on_intel.
template <class A>
inline constexpr bool for_intel = std::is_same_v<A, on_intel<typename plain<A>::arch>>;

/// This processor is one of Intel's.
template <class A>
[[nodiscard]] inline bool is_intel() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
  static bool const intel = [] {
    __builtin_cpu_init();
    return __builtin_cpu_is("intel") != 0;
  }();
  return intel;
#else
  return false;
#endif
}

/// f(on_intel<A>) or f(on_others<A>), as a std::type_identity, for this processor; f(A) where `Differs` says that it is
/// the same code, and without AVX-512. Kernels of both give the same results. What differs:
///  - shuffles take the two ports of Intel's 512-bit multiply-adds, where AMD has ports for shuffles and is short of
///    loads. Weights are spread over registers by loads on Intel, by shuffles elsewhere;
///  - how far ahead streams from memory are to be fetched: see fetch_distance.
template <class A, bool Differs = true, class F>
[[gnu::always_inline]] inline void with_processor(F&& f) {
  if constexpr (Differs && std::is_base_of_v<xsimd::avx512f, A> && std::is_same_v<A, typename plain<A>::arch>) {
    if (is_intel<A>()) return f(std::type_identity<on_intel<A>>{});
    return f(std::type_identity<on_others<A>>{});
  } else {
    f(std::type_identity<A>{});
  }
}

/// Whether with_processor chooses on_intel, or A is that already.
template <class A>
[[nodiscard]] inline bool runs_on_intel() noexcept {
  bool intel = false;
  with_processor<A>([&]<class B>(std::type_identity<B>) { intel = for_intel<B>; });
  return intel;
}

/// How many bytes ahead to fetch what is read as one stream: `usual` was measured for each kernel on a Zen 5 (40 GB/s);
/// Intel's processors want less (a Xeon, 17 GB/s: float decode with 6 to 20 KB takes up to 8 % longer than with 3.5).
template <class A>
[[nodiscard]] constexpr index_t fetch_distance(index_t usual, index_t intels = 3584) noexcept {
  return for_intel<A> ? intels : usual;
}

/// f(0), ..., f(N - 1), one after the other. Arrays that are indexed with the arguments become registers for certain,
/// if g++ must inline f (`__attribute__((always_inline))` behind its parameters): with -O2, or where a file has many
/// kernels, it leaves lambdas and loops as they are, and keeps sums in memory.
template <class A, index_t N, class F>
[[gnu::always_inline]] inline void repeat(F&& f) noexcept {
  [&]<index_t... I>(std::integer_sequence<index_t, I...>) __attribute__((always_inline)) { (f(I), ...); }
  (std::make_integer_sequence<index_t, N>{});
}

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

/// v, loaded once: g++ would fold a load into each of the instructions that use it, and loads are what kernels are
/// short of.
template <class A>
[[nodiscard]] inline floats<A> in_register(floats<A> v) noexcept {
#if defined(__GNUC__) && defined(__x86_64__)
  typename floats<A>::register_type r = v;
#if defined(__AVX512F__)
  asm("" : "+v"(r));
#else
  asm("" : "+x"(r));
#endif
  return floats<A>(r);
#else
  return v;
#endif
}

/// The bits of 32-bit integers as floats.
template <class A>
[[nodiscard]] inline floats<A> as_floats(xsimd::batch<std::uint32_t, A> bits) noexcept {
  if constexpr (requires { requires std::same_as<decltype(xsimd::bitwise_cast<float>(bits)), floats<A>>; }) {
    return xsimd::bitwise_cast<float>(bits);
  } else {
    return xsimd::bitwise_cast<floats<A>>(bits);  // before xsimd 10
  }
}

/// A weight in all lanes.
template <class A>
[[nodiscard]] inline floats<A> broadcast(float const* weight) noexcept {
  return floats<A>(*weight);
}
template <class A>
[[nodiscard]] inline floats<A> broadcast(bf16 const* weight) noexcept {
  return floats<A>(to_float(*weight));
}

/// A register of weights that follow each other, bf16 widened.
template <class A>
[[nodiscard]] inline floats<A> load_weights(float const* weights) noexcept {
  return floats<A>::load_unaligned(weights);
}
template <class A>
[[nodiscard]] inline floats<A> load_weights(bf16 const* weights) noexcept {
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, A>) {
    __m512i const words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<__m256i const*>(weights)));
    return floats<A>(_mm512_castsi512_ps(_mm512_slli_epi32(words, 16)));
  }
#endif
#if XSIMD_WITH_AVX2
  if constexpr (std::is_base_of_v<xsimd::avx2, A> && !std::is_base_of_v<xsimd::avx512f, A>) {
    __m256i const words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<__m128i const*>(weights)));
    return floats<A>(_mm256_castsi256_ps(_mm256_slli_epi32(words, 16)));
  }
#endif
#if XSIMD_WITH_SSE2
  if constexpr (std::is_base_of_v<xsimd::sse2, A> && !std::is_base_of_v<xsimd::avx, A>) {
    __m128i const words = _mm_loadl_epi64(reinterpret_cast<__m128i const*>(weights));
    return floats<A>(_mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), words)));
  }
#endif
  alignas(64) float wide[lanes<A>];  // g++ -O3 and clang++ turn this loop into a widening load and a shift
  for (index_t i = 0; i < lanes<A>; ++i) wide[i] = to_float(weights[i]);
  return floats<A>::load_aligned(wide);
}

/// Two weights that follow each other, each in all lanes.
template <class A>
struct weight_pair {
  floats<A> first, second;
};
/// One load and two shuffles, where two loads would do, because loads are what the kernels are short of on AMD's
/// processors (with 16 registers, they are short of those).
template <class A>
[[nodiscard]] inline weight_pair<A> broadcast_pair(float const* weights) noexcept {
  [[maybe_unused]] double both;
  std::memcpy(&both, weights, sizeof both);
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, A> && !for_intel<A>) {
    __m512 const pairs = in_register<A>(floats<A>(_mm512_castpd_ps(_mm512_set1_pd(both))));
    return {floats<A>(_mm512_moveldup_ps(pairs)), floats<A>(_mm512_movehdup_ps(pairs))};
  }
#endif
  if constexpr (!has_32_registers<A>) return {floats<A>(weights[0]), floats<A>(weights[1])};  // one after the other
  return {in_register<A>(floats<A>(weights[0])), in_register<A>(floats<A>(weights[1]))};
}
/// One load and two vector operations: a bf16 is the upper half of a float, so a shift and a mask widen both.
template <class A>
[[nodiscard]] inline weight_pair<A> broadcast_pair(bf16 const* weights) noexcept {
  std::uint32_t both;
  std::memcpy(&both, weights, sizeof both);
  if constexpr (std::endian::native == std::endian::big) both = both << 16 | both >> 16;
  using arch = typename plain<A>::arch;
  using words = xsimd::batch<std::uint32_t, arch>;
  words const w(both);
  return {as_floats<arch>(w << 16), as_floats<arch>(w & words(0xffff0000u))};
}

/// Four weights that follow each other, each in all lanes.
template <class A>
struct weight_four {
  floats<A> row[4];
};
template <class A, class T>
[[nodiscard]] inline weight_four<A> broadcast_four(T const* weights) noexcept {
  if constexpr (for_intel<A> && std::is_same_v<T, float>)
    return {in_register<A>(floats<A>(weights[0])), in_register<A>(floats<A>(weights[1])),
            in_register<A>(floats<A>(weights[2])), in_register<A>(floats<A>(weights[3]))};
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, A> && std::is_same_v<T, float>) {  // one load instead of four
    __m512 const four = in_register<A>(floats<A>(_mm512_broadcast_f32x4(_mm_loadu_ps(weights))));
    return {floats<A>(_mm512_permute_ps(four, 0x00)), floats<A>(_mm512_permute_ps(four, 0x55)),
            floats<A>(_mm512_permute_ps(four, 0xaa)), floats<A>(_mm512_permute_ps(four, 0xff))};
  }
#endif
#if XSIMD_WITH_AVX
  if constexpr (std::is_base_of_v<xsimd::avx, A> && !std::is_base_of_v<xsimd::avx512f, A> && std::is_same_v<T, float>) {
    __m256 const four = in_register<A>(floats<A>(_mm256_broadcast_ps(reinterpret_cast<__m128 const*>(weights))));
    return {floats<A>(_mm256_permute_ps(four, 0x00)), floats<A>(_mm256_permute_ps(four, 0x55)),
            floats<A>(_mm256_permute_ps(four, 0xaa)), floats<A>(_mm256_permute_ps(four, 0xff))};
  }
#endif
#if XSIMD_WITH_AVX512BW
  // A shuffle of bytes moves each bf16 to the upper halves of the lanes and clears the lower ones.
  if constexpr (std::is_base_of_v<xsimd::avx512bw, A> && std::is_same_v<T, bf16>) {
    long long four;
    std::memcpy(&four, weights, sizeof four);
    __m512i const all = _mm512_castps_si512(in_register<A>(floats<A>(_mm512_castsi512_ps(_mm512_set1_epi64(four)))));
    auto const nth = [all](int upper) {
      return floats<A>(_mm512_castsi512_ps(_mm512_shuffle_epi8(all, _mm512_set1_epi32(upper << 16 | 0x8080))));
    };
    return {nth(0x0100), nth(0x0302), nth(0x0504), nth(0x0706)};
  }
#endif
  auto const low = broadcast_pair<A>(weights);
  auto const high = broadcast_pair<A>(weights + 2);
  return {low.first, low.second, high.first, high.second};
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
