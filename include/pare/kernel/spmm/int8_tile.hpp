// SPDX-License-Identifier: Apache-2.0
// Dense 8-bit SpMM: a register tile of rows x columns, the baseline of 8 bits at many columns.
//
// 8 rows x 32 columns, four inputs: 2 loads of x, 8 broadcasts of four weights, 16 vpdpbusd, of which there are two a
// cycle. After each group of inputs the 16 sums become floats: 16 conversions, products of the scales and multiply-adds
// with the sums of the groups before, which wait in the first-level cache.
//
// Measured on one core of a Zen 5, 128 columns, x rounded and packed on each call: 768 x 768 83 % of the peak of
// vpdpbusd (two a cycle), 4096 x 4096 81 %; 3.4 and 3.7 times the tile of floats. 300 cycles for 8 rows, 128 inputs and
// 32 columns, 256 of which are products; rounding and packing x take 4 % of 768 x 768. 16 columns alone take 60 % of
// the time of 32: nine loads for eight products are the limit then, and two chains of sums changed nothing.
#pragma once

#include <cstring>

#include <pare/kernel/bytes.hpp>
#include <pare/kernel/int8_panels.hpp>
#include <pare/kernel/operand/int8_dense.hpp>

namespace pare::inline PARE_ABI {

template <index_t G>
struct int8_tile_spmm {
  using operand = int8_dense<G>;
  static constexpr char const* name() noexcept { return "tile"; }
  static constexpr index_t group = operand::group;
  static constexpr detail::int8_order order = detail::int8_order::quads;

  template <class A>
  static constexpr bool runs_on = simd::multiplies_bytes<A>;

  template <class A>
  static panel_request panels(operand const&) noexcept {
    return {.vectors = 2, .needs_sums = true};
  }

  template <class A, epilogue E>
  static void run(operand const& w, int8_panel x, float* sums, y_tile y, E const& e, index_t r0, index_t r1) noexcept;

 private:
  static constexpr index_t height = 8;
  static constexpr index_t quarter = operand::height;  // rows whose codes lie together
  static_assert(height == 2 * quarter);

