// SPDX-License-Identifier: Apache-2.0
// Activations as 8-bit codes for many columns: the same codes and scales as in int8_columns.hpp, 16 columns together.
//
// A panel has a record for every group of G inputs and every 16 of its columns:
//
//   panel:   group 0: columns 0 .. 15 | columns 16 .. 31 | ...     group 1: ...
//   record:  codes | scales (16 floats) | offsets (16 integers)
//
// Codes come in one of two orders:
//  - quads, which a product of bytes with weights in all lanes takes: inputs 0 .. 3 of column 0, of column 1, ..., then
//    inputs 4 .. 7. The kernels need the offsets: -128 times the sum of a column's codes (int8_columns.hpp says why).
//  - windows, in which a register looks up inputs: of column 0 inputs 0 .. 63, 32 .. 95 and 64 .. 127, then those of
//    column 1, each as code + 128, for here the weights have the sign. Windows overlap, so that rows can choose.
//
// Feature-major X, 4 inputs x 16 columns: 8 loads, 4 maxima; 4 products, 4 conversions, 3 packs and a shuffle.
#pragma once

#include <pare/kernel/int8_columns.hpp>
#include <pare/kernel/transpose.hpp>

namespace pare::inline PARE_ABI::detail {

enum class int8_order { quads, windows };

/// Bytes of a column's codes, of a record's, and of a record.
template <index_t G, int8_order Order>
inline constexpr index_t int8_column_codes = Order == int8_order::quads ? G : 192;
template <index_t G, int8_order Order>
inline constexpr index_t int8_panel_codes = 16 * int8_column_codes<G, Order>;
template <index_t G, int8_order Order>
inline constexpr index_t int8_panel_record = int8_panel_codes<G, Order> + 128;

#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)

/// What comes with the codes of 16 columns.
struct int8_scales {
  alignas(alignment) float scales[16];
  std::int32_t offsets[16];
};

/// Inputs [k, k + n), n <= G, of `count` <= 16 columns of feature-major x from `first` on: their codes in quads, each
/// byte xor `flip`. False where one of them is NaN or infinite.
template <class A, index_t G>
[[nodiscard]] bool quantise_quads(matrix_span<float const> x, index_t k, index_t n, index_t first, index_t count,
                                  char flip, std::int8_t* codes, int8_scales& with) noexcept {
  auto const columns = static_cast<__mmask16>((1u << count) - 1);
  float const* const from = x.data + k * x.row_stride + first;
  auto const load = [&](index_t i) { return _mm512_maskz_loadu_ps(columns, from + i * x.row_stride); };
  __m512i most = _mm512_setzero_si512();  // as integers: these order as magnitudes do, and NaN is above Inf
  for (index_t i = 0; i < n; ++i) most = _mm512_max_epi32(most, _mm512_castps_si512(_mm512_abs_ps(load(i))));
  if (_mm512_cmpge_epi32_mask(most, _mm512_set1_epi32(0x7f800000)) != 0) return false;
  __m512 const largest = _mm512_castsi512_ps(most);
  __mmask16 const any = _mm512_cmp_ps_mask(largest, _mm512_setzero_ps(), _CMP_GT_OQ);
  __m512 const scale = _mm512_maskz_max_ps(any, _mm512_div_ps(largest, _mm512_set1_ps(127.0f)),
                                           _mm512_set1_ps(0x1p-126f));  // as int8_scale
  __m512 const inverse = _mm512_maskz_div_ps(any, _mm512_set1_ps(1.0f), scale);
  __m512i const in_quads = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  __m512i const flips = _mm512_set1_epi8(flip);
  __m512i sums = _mm512_setzero_si512();
  for (index_t i = 0; i < G; i += 4) {
    auto const code = [&](index_t at) {
      return at < n ? _mm512_cvtps_epi32(_mm512_mul_ps(load(at), inverse)) : _mm512_setzero_si512();
    };
    __m512i const pairs = _mm512_packs_epi32(code(i), code(i + 1));
    __m512i const others = _mm512_packs_epi32(code(i + 2), code(i + 3));
    __m512i const quads = _mm512_shuffle_epi8(_mm512_packs_epi16(pairs, others), in_quads);
    sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), quads);
    _mm512_store_si512(codes + 16 * i, _mm512_xor_si512(quads, flips));
  }
  _mm512_store_ps(with.scales, scale);
  _mm512_store_si512(with.offsets, _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 7)));
  return true;
}

