// SPDX-License-Identifier: Apache-2.0
// One and few columns times blocks of rows that share their columns: a register holds some columns of four rows, and
// meets as many inputs, each of them in four lanes.
//
//   AVX-512:  weights  w(0,c) w(1,c) w(2,c) w(3,c) | w(0,c') ... | w(0,c'') ... | w(0,c''') ...    a 4 x 4 block, or 4
//   of
//             x        x(c)   x(c)   x(c)   x(c)   | x(c')   ... | x(c'')   ... | x(c''') ...      4 x 1
//   end of a row of blocks: the columns of the register are added up
//
// A step (16 weights) of 4 x 4 blocks: load of the column, load and permutation of four inputs, load of weights,
// multiply-add, prefetch: 4 load slots. 4 x 1: four loads of columns and of inputs, three shuffles to join them. 16 x 1
// joins them once for four tiles. What is left of a row of blocks, fewer columns than a register has, is masked.
//
// us (Zen 5, in the caches, 92 %; windowed_ell and dense in the same rounds), 512 x 1024:
//                 1 column           2      4      8 columns (packing x included)
//   f32  4 x 4    1.7 (4.9, 17.4)    3.3    5.4    7.9
//        16 x 1   1.8 (3.2)          3.3    5.2    10.5
//        4 x 1    3.4 (4.2)          6.5    11     17      (windowed_ell: 5.6, 8.2, 14)
//   bf16 4 x 4    1.6 (5.0, 9.5)     2.9    4.5    7.9
//        16 x 1   1.4 (3.0)          2.6    4.0    10
// 11008 x 4096 from memory, one column: 90 %, f32 610 (dense 5100; 490 and 4250 with pages of 2 MB); 70 %, bf16 870.
//
// Tiles that are read together are as many streams: the prefetches of each stay in its own run of weights, and at its
// end go on to the same tile's in the next row of blocks. Without that 16 x 1 reads at 0.65 (f32) and 0.5 (bf16) of
// what a loop of loads does, with it at 0.75. Dead ends: prefetching 16 KB ahead or more (slower in the caches, no
// faster beyond), two or four steps a turn where sums abound (registers spill: half as fast for 16 x 1).
#pragma once

#include <algorithm>

#include <pare/kernel/expand.hpp>
#include <pare/kernel/operand/column_blocks.hpp>
#include <pare/kernel/spread.hpp>

namespace pare::inline PARE_ABI {

namespace detail {

/// What the kernels for one and for few columns share. A register of A takes `registers` to a block's column, or
/// `together` blocks to a register.
template <class A, index_t R, index_t C, weight_value T, index_t Width>
class spread_blocks {
  using operand = column_blocks<R, C, T>;
  using floats = simd::floats<A>;
  static constexpr index_t height = operand::tile_rows;
  static constexpr index_t lanes = simd::lanes<A>;
  static constexpr index_t width = simd::tile_columns<A>;
  static constexpr index_t run = 16;  // of x_columns
  static constexpr index_t together = C < width ? width / C : 1;
  static constexpr index_t registers = C < width ? 1 : C / width;
  static constexpr bool fits = together * C == registers * width;  // else elements are visited one by one
  static constexpr bool masks = simd::expands<A>;

  static constexpr index_t most_tiles = (simd::has_32_registers<A> ? 16 : 8) / Width;

 public:
  /// Tiles of four rows that are multiplied together, so that each input is spread once for them.
  static constexpr index_t tiles = R % 16 == 0 && most_tiles >= 4 ? 4 : R % 8 == 0 && most_tiles >= 2 ? 2 : 1;

  /// The sums of rows [r0, r1), which begin at a multiple of w.block_rows(): store(r, sums) for every R rows, with the
  /// sum of row r + i and column j in sums[j * R + i]. x: as in x_columns.
  template <class Store>
  [[gnu::always_inline]] static void multiply(operand const& w, float const* x, index_t r0, index_t r1,
                                              Store const& store) noexcept {
    if (w.parts() == 1) {
      for (index_t r = r0; r < r1; r += R) {
        alignas(alignment) float sums[R * Width];
        multiply_run(w, w.run(r / R, 0), x, sums);
        store(r, sums);
      }
      return;
    }
    // Some rows at a time, so that their sums stay in the first-level cache; their runs of a part follow each other.
    constexpr index_t most_rows = R < 512 ? 512 / R * R : R;
    alignas(alignment) float sums[most_rows * Width];
    index_t last = r0;
    for (index_t first = r0; first < r1; first = last) {
      last = std::min({(first / w.rows_together() + 1) * w.rows_together(), first + most_rows, r1});
      for (index_t part = 0; part < w.parts(); ++part)
        for (index_t r = first; r < last; r += R) {
          alignas(alignment) float more[R * Width];
          multiply_run(w, w.run(r / R, part), x, more);
          float* const to = sums + (r - first) * Width;
          for (index_t i = 0; i < R * Width; ++i) to[i] = part == 0 ? more[i] : to[i] + more[i];
        }
      for (index_t r = first; r < last; r += R) store(r, sums + (r - first) * Width);
    }
  }

