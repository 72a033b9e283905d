// SPDX-License-Identifier: Apache-2.0
// Dense weights times one and few columns: dot products of rows.
//
// One column: a row at a time, eight accumulators deep. Reads W once: bound by the memory; beyond the caches at 95 %
// (float) and 88 % (bf16; 94 with pages of 2 MB) of what a loop of loads reads. Prefetching, in % for bf16: none 85, 2
// KB ahead 82, 4 KB 88, 8 KB 85 (Intel Xeon: 4 KB 69, 1 KB or none 77); it takes 5 % from float. Dead ends: four
// accumulators (3 % slower); several rows together (bf16 20 % slower: rows of 8 KB share the sets of the caches); whole
// lines of bf16, even and odd elements apart (slower without prefetching, the same with it).
//
// Up to eight columns: two rows together. A step of 16 inputs: two loads of weights, a load of x and two multiply-adds
// for each column. x is taken in blocks of 16 KB, which stay in the first-level cache while 32 rows pass; the sums of
// each row wait in memory between blocks. us (Zen 5) for 2, 4, 8 columns (bitmap_stream_few of the full matrix; oneDNN,
// which multiplies bf16 by bf16):
//   768 x 768     f32     24    27    50  (28, 97, 58; 21, 22, 39)
//   768 x 768     bf16    15    26    49  (19, 26, 59; 10, 11, 20)
//   4096 x 4096   f32   2290  2570  2350  (2240, 3200, 6800; 1800, 1920, 2500)
//   11008 x 4096  bf16  3100  3310  4030  (3050, 3900, 6260; 2350, 2600, 3450)
// Prefetches must follow the order of the rows and blocks (bf16, two columns: 6000 us without), 8 KB ahead; with 2 KB 8
// columns take 5250 us. Dead ends: one row (bf16 twice as slow for 4 columns), four (two columns 5 to 20 % slower); x
// not in blocks (8 columns: bf16 7800, f32 3800); blocks of 8 or 32 KB; 8 or 64 rows between two blocks.
#pragma once

#include <pare/format/dense.hpp>
#include <pare/kernel/expand.hpp>
#include <pare/kernel/kernel.hpp>

namespace pare::inline PARE_ABI {

/// One column. Pruned elements are multiplied as zeros (see dense_tile_spmm).
template <weight_value T>
struct dense_dot_gemv {
  using operand = dense<T>;
  static constexpr char const* name() noexcept { return "dot"; }

  template <class A, epilogue E>
  static void run(dense<T> const& w, float const* x, float* y, index_t y_stride, E const& e, index_t r0,
                  index_t r1) noexcept {
    simd::with_processor<A, std::is_same_v<T, bf16>>(
        [&]<class B>(std::type_identity<B>) { rows<B>(w, x, y, y_stride, e, r0, r1); });
  }

 private:
  template <class A, epilogue E>
  static void rows(dense<T> const& w, float const* x, float* y, index_t y_stride, E const& e, index_t r0,
                   index_t r1) noexcept;
};

template <weight_value T>
template <class A, epilogue E>
void dense_dot_gemv<T>::rows(dense<T> const& w, float const* x, float* y, index_t y_stride, E const& e, index_t r0,
                             index_t r1) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t line = 64 / static_cast<index_t>(sizeof(T));
  constexpr bool prefetches = std::is_same_v<T, bf16> && line >= lanes;
  [[maybe_unused]] constexpr index_t ahead = simd::fetch_distance<A>(4096, 1024) / static_cast<index_t>(sizeof(T));
  index_t const width = w.shape().cols;
  for (index_t r = r0; r < r1; ++r) {
    T const* row = w.values().row(r);
    floats sum[8];
    simd::repeat<A, 8>([&](index_t t) __attribute__((always_inline)) { sum[t] = floats(0.0f); });
    index_t k = 0;
    for (; k + 8 * lanes <= width; k += 8 * lanes)
      simd::repeat<A, 8>([&](index_t t) __attribute__((always_inline)) {
        if constexpr (prefetches)
          if (t % (line / lanes) == 0) __builtin_prefetch(row + k + t * lanes + ahead);
        sum[t] = simd::multiply_add<A>(simd::load_weights<A>(row + k + t * lanes),
                                       floats::load_unaligned(x + k + t * lanes), sum[t]);
      });
    for (; k + lanes <= width; k += lanes)
      sum[0] = simd::multiply_add<A>(simd::load_weights<A>(row + k), floats::load_unaligned(x + k), sum[0]);
    float total = simd::sum<A>(((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7])));
    for (; k < width; ++k) total += to_float(row[k]) * x[k];
    y[r * y_stride] = e(total, r, 0);
  }
}

/// Up to eight columns. Pruned elements are multiplied as zeros.
template <weight_value T>
struct dense_dot_few {
  using operand = dense<T>;
  static constexpr char const* name() noexcept { return "dots"; }

  template <class A, epilogue E>
  static void run(dense<T> const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0, index_t r1) noexcept;

 private:
  static constexpr index_t input_run = 16;  // of x_columns
  static constexpr index_t group_rows = 32;
  template <class A, index_t Width>
  static constexpr index_t height = Width == 8 && !simd::has_32_registers<A> ? 1 : 2;  // rows that are read together

  template <class A, index_t Width, epilogue E>
  static void columns(dense<T> const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0,
                      index_t r1) noexcept;
  /// Adds `inputs` products to the sums, a register for each row and column. Prefetches as many weights from `next` on.
  template <class A, index_t Width>
  static void add(T const* const* row, T const* const* next, float const* x, index_t inputs, float* sums) noexcept;
};