  template <class A, index_t Vectors, epilogue E>
  static void all_groups(operand const& w, int8_panel x, float* sums, y_tile y, E const& e, index_t r0,
                         index_t r1) noexcept;
  /// Rows [r, r + rows), at most eight, and group g, whose records these are; `sums` are those of row r.
  template <class A, index_t Vectors, bool Last, epilogue E>
  static void tile(operand const& w, index_t r, index_t rows, index_t g, std::int8_t const* records, float* sums,
                   y_tile y, E const& e, index_t first_column) noexcept;
};

template <index_t G>
template <class A, epilogue E>
void int8_tile_spmm<G>::run(operand const& w, int8_panel x, float* sums, y_tile y, E const& e, index_t r0,
                            index_t r1) noexcept {
  if (x.vectors == 2) {
    all_groups<A, 2>(w, x, sums, y, e, r0, r1);
  } else {
    all_groups<A, 1>(w, x, sums, y, e, r0, r1);
  }
}

template <index_t G>
template <class A, index_t Vectors, epilogue E>
void int8_tile_spmm<G>::all_groups([[maybe_unused]] operand const& w, [[maybe_unused]] int8_panel x,
                                   [[maybe_unused]] float* sums, [[maybe_unused]] y_tile y, [[maybe_unused]] E const& e,
                                   [[maybe_unused]] index_t r0, [[maybe_unused]] index_t r1) noexcept {
#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
  constexpr index_t lanes = 16;
  constexpr index_t width = Vectors * lanes;
  index_t const groups = ceil_div(w.shape().cols, group);
  std::int8_t const* records = x.records;
  for (index_t g = 0; g < groups; ++g, records += Vectors * detail::int8_panel_record<group, order>)
    for (index_t r = r0; r < r1; r += height) {
      index_t const rows = r1 - r < height ? r1 - r : height;
      float* const before = sums + (r - r0) * width;
      if (g + 1 < groups) {
        tile<A, Vectors, false>(w, r, rows, g, records, before, y, e, x.first_column);
      } else {
        tile<A, Vectors, true>(w, r, rows, g, records, before, y, e, x.first_column);
      }
    }
  for (index_t r = r0; r < r1 && groups == 0; ++r)
    for (index_t c = 0; c < width; c += lanes)
      e(simd::floats<A>(0.0f), r, x.first_column + c).store_unaligned(y.row(r) + c);
#endif
}

#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
// Not inlined: the loops around it would have g++ park their variables in vector registers.
template <index_t G>
template <class A, index_t Vectors, bool Last, epilogue E>
[[gnu::noinline]] void int8_tile_spmm<G>::tile(operand const& w, index_t r, index_t rows, index_t g,
                                               std::int8_t const* records, float* sums, y_tile y, E const& e,
                                               index_t first_column) noexcept {
  constexpr index_t record = detail::int8_panel_record<group, order>;
  constexpr index_t scales_at = detail::int8_panel_codes<group, order>;
  // The second four rows repeat the first where there are none.
  index_t const q = r / quarter;
  index_t const second = rows > quarter ? q + 1 : q;
  std::uint8_t const* const codes[2] = {w.codes(q, g), w.codes(second, g)};
  float const* const scales[2] = {w.scales(q, g), w.scales(second, g)};
  for (index_t n = 0; n < quarter * group; n += 64) {  // the next group's, which are not behind each other for long
    __builtin_prefetch(codes[0] + quarter * group + n);
    __builtin_prefetch(codes[1] + quarter * group + n);
  }
  __m512i dots[height][Vectors];
  auto const each_register = [](auto const& f) __attribute__((always_inline)) { simd::repeat<A, Vectors>(f); };
  each_register([&](index_t t) __attribute__((always_inline)) {
    __m512i const offsets = simd::load_bytes<A>(records + t * record + scales_at + 64);
    simd::repeat<A, height>([&](index_t i) __attribute__((always_inline)) { dots[i][t] = offsets; });
  });
  for (index_t k = 0; k < group; k += 4) {
    __m512i inputs[Vectors];
    each_register([&](index_t t) __attribute__((always_inline)) {
      inputs[t] = simd::load_bytes<A>(records + t * record + 16 * k);
    });
    simd::repeat<A, height>([&](index_t i) __attribute__((always_inline)) {
      std::int32_t four;
      std::memcpy(&four, codes[i / quarter] + i % quarter * group + k, sizeof four);
      __m512i const weights = _mm512_set1_epi32(four);
      each_register([&](index_t t) __attribute__((always_inline)) {
        dots[i][t] = simd::add_products<A>(dots[i][t], weights, inputs[t]);
      });
    });
  }
  auto const known = static_cast<__mmask16>(g == 0 ? 0 : 0xffff);
  __m512 x_scales[Vectors];
  each_register([&](index_t t) __attribute__((always_inline)) {
    x_scales[t] = _mm512_load_ps(reinterpret_cast<float const*>(records + t * record + scales_at));
  });
  simd::repeat<A, height>([&](index_t i) __attribute__((always_inline)) {
    if (i >= rows) return;
    __m512 const scale = _mm512_set1_ps(scales[i / quarter][i % quarter]);
    each_register([&](index_t t) __attribute__((always_inline)) {
      float* const at = sums + (i * Vectors + t) * 16;
      __m512 const sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[i][t]), _mm512_mul_ps(scale, x_scales[t]),
                                         _mm512_maskz_load_ps(known, at));
      if constexpr (Last) {
        e(simd::floats<A>(sum), r + i, first_column + t * 16).store_unaligned(y.row(r + i) + t * 16);
      } else {
        _mm512_store_ps(at, sum);
      }
    });
  });
}
#endif

}  // namespace pare::inline PARE_ABI
