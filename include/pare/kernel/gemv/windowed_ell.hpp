// SPDX-License-Identifier: Apache-2.0
// Few columns times a windowed ELL: a permutation of two registers looks x up, 16 rows at a time. AVX-512.
//
// A step of float (up to 16 elements): clear the lowest bit (2 operations), find it (xor, leading zeros), test, move
// the mask and count it (3), load, permute, multiply-add, and a prefetch: 12, of which 8 in the vector units. bf16: 19
// for two steps. A window: 20. Only lanes with an element are multiplied (bf16: its missing second ones too, as zeros,
// where x is finite). More columns cost a permutation and a multiply-add a step each.
//
// 11008 x 4096, from memory (Zen 5), one column, over dense_dot_gemv of the same type in the same run:
//            50 %   70 %   80 %   90 %   95 %     of what a loop of loads reads
//   float    1.8    2.8    3.9    7.2    11.7     0.94 / 0.92 / 0.93 / 0.97 / 1.0
//   bf16     1.4    2.15   3.1    4.8     7.0     0.76 / 0.78 / 0.84 / 0.84 / 0.9
// us for 1, 2, 4, 8 columns (dense_dot_gemv, one column: 4850 and 2530):
//   float    50 %: 2570 2560 2670 3850     70 %: 1600 1700 1930 2890     90 %: 650 730 880 1480
//   bf16           1660 1960 2320 3780           1120 1310 1700 2710           500 660 880 1440
//
// What helped against plain sliced ELL with bytes for columns and padding (4.5 at 90 %): values without padding, lanes
// being in the order of their counts; bits for columns (80 %: 11 % fewer bytes; 90 %: as many); for bf16 two steps at a
// time, a load for both (70 %: 12 %; float: nothing).
// Dead ends: a byte for each column, two steps at a time (float 1310 us at 80 %, 670 at 90 %; bf16 890, 480: the only
// one that it wins); one step at a time by the highest bit, whose clearing takes 4 cycles (leading zeros, shift, xor)
// before the next step can begin.
#pragma once

#include <pare/kernel/expand.hpp>
#include <pare/kernel/operand/windowed_ell.hpp>

namespace pare::inline PARE_ABI {

template <weight_value T>
struct windowed_ell_few {
  using operand = windowed_ell<T>;
  static constexpr char const* name() noexcept { return "windows"; }

  template <class A, epilogue E>
  static void run(windowed_ell<T> const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0,
                  index_t r1) noexcept;