/// The same of x in any layout, a column's codes `stride` bytes after the other's.
template <class A, index_t G>
[[nodiscard]] bool quantise_each_column(matrix_span<float const> x, index_t k, index_t n, index_t first, index_t count,
                                        char flip, std::int8_t* codes, index_t stride, int8_scales& with) noexcept {
  __m512i const flips = _mm512_set1_epi8(flip);
  for (index_t j = 0; j < 16; ++j) {
    alignas(alignment) std::int8_t record[int8_record<G>] = {};
    with.scales[j] = 0.0f;
    if (j < count) {
      float const* column = &x(k, first + j);
      float copy[G];
      if (x.row_stride != 1) {
        for (index_t i = 0; i < n; ++i) copy[i] = x(k + i, first + j);
        column = copy;
      }
      if (!quantise_group<A, G>(column, n, record, with.scales[j])) return false;
    }
    for (index_t i = 0; i < G; i += 64)
      _mm512_store_si512(codes + j * stride + i, _mm512_xor_si512(_mm512_load_si512(record + i), flips));
    with.offsets[j] = _mm512_reduce_add_epi32(_mm512_load_si512(record + G));
  }
  return true;
}

#endif

/// Columns [first, first + count) of x (K, N) as a panel of 16 `vectors` columns, zeros behind them; false where one of
/// them holds NaN or Inf. O(K vectors).
template <class A, index_t G, int8_order Order>
[[nodiscard]] bool pack_int8_panel(matrix_span<float const> x, index_t first, index_t count, index_t vectors,
                                   std::int8_t* out) noexcept {
#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
  constexpr bool quads = Order == int8_order::quads;
  constexpr index_t stride = int8_column_codes<G, Order>;
  constexpr char flip = quads ? '\0' : static_cast<char>(-128);
  for (index_t k = 0; k < x.rows; k += G)
    for (index_t v = 0; v < vectors; ++v, out += int8_panel_record<G, Order>) {
      index_t const n = x.rows - k < G ? x.rows - k : G;
      index_t const left = count - 16 * v;
      index_t const columns = left < 16 ? left : 16;
      auto& with = *reinterpret_cast<int8_scales*>(out + int8_panel_codes<G, Order>);
      alignas(alignment) std::int8_t other[16 * G];  // in the other order, where x has that one
      auto* const floats = reinterpret_cast<float*>(out);
      auto const* const other_floats = reinterpret_cast<float const*>(other);
      float const* from[16];
      if (x.col_stride == 1) {
        if (!quantise_quads<A, G>(x, k, n, first + 16 * v, columns, flip, quads ? out : other, with)) return false;
        for (index_t q = 0; q < G / 4 && !quads; q += 16) {
          for (index_t i = 0; i < 16; ++i) from[i] = other_floats + (q + i) * 16;
          transpose_block<A>(from, floats + q, stride / 4);
        }
      } else {
        if (!quantise_each_column<A, G>(x, k, n, first + 16 * v, columns, flip, quads ? other : out, stride, with))
          return false;
        for (index_t q = 0; q < G / 4 && quads; q += 16) {
          for (index_t j = 0; j < 16; ++j) from[j] = other_floats + j * stride / 4 + q;
          transpose_block<A>(from, floats + q * 16, 16);
        }
      }
      for (index_t j = 0; j < 16 && !quads; ++j) {  // the windows, so far behind each other, overlap
        std::int8_t* const column = out + j * stride;
        std::memcpy(column + 128, column + 64, 64);
        std::memcpy(column + 64, column + 32, 32);
        std::memcpy(column + 96, column + 128, 32);
      }
    }
#else
  (void)x, (void)first, (void)count, (void)vectors, (void)out;
#endif
  return true;
}

}  // namespace pare::inline PARE_ABI::detail
