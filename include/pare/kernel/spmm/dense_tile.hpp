// SPDX-License-Identifier: Apache-2.0
// Dense matmul: a register tile of rows x columns, so that each load of X serves several rows.
#pragma once

#include <pare/format/dense.hpp>
#include <pare/kernel/kernel.hpp>
#include <pare/kernel/operand/dense_tiles.hpp>

namespace pare::inline PARE_ABI {

/// 8 rows x 2 registers with 32 registers, 6 x 2 with 16: 2 loads of X and 8 (6) broadcasts feed 16 (12)
/// multiply-adds. With 8 sums or fewer their latency shows: 4 x 2 is a third slower than 6 x 2. On Intel 6 x 4, 10
/// loads for 24 multiply-adds: there each load beside two multiply-adds a cycle costs a fifth of a cycle, whatever it
/// loads (24 of both, independent and from the first-level cache, take 16.5 cycles; 24 of either 12).
/// Where a panel of X is larger than 256 KB, K is blocked: 96 rows pass over a block, and their sums wait in the
/// first-level cache. A whole panel of 1 MB would have the second-level cache to itself, and the weights pass through.
/// Operand is dense_tiles<T>, which it reads in one stream, or dense<T>, in as many as rows.
/// Measured (Zen 5, 128 columns): 96 % of the multiply-add peak for 768 x 768, 87 for 4096 x 4096; 88 for the former
/// without prefetching the weights. Intel Xeon: 89 % for 3072 x 768 (8 x 2 76 to 81, with shuffles 57; 12 x 2 83; 7 x 3
/// 76); 4096 x 4096 83, without blocks of K 78, with blocks of 32 KB (for the first-level cache) 79.
/// Pruned elements are multiplied as zeros; matmul() calls it only where X is finite, so that this changes nothing.
template <operand Operand>
struct dense_tile_spmm {
  using operand = Operand;
  using value_type = typename Operand::value_type;
  static constexpr char const* name() noexcept { return "tile"; }
  template <class A>
  static panel_request panels(Operand const& w) noexcept {
    return {.vectors = simd::has_32_registers<A> && tile_rows<A>(w) == 6 ? 4 : 2};
  }

  template <class A, epilogue E>
  static void run(Operand const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0, index_t r1) noexcept;

 private:
  template <class A>
  [[nodiscard]] static index_t tile_rows([[maybe_unused]] Operand const& w) noexcept {
    if constexpr (std::is_same_v<Operand, dense_tiles<value_type>>) return w.block_rows();
    return simd::has_32_registers<A> ? 8 : 6;
  }
  /// So much of a panel of X is passed over by a group of tiles at once.
  static constexpr index_t block_bytes = 256 * 1024;
  static constexpr index_t rows_at_once = 96;  // as many as matmul() gives

