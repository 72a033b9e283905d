// SPDX-License-Identifier: Apache-2.0
// The registry: which kernels multiply with which operand, what they cost, and which operands a format can become.
//
// Tests, benches and `prepare` walk these lists; a kernel that is not here does not exist.
#pragma once

#include <pare/core/math.hpp>
#include <pare/format/bitmap.hpp>
#include <pare/format/bsr.hpp>
#include <pare/format/csr.hpp>
#include <pare/format/dense.hpp>
#include <pare/format/n_of_m_packed.hpp>
#include <pare/format/quantised.hpp>
#include <pare/kernel/gemv/bitmap_stream.hpp>
#include <pare/kernel/gemv/column_blocks.hpp>
#include <pare/kernel/gemv/column_major.hpp>
#include <pare/kernel/gemv/dense_dot.hpp>
#include <pare/kernel/gemv/generic.hpp>
#include <pare/kernel/gemv/int8_stream.hpp>
#include <pare/kernel/gemv/int8_windowed_ell.hpp>
#include <pare/kernel/gemv/windowed_ell.hpp>
#include <pare/kernel/spmm/column_blocks.hpp>
#include <pare/kernel/spmm/dense_tile.hpp>
#include <pare/kernel/spmm/generic.hpp>
#include <pare/kernel/spmm/int8_sliced_ell.hpp>
#include <pare/kernel/spmm/int8_tile.hpp>
#include <pare/kernel/spmm/row_pairs.hpp>
#include <pare/kernel/spmm/sliced_ell.hpp>

namespace pare::inline PARE_ABI {

/// What the cost model sees of one multiplication.
struct matmul_shape {
  extents weights;  // (M, K)
  index_t nnz = 0;
  index_t columns = 1;  // N
  machine target{};
  double live = 1.0;  // fraction of the activations that are not zero

  [[nodiscard]] constexpr double size() const noexcept { return static_cast<double>(weights.size()); }
  [[nodiscard]] constexpr double stored() const noexcept { return static_cast<double>(nnz); }
  /// Registers of columns.
  [[nodiscard]] constexpr double vectors() const noexcept {
    return static_cast<double>(ceil_div(columns, target.lanes));
  }
};

namespace detail {

/// What the cost model gives for an operand that cannot be used.
inline constexpr double never = 1e300;

/// Cycles to read so many bytes of weights once: from the second-level cache, from the third, from memory (one core of
/// a Zen 5 at 4 GHz: 40 GB/s; of a Xeon at 3.7 GHz: 17 GB/s).
[[nodiscard]] constexpr double read_cycles(matmul_shape const& s, double bytes) noexcept {
  if (s.target.intel) return bytes < 1.8e6 ? bytes / 24.0 : (bytes < 24e6 ? bytes / 7.8 : bytes / 4.7);
  return bytes < 0.75e6 ? bytes / 32.0 : (bytes < 24e6 ? bytes / 20.0 : bytes / 10.0);
}
/// Work while `bytes` of weights are read: the longer of both, and some of the shorter, for they do not overlap all the
/// time.
[[nodiscard]] constexpr double overlapped(matmul_shape const& s, double work, double bytes) noexcept {
  double const read = read_cycles(s, bytes);
  return work > read ? work + 0.15 * read : read + 0.15 * work;
}

}  // namespace detail

/// The kernels of an operand type. Specialise it for an operand of your own.
///  - `gemv`, `few`, `spmm` (any of them): the kernels for one column, for up to eight, and for many;
///  - `list`: all kernels that take this operand, for tests and benches;
///  - `cycles(shape)`: estimated cost of one multiplication on the shape's machine. Only the order between operands
///    matters. The figures were measured on one core of a Zen 5 with AVX-512 (pare_headline, pare bench);
///    those for `intel` on one of an Intel Xeon with AMX.
template <class Operand>
struct kernels_of {
  using gemv = generic_gemv<Operand>;
  using spmm = generic_spmm<Operand>;
  using list = kernel_list<gemv, spmm>;

