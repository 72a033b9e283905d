// SPDX-License-Identifier: Apache-2.0
// 8-bit weights times few columns: dot products of bytes in 32-bit integers, scaled once a group.
//
// Four rows and 128 inputs, one column of x, AVX-512: 8 loads of codes (with bitmaps also 8 loads of masks into mask
// registers, 8 counts and 8 vpexpandb), 3 loads of x and its offsets, 8 vpdpbusd; then 6 unpacks and 3 additions give
// the sums of rows 0 1 2 3 four times in one register, which one conversion and one multiply-add scale for all rows.
// Another column adds only what comes after the codes. Nothing saturates: a sum is at most 128 255 127 < 2^31.
//
// Measured on one core of a Zen 5, 11008 x 4096, from memory; medians of nine processes, since the pages that one gets
// move them by 10 % (huge pages make all of them 5 % faster); in % of a loop that only reads at 38 - 41 GB/s:
//   dense 1350 us (87 %, 72 - 97); bitmaps at 50 / 70 / 80 / 90 %: 796 (96 %) / 542 (96 %) / 490 / 463;
//   2, 4, 8 columns: dense 1340 / 1470 / 1600 us, bitmaps at 70 % 600 / 905 / 1555.
// From the first-level cache: dense 17 cycles for four rows and 128 inputs, bitmaps 22 - 25 at any density (a mask and
// an expansion share a unit and take 1.5 cycles, a load that crosses a line 1), another column 6; vpmaddwd 46.
//
// Dropped: a conversion and a multiply-add for each row (bitmaps, 4 columns: 62 cycles, then 48; 8 columns: 125, then
// 84). Not tried: signed weights and x + 128, whose correction for each row and group is 3 % more bytes.
#pragma once

#include <pare/kernel/operand/int8_bitmap_stream.hpp>
#include <pare/kernel/operand/int8_dense.hpp>

namespace pare::inline PARE_ABI {

template <class Operand>
struct int8_stream_few {
  using operand = Operand;
  static constexpr char const* name() noexcept { return "stream"; }
  static constexpr index_t group = Operand::group;

  template <class A>
  static constexpr bool runs_on = simd::multiplies_bytes<A> ||
                                  (simd::multiplies_words<A> && std::is_same_v<Operand, int8_dense<Operand::scaled>>);

  template <class A, epilogue E>
  static void run(Operand const& w, int8_columns const& x, matrix_span<float> y, E const& e, index_t r0,
                  index_t r1) noexcept;

 private:
  static constexpr index_t height = Operand::height;
  static_assert(height == 4);
  static constexpr index_t record = detail::int8_record<group>;
  /// So many columns pass over four rows together; the four rows stay in the first-level cache for the next ones.
  static constexpr index_t most_columns = 8;

