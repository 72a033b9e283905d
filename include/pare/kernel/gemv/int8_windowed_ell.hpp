// SPDX-License-Identifier: Apache-2.0
// Few columns times 8-bit weights with places: x is looked up in two registers, which a window of 128 inputs fills.
//
// A step of 64 elements and a column of x: 2 loads, vpermi2b, vpmovb2m and a masked vpsubb for the sign, vpdpbusd. A
// record of 64 rows and 128 inputs ends with 4 conversions and 8 multiplications; 8 vpermi2ps and 4 blends bring the
// rows back into order.
//
// Measured on one core of a Zen 5, 11008 x 4096, from memory (dense: 1350 us): 80 / 85 / 90 / 95 % 640 / 520 / 390 /
// 270 us; bitmaps are faster up to about 87 %. At 90 % it reads at 87 % of the memory's speed, 2.9 bytes an element:
// 0.9 of them are padding, scales and places. From the cache a record of 90 % takes 74 cycles, another column 61.
#pragma once

#include <pare/kernel/operand/int8_windowed_ell.hpp>

namespace pare::inline PARE_ABI {

template <index_t G>
struct int8_windowed_ell_few {
  using operand = int8_windowed_ell<G>;
  static constexpr char const* name() noexcept { return "windows"; }
  static constexpr index_t group = operand::group;

  template <class A>
  static constexpr bool runs_on = simd::multiplies_bytes<A>;

  template <class A, epilogue E>
  static void run(operand const& w, int8_columns const& x, matrix_span<float> y, E const& e, index_t r0,
                  index_t r1) noexcept;

 private:
  static constexpr index_t height = operand::height;
  static constexpr index_t most_columns = 8;  // at a time
  static constexpr index_t ahead = 8192;      // bytes

  /// totals[j * 64 + i]: row 64 b + i times column first + j. Count is the number of columns, or 0: `count` is.
  template <class A, index_t Count>
  static void block(operand const& w, int8_columns const& x, index_t first, index_t count, index_t b,
                    float* totals) noexcept;
};

template <index_t G>
template <class A, epilogue E>
void int8_windowed_ell_few<G>::run(operand const& w, int8_columns const& x, matrix_span<float> y, E const& e,
                                   index_t r0, index_t r1) noexcept {
  for (index_t r = r0; r < r1; r += height)
    for (index_t first = 0; first < x.count; first += most_columns) {
      index_t const count = x.count - first < most_columns ? x.count - first : most_columns;
      alignas(alignment) float totals[most_columns * height];
      if (count == 1) {
        block<A, 1>(w, x, first, 1, r / height, totals);
      } else {
        block<A, 0>(w, x, first, count, r / height, totals);
      }
      for (index_t i = 0; i < height && r + i < w.shape().rows; ++i)
        for (index_t j = 0; j < count; ++j) y(r + i, first + j) = e(totals[j * height + i], r + i, first + j);
    }
}

template <index_t G>
template <class A, index_t Count>
void int8_windowed_ell_few<G>::block([[maybe_unused]] operand const& w, [[maybe_unused]] int8_columns const& x,
                                     [[maybe_unused]] index_t first, [[maybe_unused]] index_t count,
                                     [[maybe_unused]] index_t b, [[maybe_unused]] float* totals) noexcept {
#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
  constexpr index_t record = detail::int8_record<group>;
  constexpr index_t parts = operand::parts;
  static_assert(parts == 4);
  index_t const columns = Count == 0 ? count : Count;
  __m512 sums[Count == 0 ? most_columns : Count][parts];
  for (auto& column : sums)
    simd::repeat<A, parts>([&](index_t part) __attribute__((always_inline)) { column[part] = _mm512_setzero_ps(); });
  std::uint8_t const* p = w.records(b);
  std::uint8_t const* steps = w.steps(b);
  std::int8_t const* codes = x.codes + first * record;
  float const* x_scales = x.scales + first;
  __m512i const zero = _mm512_setzero_si512();
  for (index_t k = 0; k < w.shape().cols; k += group, steps += parts) {
    std::uint8_t const* const header = p;
    std::uint8_t const* next = p;
    for (index_t j = 0; j < columns; ++j) {
      __m512i const low = simd::load_bytes<A>(codes + j * record);
      __m512i const high = simd::load_bytes<A>(codes + j * record + 64);
      __m512 const x_scale = _mm512_set1_ps(x_scales[j]);
      next = header + operand::steps_at;
      __m512 sorted[parts];
      simd::repeat<A, parts>([&](index_t part) __attribute__((always_inline)) {
        __m512i dot = zero;
        for (index_t s = steps[part]; s > 0; --s, next += operand::step_bytes) {
          __m512i const inputs = simd::load_bytes<A>(next);
          __m512i const found = _mm512_permutex2var_epi8(low, inputs, high);
          __m512i const with_sign = _mm512_mask_sub_epi8(found, _mm512_movepi8_mask(inputs), zero, found);
          dot = _mm512_dpbusd_epi32(dot, _mm512_load_si512(next + 64), with_sign);
          if (j == 0) {
            __builtin_prefetch(next + ahead);
            __builtin_prefetch(next + ahead + 64);
          }
        }
        __m512 const scale = _mm512_load_ps(reinterpret_cast<float const*>(header + operand::scales_at) + part * 16);
        sorted[part] = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(scale, x_scale));
      });
      simd::repeat<A, parts>([&](index_t part) __attribute__((always_inline)) {
        __m512i const place = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<__m128i const*>(header) + part));
        __m512 const front = _mm512_permutex2var_ps(sorted[0], place, sorted[1]);
        __m512 const back = _mm512_permutex2var_ps(sorted[2], place, sorted[3]);
        __mmask16 const is_back = _mm512_test_epi32_mask(place, _mm512_set1_epi32(32));
        sums[j][part] = _mm512_add_ps(sums[j][part], _mm512_mask_blend_ps(is_back, front, back));
      });
    }
    p = next;
    codes += x.count * record;
    x_scales += x.count;
  }
  for (index_t j = 0; j < columns; ++j)
    simd::repeat<A, parts>([&](index_t part) __attribute__((always_inline)) {
      _mm512_store_ps(totals + j * height + part * 16, sums[j][part]);
    });
#endif
}

}  // namespace pare::inline PARE_ABI