  /// Each multiply-add loads its own X; one column gathers through a buffer.
  static double cycles(matmul_shape const& s) noexcept {
    auto const rows = static_cast<double>(s.weights.rows);
    double const bytes = s.stored() * static_cast<double>(sizeof(typename Operand::value_type));
    if (s.columns == 1) return detail::overlapped(s, 5.0 * s.stored() + 8.0 * rows, bytes);
    auto const passes = static_cast<double>(ceil_div(s.columns, 8 * s.target.lanes));
    double const slower = s.target.intel ? 2.0 : 1.0;
    return slower * detail::overlapped(s, s.stored() * (1.4 * s.vectors() + 2.0 * passes) + rows * s.vectors(), bytes);
  }
};

template <weight_value T>
struct kernels_of<dense<T>> {
  using gemv = dense_dot_gemv<T>;
  using few = dense_dot_few<T>;
  using spmm = dense_tile_spmm<dense<T>>;
  using list = kernel_list<gemv, generic_gemv<dense<T>>, few, spmm, generic_spmm<dense<T>>>;

  /// The register tile reads as many streams as rows; dot products wait for the memory, with more columns for
  /// multiply-adds.
  static double cycles(matmul_shape const& s) noexcept {
    auto const n = static_cast<double>(s.columns);
    double const few = s.target.intel ? 0.7 + n : 0.5 + 0.6 * n;
    double const work = s.columns == 1   ? 1.25 / static_cast<double>(s.target.lanes)
                        : s.columns <= 8 ? few / static_cast<double>(s.target.lanes)
                                         : (s.vectors() < 2.0 ? 1.1 : 0.65) * s.vectors();
    return detail::overlapped(s, s.size() * work, s.size() * static_cast<double>(sizeof(T)));
  }
};

template <weight_value T>
struct kernels_of<dense_tiles<T>> {
  using spmm = dense_tile_spmm<dense_tiles<T>>;
  using list = kernel_list<spmm>;

  static double cycles(matmul_shape const& s) noexcept {
    // A load for each multiply-add, or for two. What widens bf16 takes slots of multiply-adds on Intel.
    bool const narrow = s.vectors() < 2.0;
    double work = narrow ? 0.6 : 0.515;
    if (s.target.intel) {
      work = s.vectors() <= 2.0 ? 0.6 : 0.58;
      if (std::same_as<T, bf16>) work = s.vectors() <= 2.0 ? 0.8 : 0.6;
      if (narrow) work = std::same_as<T, bf16> ? 1.3 : 0.72;
    }
    double const bytes = s.size() * static_cast<double>(sizeof(T));
    double const again = s.target.intel ? 0.075 * s.vectors() : 0.0;  // each panel reads it
    return detail::overlapped(s, work * s.size() * s.vectors(), bytes) + again * detail::read_cycles(s, bytes);
  }
};

template <weight_value T>
struct kernels_of<column_major<T>> {
  using gemv = column_major_gemv<T>;
  using list = kernel_list<gemv>;

  /// As fast as the dot product for what it reads, and an eighth of it for looking after the live ones.
  static double cycles(matmul_shape const& s) noexcept {
    matmul_shape one = s;
    one.columns = 1;
    return static_cast<double>(s.columns) * (s.live + 0.125) * kernels_of<dense<T>>::cycles(one);
  }
};

template <weight_value T>
struct kernels_of<row_pairs<T>> {
  using spmm = row_pairs_spmm<T>;
  using list = kernel_list<spmm>;

