// SPDX-License-Identifier: Apache-2.0
// Few columns times a bitmap stream: values are expanded in registers, x comes from the caches, W once from memory.
//
// AVX-512, float, 16 columns of a row: load, mask, expansion (2 operations), multiply-add with the same mask, and a
// population count: 8.8 operations, of which 4 in the vector units, and 3 load slots (a load that crosses a line takes
// two): 1.9 cycles. bf16, 32 columns: 12 and 7 operations, 2.5 cycles. The multiply-adds are masked where x is not
// finite (float: always, it is free), because an expanded zero must not meet an Inf.
// AVX2, float, 8 columns: the expansion is a permutation from a table of 8 KB: 2 cycles.
//
// 11008 x 4096, from memory, one column, over dense_dot_gemv of the same type in the same run (Zen 5):
//              50 %   70 %   90 %      of what a loop of loads reads at 50 / 70 %
//   float      1.8    2.85   3.4       0.90 / 0.92     (windowed_ell is as fast at 50 % and faster above)
//   bf16       1.85   2.75   3.0       0.94 / 0.88
//   float/AVX2 1.5    1.8    1.85      bf16/AVX2: 0.98, not offered
//
// Prefetching is what makes it: without 0.5 of the memory's speed, 3 KB ahead 0.7, 8 KB 0.88, 20 KB 0.9; and every line
// must be covered, one too many rather than one too few (see row_lines). With pages of 2 MB all figures are 5 % better.
// Intel Xeon, while its memory was quiet (17 GB/s): 3.5 KB ahead 1.7 / 2.9, 0.84 of the memory's speed; twice as
// long from the first-level cache as Zen 5 (an expansion takes two of its multiply-adds' slots).
// vdpbf16ps is not used for bf16: it would round x to bf16 (an error of 2^-9 where weights alone have it), and what it
// would save is not what limits decode.
// Dead ends: masks through general registers (kmovw: 2.6 cycles a step) or shifted in mask registers (float: 1.87);
// 8 rows a group; trip counts of prefetches that are not constant (registers spill: 1.4x at 50 %); tests of a broadcast
// mask for bf16 (2.75 cycles).
#pragma once

#include <pare/kernel/expand.hpp>
#include <pare/kernel/operand/bitmap_stream.hpp>

namespace pare::inline PARE_ABI {

template <weight_value T>
struct bitmap_stream_few {
  using operand = bitmap_stream<T>;
  static constexpr char const* name() noexcept { return "stream"; }

  template <class A, epilogue E>
  static void run(bitmap_stream<T> const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0,
                  index_t r1) noexcept;