 private:
  using group = typename windowed_ell<T>::group;
  static constexpr index_t lanes = windowed_ell<T>::lanes;
  /// sums[16 j + lane] for Width columns from `first` on. Any architecture: one element at a time.
  template <class A>
  static void visit(windowed_ell<T> const& w, group const& g, x_columns x, float* sums) noexcept;
#if XSIMD_WITH_AVX512CD
  /// Sums of one output: two hide the latency of a multiply-add.
  template <index_t Width>
  static constexpr index_t chains = Width <= 4 ? 2 : 1;
  template <class A, index_t Width, bool Masked>
  static void permuted(windowed_ell<T> const& w, group const& g, float const* x, float* sums) noexcept;
#endif
};

template <weight_value T>
template <class A, epilogue E>
void windowed_ell_few<T>::run(windowed_ell<T> const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0,
                              index_t r1) noexcept {
  for (index_t i = r0 / lanes; i * lanes < r1; ++i) {
    group const& g = w.group_at(i);
    alignas(alignment) float sums[8 * lanes];
#if XSIMD_WITH_AVX512CD
    if constexpr (simd::expands<A>) {
      auto const columns = [&]<index_t Width>() {
        if (x.finite) {
          permuted<A, Width, false>(w, g, x.data, sums);
        } else {
          permuted<A, Width, true>(w, g, x.data, sums);
        }
      };
      if (x.width == 1) columns.template operator()<1>();
      if (x.width == 2) columns.template operator()<2>();
      if (x.width == 4) columns.template operator()<4>();
      if (x.width == 8) columns.template operator()<8>();
    } else
#endif
    {
      visit<A>(w, g, x, sums);
    }
    for (index_t l = 0; l < lanes; ++l) {
      index_t const row = g.rows[l];
      if (row == windowed_ell<T>::no_row) continue;
      for (index_t j = 0; j < x.count; ++j)
        y(row, x.first_column + j) = e(sums[j * lanes + l], row, x.first_column + j);
    }
  }
}

template <weight_value T>
template <class A>
void windowed_ell_few<T>::visit(windowed_ell<T> const& w, group const& g, x_columns x, float* sums) noexcept {
  for (index_t i = 0; i < lanes * x.width; ++i) sums[i] = 0.0f;
  T const* v = w.values(g);
  std::uint32_t const* bits = w.bits(g);
  index_t const windows = (&g + 1)->windows - g.windows;
  for (index_t i = 0; i < windows; ++i, bits += lanes) {
    auto const& win = w.windows(g)[i];
    std::uint32_t left[lanes];
    for (index_t l = 0; l < lanes; ++l) left[l] = bits[l];
    for (index_t j = 0; j < x.width; ++j) {
      float moved[lanes];
      for (index_t l = 0; l < lanes; ++l) moved[l] = sums[j * lanes + (win.order[l % 2] >> (l / 2 * 4) & 15u)];
      for (index_t l = 0; l < lanes; ++l) sums[j * lanes + l] = moved[l];
    }
    auto const add = [&](index_t l, T weight) {
      int const column = 31 - std::countr_zero(left[l]);
      left[l] &= left[l] - 1;
      float const* const at = x.data + (win.number * 2 + column / lanes) * lanes * x.width + column % lanes;
      for (index_t j = 0; j < x.width; ++j) sums[j * lanes + l] += to_float(weight) * at[j * lanes];
    };
    for (int s = 0; s < win.steps; s += 2) {
      for (index_t l = 0; l < lanes && left[l] != 0; ++l) {
        add(l, *v++);
        if constexpr (std::same_as<T, bf16>) {
          if (left[l] != 0) add(l, *v);
          ++v;
        }
      }
      if constexpr (std::same_as<T, float>)
        for (index_t l = 0; l < lanes && left[l] != 0; ++l) add(l, *v++);
    }
  }
}

#if XSIMD_WITH_AVX512CD
template <weight_value T>
template <class A, index_t Width, bool Masked>
[[gnu::noinline]] void windowed_ell_few<T>::permuted(windowed_ell<T> const& w, group const& g, float const* x,
                                                     float* sums) noexcept {
  constexpr index_t stride = Width * lanes;
  constexpr index_t ahead = 8192 / static_cast<index_t>(sizeof(T));
  T const* v = w.values(g);
  std::uint32_t const* bits = w.bits(g);
  auto const* win = w.windows(g);
  auto const* const end = w.windows(*(&g + 1));
  __m512i const shifts = _mm512_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28);
  __m512i const minus_one = _mm512_set1_epi32(-1);
  __m512 total[Width];
  simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) { total[j] = _mm512_setzero_ps(); });
  for (; win != end; ++win, bits += lanes) {
    long long nibbles;
    std::memcpy(&nibbles, win->order, sizeof nibbles);
    __m512i const order = _mm512_srlv_epi32(_mm512_set1_epi64(nibbles), shifts);
    float const* const at = x + win->number * 2 * stride;
    __m512 low[Width];
    __m512 high[Width];
    __m512 sum[Width * chains<Width>];
    simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
      total[j] = _mm512_permutexvar_ps(order, total[j]);
      low[j] = _mm512_load_ps(at + j * lanes);
      high[j] = _mm512_load_ps(at + stride + j * lanes);
    });
    for (__m512& s : sum) s = _mm512_setzero_ps();
    __m512i left = _mm512_load_si512(bits);
    __builtin_prefetch(bits + 32 * lanes);
    __builtin_prefetch(win + 128);
    for (int s = win->steps; s > 0; s -= 2) {
      __m512i const left_second = _mm512_and_si512(left, _mm512_add_epi32(left, minus_one));
      __m512i const left_next = _mm512_and_si512(left_second, _mm512_add_epi32(left_second, minus_one));
      __mmask16 const some = _mm512_test_epi32_mask(left, left);
      __mmask16 some_second = some;
      if (Masked || std::same_as<T, float>) some_second = _mm512_test_epi32_mask(left_second, left_second);
      __m512i const column = _mm512_lzcnt_epi32(_mm512_xor_si512(left, left_second));
      __m512i const column_second = _mm512_lzcnt_epi32(_mm512_xor_si512(left_second, left_next));
      left = left_next;
      __m512 weights;
      __m512 weights_second;
      __builtin_prefetch(v + ahead);
      if constexpr (std::same_as<T, float>) {
        __builtin_prefetch(v + ahead + lanes);
        weights = _mm512_loadu_ps(v);
        v += std::popcount(static_cast<std::uint32_t>(some));
        weights_second = _mm512_loadu_ps(v);
        v += std::popcount(static_cast<std::uint32_t>(some_second));
      } else {
        __m512i const both = _mm512_loadu_si512(v);
        weights = simd::low_halves<A>(both);
        weights_second = simd::high_halves<A>(both);
        v += 2 * std::popcount(static_cast<std::uint32_t>(some));
      }
      simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
        __m512& first = sum[j];
        first = _mm512_mask3_fmadd_ps(weights, _mm512_permutex2var_ps(low[j], column, high[j]), first, some);
        __m512& second = sum[Width * (chains<Width> - 1) + j];
        second = _mm512_mask3_fmadd_ps(weights_second, _mm512_permutex2var_ps(low[j], column_second, high[j]), second,
                                       some_second);
      });
    }
    simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
      __m512 const added = chains<Width> == 1 ? sum[j] : _mm512_add_ps(sum[j], sum[Width * (chains<Width> - 1) + j]);
      total[j] = _mm512_add_ps(total[j], added);
    });
  }
  simd::repeat<A, Width>([&](index_t j)
                             __attribute__((always_inline)) { _mm512_store_ps(sums + j * lanes, total[j]); });
}
#endif

}  // namespace pare::inline PARE_ABI