  /// A stored element costs half a cycle for each register of the panel; a row and 64 columns the trip of its sums, and
  /// branches that are predicted wrong, because the loops of a pair of rows end elsewhere than those of the one before.
  /// (Where one small layer is all that runs, the processor knows some ten thousand pairs by heart; not so in a
  /// network.)
  static double cycles(matmul_shape const& s) noexcept {
    struct costs {
      double element, row;
    };
    costs const intel = s.vectors() < 2.0   ? costs{1.0, 0.15}
                        : s.vectors() < 3.0 ? costs{0.79, 0.11}
                        : s.vectors() < 5.0 ? costs{0.67, 0.065}
                                            : costs{0.62, 0.065};
    costs const cost = s.target.intel      ? intel
                       : s.vectors() < 2.0 ? costs{1.09, 0.046}
                       : s.vectors() < 3.0 ? costs{0.415, 0.145}
                       : s.vectors() < 4.0 ? costs{0.58, 0.055}
                       : s.vectors() < 5.0 ? costs{0.5, 0.05}
                                           : costs{0.477, 0.046};
    double const bytes = s.stored() * static_cast<double>(sizeof(T)) + 0.19 * s.size();
    return detail::overlapped(s, (s.stored() * cost.element + cost.row * s.size()) * s.vectors(), bytes) +
           (s.target.intel ? 0.4 * detail::read_cycles(s, bytes) : 0.0);
  }
};

template <weight_value T>
struct kernels_of<sliced_ell<T>> {
  using spmm = sliced_ell_spmm<T>;
  using list = kernel_list<spmm>;

  /// A stored element costs 0.67 cycles for each register of panels of two, 0.76 in a last one of one; a row and block
  /// of columns the trip of its sums.
  static double cycles(matmul_shape const& s) noexcept {
    struct costs {
      double element, row;
    };
    costs const pair = s.target.intel              ? costs{0.8, 0.033}
                       : s.target.has_32_registers ? costs{0.668, 0.015}
                                                   : costs{0.75, 0.015};
    costs const single = s.target.intel ? costs{1.2, 0.033} : costs{0.76, 0.026};
    double const pairs = 2.0 * static_cast<double>(ceil_div(s.columns, s.target.lanes) / 2);
    double const singles = s.vectors() - pairs;
    double const work = s.stored() * (pair.element * pairs + single.element * singles) +
                        s.size() * (pair.row * pairs + single.row * singles);
    double const bytes = s.stored() * static_cast<double>(2 + sizeof(T));
    // Overlaps less than others; on Intel, each panel reads it anew.
    double const read = !s.target.intel ? 0.3 : pairs == 0.0 ? 0.45 : 0.6 + 0.14 * s.vectors();
    return detail::overlapped(s, work, bytes) + read * detail::read_cycles(s, bytes);
  }
};

template <index_t R, index_t C, weight_value T>
struct kernels_of<column_blocks<R, C, T>> {
  using gemv = column_blocks_gemv<R, C, T>;
  using few = column_blocks_few<R, C, T>;
  using spmm = column_blocks_spmm<R, C, T>;
  using list = kernel_list<gemv, few, spmm>;

  /// Many columns: one register of them waits for the latency of its four sums. Few: a register of weights costs 1.5
  /// cycles and for each column 0.5, and what it takes to spread the inputs, once for up to four tiles.
  static double cycles(matmul_shape const& s) noexcept {
    double const bytes = s.stored() * (static_cast<double>(sizeof(T)) + 4.0 / static_cast<double>(R * C));
    if (s.columns > 8) {
      double const element = s.vectors() < 2.0                         ? 1.0
                             : s.target.intel                          ? 0.63
                             : R % 8 == 0 && s.target.has_32_registers ? 0.54
                                                                       : 0.58;
      // Intel's panels of three registers leave one over, which takes as long as one and a half.
      bool const leaves_one = s.target.intel && R % 8 == 0 && s.columns > 3 * s.target.lanes &&
                              (ceil_div(s.columns, s.target.lanes) % 3) == 1;
      double const vectors = s.vectors() + (leaves_one ? 0.5 : 0.0);
      return detail::overlapped(s, (s.stored() * element + 0.008 * s.size()) * vectors, bytes);
    }
    auto const n = static_cast<double>(s.columns);
    double const spread = C % 4 == 0 ? 0.4 : C % 2 == 0 ? 0.9 : 2.1;
    double const tiles = R % 16 == 0 && n <= 4.0 ? 4.0 : R % 8 == 0 ? 2.0 : 1.0;
    double const registers = s.stored() / static_cast<double>(s.target.lanes);
    double const column = (s.target.intel ? 1.35 : 1.0) * n * (0.5 + spread / tiles);
    return detail::overlapped(s, registers * (1.5 + column) + 2.0 * n * static_cast<double>(s.weights.rows), bytes);
  }
};

template <weight_value T>
struct kernels_of<bitmap_stream<T>> {
  using few = bitmap_stream_few<T>;
  using list = kernel_list<few>;

