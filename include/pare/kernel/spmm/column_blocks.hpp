// SPDX-License-Identifier: Apache-2.0
// SpMM for blocks of rows that share their columns: the dense register tile, with the columns that are there.
#pragma once

#include <pare/kernel/operand/column_blocks.hpp>

namespace pare::inline PARE_ABI {

/// 8 rows x 2 registers of columns (Intel: x 3) where blocks have so many rows, else 4 x 4 (with 16 registers 4 x 2): 2
/// (4) loads of X, two (one) of weights and eight (four) shuffles feed 16 multiply-adds; one column number serves R
/// rows. Each load of X serves a tile of rows, so it may come from the second-level cache, and 8 rows ask half as much
/// of that. With 4 rows K is cut where a panel would not stay there (see the operand): 0.33 -> 0.71 of the peak for
/// 11008 inputs, 0.43 -> 0.74 for 8192 (Intel, 70 %); with 8 it gains nothing.
///
/// Measured (Zen 5, 128 columns), of the multiply-add peak: 16 x 1 92 % at 50 % sparsity, 88 at 70, 80 at 90; 4 x 4
/// 86 % at 70, 80 at 90, 70 for 4096 x 4096 before K was cut. What is missing at 90 % are the ends of short rows.
/// (After that, sums that need no epilogue went straight to Y, which they had reached through memory: Intel 68 -> 75
/// %.) Tried in vain there: weights spread by loads instead of shuffles (8 x 2: 83 and 76 %); X fetched ahead; panels
/// of 3 or 2 registers for 4 x 4.
/// Intel, 16 x 1 (4 x 4): 3072 x 768 88 % (80) at 50 and 70 % sparsity, 78 (73) at 90; 768 x 768 90 and 85 (82 and 79);
/// 4096 x 4096 85 and 78 (75 and 67). The loop alone, all in the first-level cache: 93 % (90). 8 x 2 reach 73, 75 and
/// 67 %, with shuffles 57. Without X fetched ahead 4096 x 4096 is a quarter slower. Tried in vain there: panels of 4
/// registers with 6, 6 and 4 of 16 rows (96 % in the first-level cache, but they read X three times: 1 to 6 % slower);
/// lines of Y fetched when a pass begins; weights fetched once a line. An `if` in the loop instead of a second loop
/// makes g++ spill the sums: half as fast.
template <index_t R, index_t C, weight_value T>
struct column_blocks_spmm {
  using operand = column_blocks<R, C, T>;
  static constexpr char const* name() noexcept { return "tile"; }
  template <class A>
  static panel_request panels(operand const& w) noexcept {
    bool const parts = w.parts() > 1;
    if (tiles<A> == 1)
      return {.vectors = simd::has_32_registers<A> ? 4 : 2,
              .needs_sums = parts,
              .rows = parts ? w.rows_together() : 0,
              .any_stride = true};
    return {.vectors = simd::runs_on_intel<A>() ? 3 : 2, .any_stride = true};
  }

  template <class A, epilogue E>
  static void run(operand const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0, index_t r1) noexcept;

 private:
  /// Tiles of the operand whose sums a pass holds.
  template <class A>
  static constexpr index_t tiles = R % 8 == 0 && simd::has_32_registers<A> ? 2 : 1;

  /// What is prefetched: weights from memory, and the rows of X, so many blocks ahead, of panels that do not stay in
  /// the second-level cache. Elsewhere it costs 2 to 4 % (Intel; others always prefetch weights).
  static constexpr index_t fetched_ahead = C < 12 ? 24 / C - 1 : 1;
  static constexpr index_t far_panel_bytes = 256 * 1024;
  static constexpr index_t far_weights_bytes = 12 * 1024 * 1024;