  /// totals[j * 4 + i]: row r + i times column first + j. Count is the number of columns, or 0: `count` is.
  template <class A, index_t Count>
  static void four_rows(Operand const& w, int8_columns const& x, index_t first, index_t count, index_t r,
                        float* totals) noexcept;
#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
  template <class A>
  static __m512i sum_rows(__m512i const* dots) noexcept;
#endif
};

template <class Operand>
template <class A, epilogue E>
void int8_stream_few<Operand>::run(Operand const& w, int8_columns const& x, matrix_span<float> y, E const& e,
                                   index_t r0, index_t r1) noexcept {
  for (index_t r = r0; r < r1; r += height)
    for (index_t first = 0; first < x.count; first += most_columns) {
      index_t const count = x.count - first < most_columns ? x.count - first : most_columns;
      float totals[most_columns * height];
      if (count == 1) {
        simd::with_processor<A>([&]<class B>(std::type_identity<B>) { four_rows<B, 1>(w, x, first, 1, r, totals); });
      } else {
        four_rows<A, 0>(w, x, first, count, r, totals);
      }
      for (index_t i = 0; i < height && r + i < w.shape().rows; ++i)
        for (index_t j = 0; j < count; ++j) y(r + i, first + j) = e(totals[j * height + i], r + i, first + j);
    }
}

#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
/// Of each 128 bits of the four registers the sum, in the order of the registers.
template <class Operand>
template <class A>
[[gnu::always_inline]] inline __m512i int8_stream_few<Operand>::sum_rows(__m512i const* dots) noexcept {
  auto const halves = [](__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  };
  __m512i const first = halves(dots[0], dots[1]);
  __m512i const second = halves(dots[2], dots[3]);
  return _mm512_add_epi32(_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
}
#endif

template <class Operand>
template <class A, index_t Count>
void int8_stream_few<Operand>::four_rows(Operand const& w, int8_columns const& x, index_t first, index_t count,
                                         index_t r, [[maybe_unused]] float* totals) noexcept {
  [[maybe_unused]] index_t const columns = Count == 0 ? count : Count;
  [[maybe_unused]] std::int8_t const* codes = x.codes + first * record;
  [[maybe_unused]] float const* x_scales = x.scales + first;
  typename Operand::cursor in(w, r / height);
  auto const step = [&] {
    in.next();
    codes += x.count * record;
    x_scales += x.count;
  };
#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
  if constexpr (simd::multiplies_bytes<A>) {
    constexpr index_t words = group / 64;
    __m512 sums[Count == 0 ? most_columns : Count];  // of the rows 0 1 2 3, four times
    for (__m512& s : sums) s = _mm512_setzero_ps();
    for (index_t k = 0; k < w.shape().cols; k += group, step()) {
      __m512i weights[height][words];
      in.template load<A>(weights);
      if (first == 0) in.template fetch_ahead<A, Count == 1>();
      __m512 const scales = _mm512_broadcast_f32x4(_mm_load_ps(in.scales()));
      for (index_t j = 0; j < columns; ++j) {
        std::int8_t const* const column = codes + j * record;
        __m512i dots[height];
        simd::repeat<A, height>([&](index_t i)
                                    __attribute__((always_inline)) { dots[i] = _mm512_load_si512(column + group); });
        simd::repeat<A, words>([&](index_t b) __attribute__((always_inline)) {
          __m512i const inputs = simd::load_bytes<A>(column + b * 64);
          simd::repeat<A, height>([&](index_t i) __attribute__((always_inline)) {
            dots[i] = _mm512_dpbusd_epi32(dots[i], weights[i][b], inputs);
          });
        });
        __m512 const scale = _mm512_mul_ps(scales, _mm512_set1_ps(x_scales[j]));
        sums[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum_rows<A>(dots)), scale, sums[j]);
      }
    }
    for (index_t j = 0; j < columns; ++j) {
      __m256 const half = _mm256_add_ps(_mm512_castps512_ps256(sums[j]), _mm512_extractf32x8_ps(sums[j], 1));
      _mm_storeu_ps(totals + j * height, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
    }
  }
#endif
#if XSIMD_WITH_AVX2
  if constexpr (!simd::multiplies_bytes<A> && runs_on<A>) {
    for (index_t i = 0; i < columns * height; ++i) totals[i] = 0.0f;
    for (index_t k = 0; k < w.shape().cols; k += group, step()) {
      for (index_t i = 0; i < height; ++i) {
        for (index_t j = 0; j < columns; ++j) {
          std::int8_t const* const column = codes + j * record;
          auto const* const offsets = reinterpret_cast<__m256i const*>(column + group);
          __m256i dot = _mm256_add_epi32(_mm256_load_si256(offsets), _mm256_load_si256(offsets + 1));
          simd::repeat<A, group / 16>([&](index_t b) __attribute__((always_inline)) {
            auto const* const weight = reinterpret_cast<__m128i const*>(in.codes(i) + 16 * b);
            auto const* const input = reinterpret_cast<__m128i const*>(column + 16 * b);
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128(weight)),
                                                          _mm256_cvtepi8_epi16(_mm_load_si128(input))));
          });
          __m128i s = _mm_add_epi32(_mm256_castsi256_si128(dot), _mm256_extracti128_si256(dot, 1));
          s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
          s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
          totals[j * height + i] += static_cast<float>(_mm_cvtsi128_si32(s)) * (in.scales()[i] * x_scales[j]);
        }
      }
    }
  }
#endif
}

}  // namespace pare::inline PARE_ABI