  /// 1.9 cycles for 16 columns of float and 2.5 for 32 of bf16, whatever the density; more columns of x cost little,
  /// up to four. Intel: 3.5 and 4.7, an expansion taking two of the multiply-adds'
  /// slots.
  static double cycles(matmul_shape const& s) noexcept {
    // One stream of floats is prefetched in time less often than windowed_ell's: 0.90 against 0.94 of the memory's
    // speed. On Intel it is the other way round.
    double const late = std::same_as<T, float> && !s.target.intel ? 1.04 : 1.0;
    double const bytes = late * (s.stored() * static_cast<double>(sizeof(T)) + s.size() / 8.0);
    if (!s.target.expands) {  // by tables, a step for 8 columns
      if (!s.target.permutes_8 || std::same_as<T, bf16>) return detail::never;
      return detail::overlapped(s, 0.25 * s.size() * static_cast<double>(s.columns), bytes);
    }
    bool const words = std::same_as<T, bf16> && s.target.expands_words;
    auto const one = [&](index_t n) {
      double work = 0.5;
      if (s.target.intel) {
        work = n == 1 ? (words ? 0.147 : 0.22)
                      : (n == 2 ? (words ? 0.185 : 0.235) : (n <= 4 ? (words ? 0.28 : 0.32) : 0.68));
      } else if (n <= 4) {
        work = n == 1 ? (words ? 0.078 : 0.12) : (n == 2 ? (words ? 0.1 : 0.14) : (words ? 0.16 : 0.2));
      }
      return detail::overlapped(s, s.size() * work, bytes);
    };
    return one(s.columns < 8 ? s.columns : 8) * static_cast<double>(ceil_div(s.columns, 8));
  }
};

template <weight_value T>
struct kernels_of<windowed_ell<T>> {
  using few = windowed_ell_few<T>;
  using list = kernel_list<few>;