  /// Adds inputs [begin, end) to the sums of rows [r, r + Height), of which `rows` are there: Vectors registers for
  /// each row, `sums_stride` floats from row to row. They begin at zero with the first inputs.
  template <class A, index_t Height, index_t Vectors>
  static void tile(Operand const& w, float const* panel, index_t begin, index_t end, index_t r, index_t rows,
                   float* sums, index_t sums_stride) noexcept;
};

template <operand Operand>
template <class A, epilogue E>
void dense_tile_spmm<Operand>::run(Operand const& w, x_panel x, float*, y_tile y, E const& e, index_t r0,
                                   index_t r1) noexcept {
  auto const all = [&]<class B, index_t Height>(std::type_identity<B>, std::integral_constant<index_t, Height>) {
    constexpr index_t lanes = simd::lanes<A>;
    alignas(alignment) float sums[rows_at_once * 4 * lanes];
    index_t const width = x.vectors * lanes;
    index_t const inputs = w.shape().cols;
    index_t const block = block_bytes / (width * static_cast<index_t>(sizeof(float)));
    index_t const step = inputs <= block ? Height : rows_at_once / Height * Height;
    bool const stores_sums = std::is_same_v<E, identity> && inputs <= block;
    for (index_t first = r0; first < r1; first += step) {
      index_t const last = r1 - first < step ? r1 : first + step;
      for (index_t k = 0; k == 0 || k < inputs; k += block) {
        index_t const end = inputs - k < block ? inputs : k + block;
        for (index_t r = first; r < last; r += Height) {
          index_t const rows = last - r < Height ? last - r : Height;
          bool const direct = stores_sums && rows == Height;
          float* const of_tile = direct ? y.row(r) : sums + (r - first) * width;
          index_t const stride = direct ? y.stride : width;
          if constexpr (Height == 6 && simd::has_32_registers<A>) {
            if (x.vectors == 4) tile<B, Height, 4>(w, x.data, k, end, r, rows, of_tile, stride);
            if (x.vectors == 3) tile<B, Height, 3>(w, x.data, k, end, r, rows, of_tile, stride);
          }
          if (x.vectors == 2) tile<B, Height, 2>(w, x.data, k, end, r, rows, of_tile, stride);
          if (x.vectors == 1) tile<B, Height, 1>(w, x.data, k, end, r, rows, of_tile, stride);
        }
      }
      if (stores_sums && last - first == Height) continue;
      float const* sum = sums;
      for (index_t r = first; r < last; ++r)
        for (index_t t = 0; t < x.vectors; ++t, sum += lanes)
          e(simd::floats<A>::load_aligned(sum), r, x.first_column + t * lanes).store_unaligned(y.row(r) + t * lanes);
    }
  };
  constexpr bool differs = std::is_same_v<value_type, float>;
  if constexpr (simd::has_32_registers<A>)
    if (tile_rows<A>(w) == 8)
      return simd::with_processor<A, differs>([&](auto arch) { all(arch, std::integral_constant<index_t, 8>{}); });
  if constexpr (std::is_same_v<Operand, dense_tiles<value_type>> || !simd::has_32_registers<A>) {
    // With 32 registers that is the layout for Intel.
    using intel = simd::on_intel<typename simd::plain<A>::arch>;
    using arch = std::conditional_t<differs && simd::has_32_registers<A>, intel, A>;
    all(std::type_identity<arch>{}, std::integral_constant<index_t, 6>{});
  }
}

// Not inlined: beside other kernels g++ spills the sums, with AVX2 up to half as fast. Without the epilogue: compiled
// once for all of them.
template <operand Operand>
template <class A, index_t Height, index_t Vectors>
[[gnu::noinline]] void dense_tile_spmm<Operand>::tile(Operand const& w, float const* panel, index_t begin, index_t end,
                                                      index_t r, index_t rows, float* sums,
                                                      index_t sums_stride) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  floats sum[Height][Vectors];
  auto const each_sum = [&](auto const& f) __attribute__((always_inline)) {
    simd::repeat<A, Height>([&](index_t i) __attribute__((always_inline)) {
      simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) { f(i, t); });
    });
  };
  each_sum([&](index_t i, index_t t) __attribute__((always_inline)) {
    sum[i][t] = begin == 0 ? floats(0.0f) : floats::load_unaligned(sums + i * sums_stride + t * lanes);
  });
  panel += begin * Vectors * lanes;
  // The next `count` inputs of the panel; pair(k, i) gives the weights of rows i and i + 1.
  auto const multiply = [&](index_t count, auto const& pair) __attribute__((always_inline)) {
    for (index_t k = 0; k < count; ++k, panel += Vectors * lanes) {
      floats columns[Vectors];
      simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) {
        columns[t] = floats::load_aligned(panel + t * lanes);
      });
      simd::repeat<A, Height / 2>([&](index_t half) __attribute__((always_inline)) {
        index_t const i = 2 * half;
        simd::weight_pair<A> const weight = pair(k, i);
        simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) {
          sum[i][t] = simd::multiply_add<A>(weight.first, columns[t], sum[i][t]);
          sum[i + 1][t] = simd::multiply_add<A>(weight.second, columns[t], sum[i + 1][t]);
        });
      });
    }
  };
  if constexpr (std::is_same_v<Operand, dense_tiles<value_type>>) {
    value_type const* const weights = w.tile(r / Height) + begin * Height;
    multiply(
        end - begin, [&](index_t k, index_t i) __attribute__((always_inline)) {
          if (i == 0) __builtin_prefetch(weights + (k + 32) * Height);
          return simd::broadcast_pair<A>(weights + k * Height + i);
        });
  } else {
    value_type const* row[Height];  // those behind the last repeat it
    for (index_t i = 0; i < Height; ++i) row[i] = w.values().row(r + (i < rows ? i : rows - 1)) + begin;
    if constexpr (std::is_same_v<value_type, float>) {
      multiply(
          end - begin, [&](index_t k, index_t i) __attribute__((always_inline)) {
            return simd::weight_pair<A>{floats(row[i][k]), floats(row[i + 1][k])};
          });
    } else {  // widened a stretch at a time, many elements an instruction; one by one takes longer than the products
      constexpr index_t stretch = 128;
      alignas(alignment) float wide[Height][stretch];
      for (index_t first = 0; first < end - begin; first += stretch) {
        index_t const count = end - begin - first < stretch ? end - begin - first : stretch;
        for (index_t i = 0; i < Height; ++i) {
          index_t k = 0;
          for (; k + lanes <= count; k += lanes) simd::load_weights<A>(row[i] + first + k).store_aligned(wide[i] + k);
          for (; k < count; ++k) wide[i][k] = to_float(row[i][first + k]);
        }
        multiply(
            count, [&](index_t k, index_t i) __attribute__((always_inline)) {
              return simd::weight_pair<A>{floats(wide[i][k]), floats(wide[i + 1][k])};
            });
      }
    }
  }
  each_sum([&](index_t i, index_t t)
               __attribute__((always_inline)) { sum[i][t].store_unaligned(sums + i * sums_stride + t * lanes); });
}

}  // namespace pare::inline PARE_ABI