  /// The sums of a run's `tiles` tiles from row `first` on, Vectors registers for each row and `sums_stride` floats
  /// from row to row: what is there and the products, or, `from_zero`, the products. panel: x.data.
  template <class A, index_t Vectors, bool FetchWeights, bool FetchX>
  static void pass(operand const& w, float const* panel, index_t stride, index_t run, index_t first, bool from_zero,
                   float* sums, index_t sums_stride) noexcept;
};

template <index_t R, index_t C, weight_value T>
template <class A, epilogue E>
void column_blocks_spmm<R, C, T>::run(operand const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0,
                                      index_t r1) noexcept {
  simd::with_processor<A, std::is_same_v<T, float>>([&]<class B>(std::type_identity<B>) {
    constexpr index_t height = tiles<A> * operand::tile_rows;
    constexpr index_t lanes = simd::lanes<A>;
    index_t const width = x.vectors * lanes;
    index_t const parts = w.parts();
    constexpr bool stores_sums = std::is_same_v<E, identity>;
    alignas(alignment) float of_tile[height * 4 * lanes];
    auto const part = [&]<bool FetchWeights, bool FetchX>(index_t p, index_t begin, index_t end) {
      bool const direct = stores_sums && parts == 1;
      auto const tiles_of = [&]<index_t Vectors>() {
        for (index_t r = begin; r < end; r += height) {
          float* const s = direct ? y.row(r) : parts == 1 ? of_tile : sums + (r - r0) * width;
          pass<B, Vectors, FetchWeights, FetchX>(w, x.data, x.stride, w.run(r / R, p), r % R, p == 0, s,
                                                 direct ? y.stride : width);
          if (direct || p + 1 < parts) continue;
          float const* sum = s;
          for (index_t row = r; row < r + height; ++row)
            for (index_t t = 0; t < Vectors; ++t, sum += lanes)
              e(simd::floats<A>::load_aligned(sum), row, x.first_column + t * lanes)
                  .store_unaligned(y.row(row) + t * lanes);
        }
      };
      if constexpr (tiles<A> == 1 && simd::has_32_registers<A>)
        if (x.vectors == 4) tiles_of.template operator()<4>();
      if constexpr (simd::has_32_registers<A>)
        if (x.vectors == 3) tiles_of.template operator()<3>();
      if (x.vectors == 2) tiles_of.template operator()<2>();
      if (x.vectors == 1) tiles_of.template operator()<1>();
    };
    auto const all = [&]<bool FetchWeights, bool FetchX>() {
      index_t end = r1;
      for (index_t r = r0; r < r1; r = end) {
        if (parts > 1) end = std::min((r / w.rows_together() + 1) * w.rows_together(), r1);
        for (index_t p = 0; p < parts; ++p) part.template operator()<FetchWeights, FetchX>(p, r, end);
      }
    };
    if constexpr (simd::for_intel<B>) {
      index_t const panel_bytes = w.shape().cols / parts * width * static_cast<index_t>(sizeof(float));
      bool const far_weights = static_cast<index_t>(w.bytes()) > far_weights_bytes;
      if (panel_bytes > far_panel_bytes)
        return far_weights ? all.template operator()<true, true>() : all.template operator()<false, true>();
      if (!far_weights) return all.template operator()<false, false>();
    }
    all.template operator()<true, false>();
  });
}

// Not inlined: what g++ makes of it beside other kernels is a third slower. Without the epilogue: compiled once for
// all.
template <index_t R, index_t C, weight_value T>
template <class A, index_t Vectors, bool FetchWeights, bool FetchX>
[[gnu::noinline]] void column_blocks_spmm<R, C, T>::pass(operand const& w, float const* panel, index_t stride,
                                                         index_t run, index_t first, bool from_zero, float* sums,
                                                         index_t sums_stride) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t height = operand::tile_rows;
  [[maybe_unused]] constexpr index_t ahead = 1024 / static_cast<index_t>(sizeof(T));
  floats sum[tiles<A> * height][Vectors];
  auto const each_sum = [&](auto const& f) __attribute__((always_inline)) {
    simd::repeat<A, tiles<A> * height>([&](index_t i) __attribute__((always_inline)) {
      simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) { f(i, t); });
    });
  };
  each_sum([&](index_t i, index_t t) __attribute__((always_inline)) {
    sum[i][t] = from_zero ? floats(0.0f) : floats::load_unaligned(sums + i * sums_stride + t * lanes);
  });
  T const* values[tiles<A>];
  for (index_t tile = 0; tile < tiles<A>; ++tile) values[tile] = w.values(run, first + tile * height);
  std::uint32_t const* column = w.columns(run);
  // Three blocks ahead: an address that comes straight from a load costs cycles (see sliced_ell_spmm).
  index_t next_0 = column[0];
  index_t next_1 = column[1];
  index_t next_2 = column[2];
  for (index_t n = w.blocks(run); n > 0; --n, ++column) {
    float const* at = panel + next_0 * stride;
    next_0 = next_1;
    next_1 = next_2;
    next_2 = column[3];
    if constexpr (FetchX)
      for (index_t t = 0; t < Vectors * C; ++t)
        __builtin_prefetch(panel + static_cast<index_t>(column[fetched_ahead]) * stride + t * lanes);
    for (index_t c = 0; c < C; ++c, at += stride) {
      floats input[Vectors];
      simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) {
        input[t] = simd::in_register<A>(floats::load_aligned(at + t * lanes));
      });
      simd::repeat<A, tiles<A>>([&](index_t tile) __attribute__((always_inline)) {
        if constexpr (FetchWeights) __builtin_prefetch(values[tile] + ahead);
        simd::weight_four<A> const weight = simd::broadcast_four<A>(values[tile]);
        simd::repeat<A, height>([&](index_t i) __attribute__((always_inline)) {
          simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) {
            floats& s = sum[tile * height + i][t];
            s = simd::multiply_add<A>(weight.row[i], input[t], s);
          });
        });
        values[tile] += height;
      });
    }
  }
  each_sum([&](index_t i, index_t t)
               __attribute__((always_inline)) { sum[i][t].store_unaligned(sums + i * sums_stride + t * lanes); });
}

}  // namespace pare::inline PARE_ABI