  /// For 16 rows and 32 columns: 12 cycles, and for each step of the longest row 2 + 0.7 for a column of x; Intel: 8,
  /// and 4.6 + 1.4. The longest of 16 random rows is 1.77 standard deviations above the mean.
  static double cycles(matmul_shape const& s) noexcept {
    if (!s.target.expands || s.weights.cols > windowed_ell<T>::most_columns) return detail::never;
    double const windows = static_cast<double>(ceil_div(s.weights.rows, 16)) *
                           static_cast<double>(ceil_div(s.weights.cols, windowed_ell<T>::window_columns));
    double const density = s.nnz == 0 ? 0.0 : s.stored() / s.size();
    double const steps = 32.0 * density + 1.77 * math::sqrt(32.0 * density * (1.0 - density));
    auto const one = [&](index_t n) {
      double const padding = std::same_as<T, bf16> ? 16.0 : 0.0;
      auto const columns = static_cast<double>(n);
      double const window = s.target.intel ? 8.0 + steps * (4.6 + 1.4 * columns) : 12.0 + steps * (2.0 + 0.7 * columns);
      return detail::overlapped(
          s, windows * window,
          (s.target.intel ? 1.08 : 1.0) * (s.stored() * static_cast<double>(sizeof(T)) + windows * (76.0 + padding)));
    };
    return one(s.columns < 8 ? s.columns : 8) * static_cast<double>(ceil_div(s.columns, 8));
  }
};

namespace detail {

/// Cycles of an 8-bit kernel: `work` for 512 weights and `more` for each column of x; from nine columns on x comes from
/// the second-level cache, for which each waits 4.5 cycles more.
[[nodiscard]] constexpr double int8_cycles(matmul_shape const& s, double work, double more, double bytes) noexcept {
  auto const columns = static_cast<double>(s.columns);
  double const one = work + columns * (s.columns > 8 ? more + 4.5 : more);
  return overlapped(s, s.size() / 512.0 * one, bytes);
}

/// Cycles to round x to 8 bits and pack it, `each` for an element.
[[nodiscard]] constexpr double int8_packing(matmul_shape const& s, double each) noexcept {
  return each * static_cast<double>(s.weights.cols) * static_cast<double>(s.columns);
}

}  // namespace detail

template <index_t G>
struct kernels_of<int8_dense<G>> {
  using few = int8_stream_few<int8_dense<G>>;
  using spmm = int8_tile_spmm<G>;
  using list = kernel_list<few, spmm>;

  /// 17 cycles for 4 rows and 128 inputs, 6 for another column of x (Intel: 21, 13). With products of words instead of
  /// bytes each column takes 46. From nine columns on a tile, 300 cycles for 8 rows, 128 inputs and 32 columns.
  static double cycles(matmul_shape const& s) noexcept {
    double const bytes = s.size() * 1.03;
    if (s.target.multiplies_bytes && s.columns > 8)
      return (s.target.intel ? 1.2 : 1.0) *
                 detail::overlapped(s, s.size() * (s.vectors() < 2.0 ? 0.17 : 0.147) * s.vectors(), bytes) +
             detail::int8_packing(s, 0.3);
    if (s.target.multiplies_bytes)
      return s.target.intel ? detail::int8_cycles(s, 8.0, 13.2, bytes) : detail::int8_cycles(s, 11.0, 6.0, bytes);
    return s.target.multiplies_words ? detail::int8_cycles(s, 0.0, 46.0, bytes) : detail::never;
  }
};

template <index_t G>
struct kernels_of<int8_bitmap_stream<G>> {
  using few = int8_stream_few<int8_bitmap_stream<G>>;
  using list = kernel_list<few>;

  /// 22 to 25 cycles for 4 rows and 128 inputs, whatever the density, and 6.6 for another column of x (Intel:
  /// 35, 14.6).
  static double cycles(matmul_shape const& s) noexcept {
    if (!s.target.multiplies_bytes) return detail::never;
    double const bytes = s.stored() + s.size() * (0.125 + 0.03);
    return s.target.intel ? detail::int8_cycles(s, 20.5, 14.6, bytes) : detail::int8_cycles(s, 17.0, 6.6, bytes);
  }
};

template <index_t G>
struct kernels_of<int8_windowed_ell<G>> {
  using few = int8_windowed_ell_few<G>;
  using list = kernel_list<few>;

  /// For a record of 64 rows and 128 inputs: 22 cycles a column of x and 2.6 a step (Intel: 53, 3.8); a row is filled
  /// up by three elements on average.
  static double cycles(matmul_shape const& s) noexcept {
    if (!s.target.multiplies_bytes) return detail::never;
    double const records = s.size() / 8192.0;
    double const steps = s.nnz == 0 ? 0.0 : s.stored() / s.size() * 128.0 + 3.0;
    double const record = s.target.intel ? 53.0 + 3.8 * steps : 22.0 + 2.6 * steps;
    return detail::int8_cycles(s, 0.6, record / 16.0, records * (320.0 + 128.0 * steps));
  }
};

template <index_t G>
struct kernels_of<int8_sliced_ell<G>> {
  using spmm = int8_sliced_ell_spmm<G>;
  using list = kernel_list<spmm>;