 private:
  static constexpr index_t rows = bitmap_stream<T>::group_rows;
  /// Any architecture: the stored elements one by one.
  template <class A>
  static void visit(bitmap_stream<T> const& w, index_t group, x_columns x, float* sums) noexcept;
  template <class A, index_t Width, epilogue E>
  static void expanded(bitmap_stream<T> const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0,
                       index_t r1) noexcept;
#if XSIMD_WITH_AVX2
  /// One column, AVX2: x(16 i .. 16 i + 15) at x + i * stride; the sum of row r to sums[8 r].
  template <class A>
  static void looked_up(bitmap_stream<T> const& w, index_t group, float const* x, index_t stride, float* sums) noexcept;
#endif
#if XSIMD_WITH_AVX512CD
  /// Sums of one output: two, where there are too few outputs to hide the latency of a multiply-add.
  template <index_t Width>
  static constexpr index_t chains = Width == 1 ? 2 : 1;
  /// Adds `blocks` blocks of Rows rows of a group, from row First on, to the sums; returns the end of the values.
  template <class A, index_t Width, index_t First, index_t Rows, index_t Lines, bool Masked>
  static T const* add_blocks(std::uint64_t const* m, T const* v, float const* x, index_t blocks, __m512* sums) noexcept;
#endif
};

template <weight_value T>
template <class A, epilogue E>
void bitmap_stream_few<T>::run(bitmap_stream<T> const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0,
                               index_t r1) noexcept {
#if XSIMD_WITH_AVX512CD
  if constexpr (simd::expands<A>) {
    if (w.by_words() == (std::same_as<T, bf16> && simd::expands_words<A>)) {
      if (x.width == 1) return expanded<A, 1>(w, x, y, e, r0, r1);
      if (x.width == 2) return expanded<A, 2>(w, x, y, e, r0, r1);
      if (x.width == 4) return expanded<A, 4>(w, x, y, e, r0, r1);
      return expanded<A, 8>(w, x, y, e, r0, r1);
    }
  }
#endif
  for (index_t r = r0; r < r1; r += rows) {
    float sums[rows * 8] = {};
    bool done = false;
#if XSIMD_WITH_AVX2
    if constexpr (simd::permutes_8<A>) {
      done = x.finite && !w.by_words();
      for (index_t j = 0; done && j < x.count; ++j) looked_up<A>(w, r / rows, x.data + j * 16, x.width * 16, sums + j);
    }
#endif
    if (!done) visit<A>(w, r / rows, x, sums);
    for (index_t i = r; i < r + rows && i < r1; ++i)
      for (index_t j = 0; j < x.count; ++j) y(i, x.first_column + j) = e(sums[(i - r) * 8 + j], i, x.first_column + j);
  }
}

template <weight_value T>
template <class A>
void bitmap_stream_few<T>::visit(bitmap_stream<T> const& w, index_t group, x_columns x, float* sums) noexcept {
  std::uint64_t const* m = w.masks(group);
  T const* v = w.values(group);
  float const* block = x.data;
  auto const add = [&](index_t row, index_t column) {
    float const weight = to_float(*v++);
    float const* const at = block + column / 16 * 16 * x.width + column % 16;
    for (index_t j = 0; j < x.count; ++j) sums[row * 8 + j] += weight * at[j * 16];
  };
  for (index_t b = 0; b < w.blocks(); ++b, block += 64 * x.width)
    for (index_t row = 0; row < rows; ++row)
      for (std::uint64_t bits = *m++; bits != 0; bits &= bits - 1) add(row, w.column(std::countr_zero(bits)));
}

#if XSIMD_WITH_AVX2
template <weight_value T>
template <class A>
void bitmap_stream_few<T>::looked_up(bitmap_stream<T> const& w, index_t group, float const* x, index_t stride,
                                     float* sums) noexcept {
  constexpr index_t ahead = 6144 / static_cast<index_t>(sizeof(T));
  std::uint64_t const* m = w.masks(group);
  T const* v = w.values(group);
  __m256 s[rows];
  simd::repeat<A, rows>([&](index_t i) __attribute__((always_inline)) { s[i] = _mm256_setzero_ps(); });
  for (index_t b = 0; b < w.blocks(); ++b, m += rows, x += 4 * stride) {
    T const* row[rows];
    simd::repeat<A, rows>([&](index_t i) __attribute__((always_inline)) {
      row[i] = v;
      __builtin_prefetch(v + ahead);
      __builtin_prefetch(v + ahead + 64 / static_cast<index_t>(sizeof(T)));
      v += std::popcount(m[i]);
    });
    simd::repeat<A, 8>([&](index_t u) __attribute__((always_inline)) {
      __m256 const at = _mm256_load_ps(x + u / 2 * stride + u % 2 * 8);
      simd::repeat<A, rows>([&](index_t i) __attribute__((always_inline)) {
        auto const bits = static_cast<std::uint8_t>(m[i] >> (8 * u));
        s[i] = simd::multiply_add<A>(simd::expand_8<A>(simd::load_weights<A>(row[i]), bits), at, s[i]);
        row[i] += std::popcount(bits);
      });
    });
  }
  for (index_t i = 0; i < rows; ++i) sums[i * 8] = simd::sum<A>(simd::floats<A>(s[i]));
}
#endif

#if XSIMD_WITH_AVX512CD
template <weight_value T>
template <class A, index_t Width, epilogue E>
void bitmap_stream_few<T>::expanded(bitmap_stream<T> const& w, x_columns x, matrix_span<float> y, E const& e,
                                    index_t r0, index_t r1) noexcept {
  constexpr index_t run_blocks = 16;
  for (index_t r = r0; r < r1; r += rows) {
    std::uint64_t const* m = w.masks(r / rows);
    T const* v = w.values(r / rows);
    __m512 sums[rows * Width * chains<Width>];
    for (__m512& s : sums) s = _mm512_setzero_ps();
    if constexpr (Width <= 4) {
      simd::with_processor<A, Width == 1>([&]<class B>(std::type_identity<B>) {
        auto const all = [&]<index_t Lines>() {
          if (x.finite) {
            add_blocks<B, Width, 0, 4, Lines, false>(m, v, x.data, w.blocks(), sums);
          } else {
            add_blocks<B, Width, 0, 4, Lines, true>(m, v, x.data, w.blocks(), sums);
          }
        };
        if (w.row_lines() == 2) all.template operator()<2>();
        if (w.row_lines() >= 3) all.template operator()<3>();
      });
    } else {  // two rows at a time, so that the sums fit the registers; a run of blocks stays in the first-level cache
      for (index_t b = 0; b < w.blocks(); b += run_blocks) {
        index_t const n = b + run_blocks < w.blocks() ? run_blocks : w.blocks() - b;
        float const* const at = x.data + b * 64 * Width;
        add_blocks<A, Width, 0, 2, 2, true>(m, v, at, n, sums);
        v = add_blocks<A, Width, 2, 2, 2, true>(m, v, at, n, sums + 2 * Width);
        m += n * rows;
      }
    }
    for (index_t i = r; i < r + rows && i < r1; ++i)
      for (index_t j = 0; j < x.count; ++j) {
        __m512 const* const s = sums + ((i - r) * Width + j) * chains<Width>;
        auto const total = simd::floats<A>(chains<Width> == 1 ? s[0] : _mm512_add_ps(s[0], s[chains<Width> - 1]));
        y(i, x.first_column + j) = e(simd::sum<A>(total), i, x.first_column + j);
      }
  }
}

// A function of its own, with every lambda in it: left to itself, g++ leaves some of them as calls or inlines all into
// one large function, and keeps sums in memory (twice as slow).
template <weight_value T>
template <class A, index_t Width, index_t First, index_t Rows, index_t Lines, bool Masked>
[[gnu::noinline]] T const* bitmap_stream_few<T>::add_blocks(std::uint64_t const* m, T const* v, float const* x,
                                                            index_t blocks, __m512* sums) noexcept {
  constexpr index_t line = 64 / static_cast<index_t>(sizeof(T));
  constexpr index_t ahead = simd::fetch_distance<A>(320 * 64) / static_cast<index_t>(sizeof(T));
  constexpr index_t masks_ahead = simd::fetch_distance<A>(8192) / static_cast<index_t>(sizeof *m);
  __m512i const low_bits =
      _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  __m512i const high_bits = _mm512_slli_epi32(low_bits, 16);
  __m512 s[Rows][Width * chains<Width>];
  simd::repeat<A, Rows>([&](index_t i) __attribute__((always_inline)) {
    simd::repeat<A, Width * chains<Width>>([&](index_t j) __attribute__((always_inline)) {
      s[i][j] = sums[i * Width * chains<Width> + j];
    });
  });
  for (index_t b = 0; b < blocks; ++b, m += rows, x += 64 * Width) {
    __builtin_prefetch(m + masks_ahead);
    T const* row[rows];
    std::uint64_t bits[rows];
    simd::repeat<A, rows>([&](index_t i) __attribute__((always_inline)) {
      bits[i] = m[i];
      row[i] = v;
      __builtin_prefetch(v + ahead);
      __builtin_prefetch(v + ahead + line);
      if constexpr (Lines > 2) __builtin_prefetch(v + ahead + 2 * line);
      v += std::popcount(bits[i]);
    });
    if constexpr (std::same_as<T, bf16> && simd::expands_words<A>) {
#if defined(__AVX512VBMI2__)
      __m512i const even_bits =
          _mm512_sllv_epi32(low_bits, _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
      __mmask64 lanes[Rows];
      simd::repeat<A, Rows>([&](index_t i)
                                __attribute__((always_inline)) { lanes[i] = simd::load_mask<A>(m + First + i); });
      simd::repeat<A, 2>([&](index_t half) __attribute__((always_inline)) {
        __m512 at[2 * Width];
        simd::repeat<A, 2 * Width>([&](index_t j) __attribute__((always_inline)) {
          at[j] = simd::load_x<A>(x + (half * 2 * Width + j) * 16);
        });
        simd::repeat<A, Rows>([&](index_t i) __attribute__((always_inline)) {
          T const* const p =
              row[First + i] + (half == 0 ? 0 : std::popcount(static_cast<std::uint32_t>(bits[First + i])));
          __mmask32 const words = half == 0 ? simd::low_bits<A>(lanes[i]) : simd::high_bits<A>(lanes[i]);
          __m512i const pairs = simd::expand_words<A>(_mm512_loadu_si512(p), words);
          __m512 const low = simd::low_halves<A>(pairs);
          __m512 const high = simd::high_halves<A>(pairs);
          __mmask16 low_lanes = 0;
          __mmask16 high_lanes = 0;
          if constexpr (Masked) {
            __m512i const mask = simd::broadcast_word<A>(m + First + i, half);
            low_lanes = _mm512_test_epi32_mask(mask, even_bits);
            high_lanes = _mm512_test_epi32_mask(mask, _mm512_add_epi32(even_bits, even_bits));
          }
          simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
            __m512& even = s[i][j * chains<Width>];
            __m512& odd = s[i][j * chains<Width> + chains<Width> - 1];
            if constexpr (Masked) {
              even = _mm512_mask3_fmadd_ps(low, at[j], even, low_lanes);
              odd = _mm512_mask3_fmadd_ps(high, at[Width + j], odd, high_lanes);
            } else {
              even = _mm512_fmadd_ps(low, at[j], even);
              odd = _mm512_fmadd_ps(high, at[Width + j], odd);
            }
          });
        });
      });
#endif
    } else {
      simd::repeat<A, 4>([&](index_t u) __attribute__((always_inline)) {
        __m512 at[Width];
        simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
          at[j] = simd::load_x<A>(x + (u * Width + j) * 16);
        });
        simd::repeat<A, Rows>([&](index_t i) __attribute__((always_inline)) {
          std::uint64_t const before = bits[First + i] & ((std::uint64_t{1} << (16 * u)) - 1);
          __m512i const mask = simd::broadcast_word<A>(m + First + i, u / 2);
          __mmask16 const lanes = _mm512_test_epi32_mask(mask, u % 2 == 0 ? low_bits : high_bits);
          __m512 const weights = simd::expand<A>(simd::load_16<A>(row[First + i] + std::popcount(before)), lanes);
          simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
            __m512& sum = s[i][j * chains<Width> + u % chains<Width>];
            sum = _mm512_mask3_fmadd_ps(weights, at[j], sum, lanes);
          });
        });
      });
    }
  }
  simd::repeat<A, Rows>([&](index_t i) __attribute__((always_inline)) {
    simd::repeat<A, Width * chains<Width>>([&](index_t j) __attribute__((always_inline)) {
      sums[i * Width * chains<Width> + j] = s[i][j];
    });
  });
  return v;
}
#endif

}  // namespace pare::inline PARE_ABI