 private:
  static float const* input(float const* x, std::size_t column) noexcept {
    return Width == 1 ? x + column : x + column / run * run * Width + column % run;
  }

  [[gnu::always_inline]] static void multiply_run(operand const& w, index_t blocks_run, float const* x,
                                                  float* sums) noexcept {
    for (index_t i = 0; i < R * Width; ++i) sums[i] = 0.0f;
    if (w.blocks(blocks_run) == 0) return;  // x may be empty
    for (index_t first = 0; first < R; first += tiles * height) {
      if constexpr (fits) {
        add(w, blocks_run, first, x, sums + first);
      } else {
        visit(w.columns(blocks_run), w.blocks(blocks_run), w.values(blocks_run, first),
              w.blocks(blocks_run) * height * C, x, sums + first);
      }
    }
  }

  static void add(operand const& w, index_t blocks_run, index_t first, float const* x, float* sums) noexcept;

  /// Some blocks, element by element; the weights of the next tile follow `stride` after those of one.
  static void visit(std::uint32_t const* columns, index_t blocks, T const* values, index_t stride, float const* x,
                    float* sums) noexcept {
    for (index_t b = 0; b < blocks; ++b)
      for (index_t c = 0; c < C; ++c, values += height)
        for (index_t t = 0; t < tiles; ++t)
          for (index_t j = 0; j < Width; ++j)
            for (index_t i = 0; i < height; ++i)
              sums[j * R + t * height + i] +=
                  to_float(values[t * stride + i]) * input(x, columns[b] + static_cast<std::size_t>(c))[j * run];
  }
};

template <class A, index_t R, index_t C, weight_value T, index_t Width>
[[gnu::noinline]] void spread_blocks<A, R, C, T, Width>::add(operand const& w, index_t blocks_run, index_t first,
                                                             float const* x, float* sums) noexcept {
  constexpr index_t chains = tiles * Width < 4 ? 4 / (tiles * Width) : 1;  // sums of an output hide the latency
  constexpr index_t steps = chains > registers ? chains / registers : 1;   // a turn of the loop
  constexpr index_t blocks_a_turn = steps * together;
  constexpr index_t line = 64 / static_cast<index_t>(sizeof(T));
  constexpr index_t ahead = 128 * line;
  constexpr index_t blocks_ahead = ahead / tiles / (height * C);  // in each of several streams
  index_t const blocks = w.blocks(blocks_run);
  index_t const stride = blocks * height * C;
  std::uint32_t const* column = w.columns(blocks_run);
  T const* values = w.values(blocks_run, first);
  index_t prefetch[tiles];
  for (index_t& p : prefetch) p = ahead;

  floats sum[tiles][Width][chains];
  for (auto& tile : sum)
    for (auto& output : tile)
      for (floats& s : output) s = floats(0.0f);
  auto const step = [&](index_t number) __attribute__((always_inline)) {
    simd::repeat<A, registers>([&](index_t q) __attribute__((always_inline)) {
      index_t const at = number * registers + q;
      float const* from[together];
      simd::repeat<A, together>([&](index_t b) __attribute__((always_inline)) {
        from[b] = input(x, column[number * together + b] + static_cast<std::size_t>(q * width));
      });
      floats in[Width];
      simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
        float const* of_column[together];
        simd::repeat<A, together>([&](index_t b) __attribute__((always_inline)) { of_column[b] = from[b] + j * run; });
        in[j] = simd::spread<A, width / together>(of_column);
      });
      simd::repeat<A, tiles>([&](index_t t) __attribute__((always_inline)) {
        T const* const v = values + t * stride + at * lanes;
        if (at * lanes % line == 0) __builtin_prefetch(v + prefetch[t]);
        floats const weights = simd::load_weights<A>(v);
        simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
          floats& s = sum[t][j][at % chains];
          s = simd::multiply_add<A>(weights, in[j], s);
        });
      });
    });
  };

  static_assert(tiles == 1 || !operand::cuts_inputs,
                "K is not cut where tiles are read together: the next run is the next row's");
  index_t left = blocks;
  index_t end = tiles > 1 && blocks > blocks_ahead ? blocks_ahead : 0;
  if (end != 0)
    for (index_t& p : prefetch) p = blocks_ahead * height * C;
  while (true) {
    for (; left >= end + blocks_a_turn; left -= blocks_a_turn) {
      simd::repeat<A, steps>(step);
      __builtin_prefetch(column + 1024);
      column += blocks_a_turn;
      values += steps * registers * lanes;
    }
    if (end == 0) break;
    end = 0;
    bool const is_last = (blocks_run + 1) * R >= w.shape().rows;
    index_t const next_stride = is_last ? 0 : w.blocks(blocks_run + 1) * height * C;
    for (index_t t = 0; t < tiles; ++t)
      prefetch[t] = blocks_ahead * height * C + (tiles - 1) * stride + t * (next_stride - stride);
  }
  if constexpr (steps > 1)
    for (; left >= together; left -= together) {
      step(0);
      column += together;
      values += registers * lanes;
    }