  /// For 16 rows, 128 inputs and 16 columns: 55 cycles, and 12 for each step of the longest row; half of the steps'
  /// for up to 8 columns.
  static double cycles(matmul_shape const& s) noexcept {
    if (!s.target.multiplies_bytes) return detail::never;
    double const density = s.nnz == 0 ? 0.0 : s.stored() / s.size();
    double const longest = 128.0 * density + 1.77 * math::sqrt(128.0 * density * (1.0 - density));
    double const steps = (longest + 1.5) / 4.0;
    auto const passes = static_cast<double>(ceil_div(s.columns, 16));
    double const eights = static_cast<double>(ceil_div(s.columns, 8)) / 2.0;
    double const slices = s.size() / 2048.0;
    double const work = slices * (55.0 * passes + 12.0 * steps * eights) * (s.target.intel ? 1.42 : 1.0);
    return detail::overlapped(s, work, slices * (128.0 + 128.0 * steps)) + detail::int8_packing(s, 0.4);
  }
};

/// The operands that `prepare` chooses from for a format: its layouts, the format as it is, and dense.
template <class... Operand>
using operand_list = type_list<Operand...>;

template <sparse_format F>
struct operands_of {
  using value_type = typename F::value_type;
  using type =
      operand_list<row_pairs<value_type>, sliced_ell<value_type>, bitmap_stream<value_type>, windowed_ell<value_type>,
                   F, dense<value_type>, dense_tiles<value_type>, column_major<value_type>>;
};
template <index_t R, index_t C, weight_value T>
  requires(R % 4 == 0)
struct operands_of<bsr<R, C, T>> {
  using type = operand_list<column_blocks<R, C, T>, row_pairs<T>, sliced_ell<T>, bitmap_stream<T>, windowed_ell<T>,
                            bsr<R, C, T>, dense<T>, dense_tiles<T>, column_major<T>>;
};
template <weight_value T>
struct operands_of<dense<T>> {
  using type = operand_list<dense<T>, dense_tiles<T>, column_major<T>>;
};
/// The operands of 8-bit codes round x (see matmul); those of floats, for machines without products of bytes and for
/// very high sparsity, do not.
template <index_t G>
struct operands_of<quantised<G>> {
  using type = operand_list<int8_bitmap_stream<G>, int8_windowed_ell<G>, int8_sliced_ell<G>, int8_dense<G>,
                            row_pairs<float>, sliced_ell<float>, quantised<G>, dense_tiles<float>>;
};
template <>
struct operands_of<quantised<64>> {  // windows and slices are of 128
  using type = operand_list<int8_bitmap_stream<64>, int8_dense<64>, row_pairs<float>, sliced_ell<float>, quantised<64>,
                            dense_tiles<float>>;
};

/// The elements of a format laid out as an operand for an architecture and a number of columns.
template <operand O, sparse_format F>
[[nodiscard]] O lay_out(F const& format, machine const& m, [[maybe_unused]] index_t columns) {
  if constexpr (std::same_as<O, F>) {
    return format;
  } else if constexpr (sparse_format<O>) {
    return convert<O>(format);
  } else if constexpr (std::constructible_from<O, F const&, machine const&, index_t>) {
    return O(format, m, columns);
  } else {
    return O(format, m);
  }
}

/// Representative formats of each family, for tests and benches to walk.
template <weight_value T>
using format_list = type_list<dense<T>, bitmap<T>, csr<T>, bsr<4, 1, T>, bsr<4, 4, T>, bsr<16, 1, T>,
                              n_of_m_packed<2, 4, T>, n_of_m_packed<1, 4, T>, n_of_m_packed<4, 8, T>>;

}  // namespace pare::inline PARE_ABI