template <weight_value T>
template <class A, epilogue E>
void dense_dot_few<T>::run(dense<T> const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0,
                           index_t r1) noexcept {
  if (x.width == 1) return columns<A, 1>(w, x, y, e, r0, r1);
  if (x.width == 2) return columns<A, 2>(w, x, y, e, r0, r1);
  if (x.width == 4) return columns<A, 4>(w, x, y, e, r0, r1);
  return columns<A, 8>(w, x, y, e, r0, r1);
}

template <weight_value T>
template <class A, index_t Width, epilogue E>
void dense_dot_few<T>::columns(dense<T> const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0,
                               index_t r1) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t together = height<A, Width>;
  constexpr index_t block = 4096 / Width;  // inputs: 16 KB of x
  constexpr index_t step_bytes = together * block * static_cast<index_t>(sizeof(T));
  constexpr index_t ahead = (step_bytes < 8192 ? 8192 / step_bytes : 1) * together;  // rows
  index_t const inputs = w.shape().cols;
  T const* const weights = w.values().data();
  for (index_t r = r0; r < r1; r += group_rows) {
    index_t const end = r1 - r < group_rows ? r1 : r + group_rows;
    alignas(alignment) float sums[group_rows * Width * lanes];
    for (index_t i = 0; i < round_up(end - r, together) * Width * lanes; ++i) sums[i] = 0.0f;
    for (index_t k = 0; k < inputs; k += block) {
      bool const is_last = k + block >= inputs;
      for (index_t i = r; i < end; i += together) {
        // After the group's last rows come the next block of its first ones, or the next group.
        index_t const passed = i + ahead - end;
        T const* const then = passed < 0 ? weights + (i + ahead) * inputs + k
                              : is_last  ? weights + (i + ahead) * inputs
                                         : weights + (r + passed) * inputs + k + block;
        T const* row[together];
        T const* next[together];
        for (index_t h = 0; h < together; ++h) {  // those behind the last repeat it
          row[h] = weights + (i + h < end ? i + h : end - 1) * inputs + k;
          next[h] = then + h * inputs;
        }
        add<A, Width>(row, next, x.data + k * Width, is_last ? inputs - k : block, sums + (i - r) * Width * lanes);
      }
    }
    for (index_t i = r; i < end; ++i)
      for (index_t j = 0; j < x.count; ++j) {
        auto const sum = floats::load_aligned(sums + ((i - r) * Width + j) * lanes);
        y(i, x.first_column + j) = e(simd::sum<A>(sum), i, x.first_column + j);
      }
  }
}

template <weight_value T>
template <class A, index_t Width>
[[gnu::noinline]] void dense_dot_few<T>::add(T const* const* row, T const* const* next, float const* x, index_t inputs,
                                             float* sums) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t together = height<A, Width>;
  constexpr index_t chains = together * Width < 8 ? 8 / (together * Width) : 1;  // hide the latency
  constexpr index_t turn = chains * lanes > input_run ? chains * lanes : input_run;
  constexpr index_t line = 64 / static_cast<index_t>(sizeof(T));
  floats sum[together][Width][chains];
  simd::repeat<A, together>([&](index_t i) __attribute__((always_inline)) {
    simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
      sum[i][j][0] = floats::load_aligned(sums + (i * Width + j) * lanes);
      for (index_t c = 1; c < chains; ++c) sum[i][j][c] = floats(0.0f);
    });
  });
  T const* at[together];
  index_t ahead[together];
  for (index_t i = 0; i < together; ++i) {
    at[i] = row[i];
    ahead[i] = next[i] - row[i];
  }
  index_t k = 0;
  for (; k + turn <= inputs; k += turn, x += turn * Width)
    simd::repeat<A, turn / lanes>([&](index_t u) __attribute__((always_inline)) {
      index_t const first = u * lanes;
      floats weights[together];
      simd::repeat<A, together>([&](index_t i) __attribute__((always_inline)) {
        if (first % line == 0) __builtin_prefetch(at[i] + ahead[i] + k + first);
        weights[i] = simd::in_register<A>(simd::load_weights<A>(at[i] + k + first));
      });
      simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
        float const* const in = x + first / input_run * input_run * Width + j * input_run + first % input_run;
        floats const input = simd::in_register<A>(floats::load_aligned(in));
        simd::repeat<A, together>([&](index_t i) __attribute__((always_inline)) {
          floats& s = sum[i][j][u % chains];
          s = simd::multiply_add<A>(weights[i], input, s);
        });
      });
    });
  for (; k < inputs; k += input_run, x += input_run * Width)  // x is filled up with zeros
    for (index_t first = 0; first < input_run; first += lanes) {
      alignas(alignment) float left[together][lanes] = {};
      for (index_t i = 0; i < together; ++i)
        for (index_t l = 0; l < lanes && k + first + l < inputs; ++l) left[i][l] = to_float(at[i][k + first + l]);
      simd::repeat<A, together>([&](index_t i) __attribute__((always_inline)) {
        simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
          floats const input = floats::load_aligned(x + j * input_run + first);
          sum[i][j][0] = simd::multiply_add<A>(floats::load_aligned(left[i]), input, sum[i][j][0]);
        });
      });
    }
  simd::repeat<A, together>([&](index_t i) __attribute__((always_inline)) {
    simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
      floats total = sum[i][j][0];
      for (index_t c = 1; c < chains; ++c) total = total + sum[i][j][c];
      total.store_aligned(sums + (i * Width + j) * lanes);
    });
  });
}

}  // namespace pare::inline PARE_ABI