#if XSIMD_WITH_AVX512CD
  if constexpr (together > 1 && masks) {
    float const* from[together];
    simd::repeat<A, together>([&](index_t b) __attribute__((always_inline)) { from[b] = input(x, column[b]); });
    auto const some = static_cast<__mmask16>((1u << (left * C * height)) - 1u);
    simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
      float const* of_column[together];
      simd::repeat<A, together>([&](index_t b) __attribute__((always_inline)) { of_column[b] = from[b] + j * run; });
      __m512 const in = _mm512_maskz_mov_ps(some, simd::spread<A, C>(of_column));
      simd::repeat<A, tiles>([&](index_t t) __attribute__((always_inline)) {
        floats& s = sum[t][j][chains - 1];
        s = floats(_mm512_fmadd_ps(_mm512_maskz_mov_ps(some, simd::load_16<A>(values + t * stride)), in, s));
      });
    });
  }
#endif
  simd::repeat<A, tiles>([&](index_t t) __attribute__((always_inline)) {
    simd::repeat<A, Width>([&](index_t j) __attribute__((always_inline)) {
      floats total = sum[t][j][0];
      for (index_t c = 1; c < chains; ++c) total = total + sum[t][j][c];
      simd::add_columns<A>(total, sums + j * R + t * height);
    });
  });
  if constexpr (together > 1 && !masks) visit(column, left, values, stride, x, sums);
}

}  // namespace detail

/// One column.
template <index_t R, index_t C, weight_value T>
struct column_blocks_gemv {
  using operand = column_blocks<R, C, T>;
  static constexpr char const* name() noexcept { return "spread"; }

  template <class A, epilogue E>
  static void run(operand const& w, float const* x, float* y, index_t y_stride, E const& e, index_t r0,
                  index_t r1) noexcept;
};

template <index_t R, index_t C, weight_value T>
template <class A, epilogue E>
void column_blocks_gemv<R, C, T>::run(operand const& w, float const* x, float* y, index_t y_stride, E const& e,
                                      index_t r0, index_t r1) noexcept {
  detail::spread_blocks<A, R, C, T, 1>::multiply(
      w, x, r0, r1, [&](index_t r, float const* sums) __attribute__((always_inline)) {
        for (index_t i = 0; i < R; ++i) y[(r + i) * y_stride] = e(sums[i], r + i, 0);
      });
}

/// Up to eight columns: a register of weights serves all of them.
template <index_t R, index_t C, weight_value T>
struct column_blocks_few {
  using operand = column_blocks<R, C, T>;
  static constexpr char const* name() noexcept { return "spread"; }

  template <class A, epilogue E>
  static void run(operand const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0, index_t r1) noexcept;

 private:
  template <class A, index_t Width, epilogue E>
  static void columns(operand const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0, index_t r1) noexcept;
};

template <index_t R, index_t C, weight_value T>
template <class A, epilogue E>
void column_blocks_few<R, C, T>::run(operand const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0,
                                     index_t r1) noexcept {
  if (x.width == 1) return columns<A, 1>(w, x, y, e, r0, r1);
  if (x.width == 2) return columns<A, 2>(w, x, y, e, r0, r1);
  if (x.width == 4) return columns<A, 4>(w, x, y, e, r0, r1);
  return columns<A, 8>(w, x, y, e, r0, r1);
}

template <index_t R, index_t C, weight_value T>
template <class A, index_t Width, epilogue E>
void column_blocks_few<R, C, T>::columns(operand const& w, x_columns x, matrix_span<float> y, E const& e, index_t r0,
                                         index_t r1) noexcept {
  detail::spread_blocks<A, R, C, T, Width>::multiply(
      w, x.data, r0, r1, [&](index_t r, float const* sums) __attribute__((always_inline)) {
        for (index_t i = 0; i < R; ++i)
          for (index_t j = 0; j < x.count; ++j)
            y(r + i, x.first_column + j) = e(sums[j * R + i], r + i, x.first_column + j);
      });
}

}  // namespace pare::inline PARE_ABI
