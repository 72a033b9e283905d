// SPDX-License-Identifier: Apache-2.0
// The registry: which kernels multiply with which operand, and which operands a format can be prepared as.
//
// Tests, benches and `prepare` walk these lists; a kernel that is not here does not exist.
#pragma once

#include <pare/format/bitmap.hpp>
#include <pare/format/bsr.hpp>
#include <pare/format/csr.hpp>
#include <pare/format/dense.hpp>
#include <pare/format/n_of_m_packed.hpp>
#include <pare/kernel/gemv/column_major.hpp>
#include <pare/kernel/gemv/dense_dot.hpp>
#include <pare/kernel/gemv/generic.hpp>
#include <pare/kernel/spmm/column_blocks.hpp>
#include <pare/kernel/spmm/dense_tile.hpp>
#include <pare/kernel/spmm/generic.hpp>
#include <pare/kernel/spmm/row_pairs.hpp>
#include <pare/kernel/spmm/sliced_ell.hpp>

namespace pare::inline PARE_ABI {

/// What the cost model sees of one multiplication.
struct matmul_shape {
  extents weights;  // (M, K)
  index_t nnz = 0;
  index_t columns = 1;  // N
  index_t lanes = 1;    // floats a register
  double live = 1.0;    // fraction of the activations that are not zero
  /// Registers of columns.
  [[nodiscard]] double vectors() const noexcept { return static_cast<double>(ceil_div(columns, lanes)); }
};

/// The kernels of an operand type. Specialise it for an operand of your own.
///  - `spmm`, `gemv`: the kernel for many columns and for one;
///  - `spmm_list`, `gemv_list`: all kernels that take this operand, for tests and benches;
///  - `cycles(shape)`: estimated cost of one multiplication. Only the order between operands matters.
template <class Operand>
struct kernels_of {
  using spmm = generic_spmm<Operand>;
  using gemv = generic_gemv<Operand>;
  using spmm_list = kernel_list<spmm>;
  using gemv_list = kernel_list<gemv>;

  /// Measured against the dense kernels (Zen 3, 768 x 768): the row kernel breaks even near 60 % sparsity, since each
  /// multiply-add loads its own X; the gathering GEMV near 95 %.
  static double cycles(matmul_shape const& s) noexcept {
    auto const nnz = static_cast<double>(s.nnz);
    auto const rows = static_cast<double>(s.weights.rows);
    if (s.columns == 1) return 5.0 * nnz + 8.0 * rows;
    return nnz * (1.4 * s.vectors() + 2.0 * static_cast<double>(ceil_div(s.columns, 8 * s.lanes))) + rows * s.vectors();
  }
};

template <weight_value T>
struct kernels_of<dense<T>> {
  using spmm = dense_tile_spmm<dense<T>>;
  using gemv = dense_dot_gemv<T>;
  using spmm_list = kernel_list<spmm, generic_spmm<dense<T>>>;
  using gemv_list = kernel_list<gemv, generic_gemv<dense<T>>>;

  /// The register tile reaches about 80 % of two multiply-adds a cycle; the dot product waits for the memory: 16 bytes
  /// a cycle from the second-level cache.
  static double cycles(matmul_shape const& s) noexcept {
    auto const size = static_cast<double>(s.weights.size());
    if (s.columns == 1) return size * static_cast<double>(sizeof(T)) / 16.0;
    return 0.65 * size * s.vectors();
  }
};

template <weight_value T>
struct kernels_of<dense_tiles<T>> {
  using spmm = dense_tile_spmm<dense_tiles<T>>;
  using spmm_list = kernel_list<spmm>;
  using gemv_list = kernel_list<>;

  static double cycles(matmul_shape const& s) noexcept {
    return 0.56 * static_cast<double>(s.weights.size()) * s.vectors();
  }
};

template <weight_value T>
struct kernels_of<column_major<T>> {
  using gemv = column_major_gemv<T>;
  using spmm_list = kernel_list<>;
  using gemv_list = kernel_list<gemv>;

  /// As fast as the dot product for what it reads, and an eighth of it for looking after the live ones.
  static double cycles(matmul_shape const& s) noexcept {
    return static_cast<double>(s.columns) * (s.live + 0.125) * kernels_of<dense<T>>::cycles({s.weights, s.nnz});
  }
};

template <weight_value T>
struct kernels_of<row_pairs<T>> {
  using spmm = row_pairs_spmm<T>;
  using spmm_list = kernel_list<spmm>;
  using gemv_list = kernel_list<>;

  static double cycles(matmul_shape const& s) noexcept {
    // A stored element costs half a multiply-add of the panel's width, a row and 64 columns the trip of its sums. Narrow
    // panels wait for the latency of their few sums.
    double const panel = s.vectors() < 4.0 ? s.vectors() : 4.0;
    return static_cast<double>(s.nnz) * s.vectors() * (panel < 4.0 ? 1.5 / panel : 0.53) +
           0.055 * static_cast<double>(s.weights.size()) * s.vectors();
  }
};

template <weight_value T>
struct kernels_of<sliced_ell<T>> {
  using spmm = sliced_ell_spmm<T>;
  using spmm_list = kernel_list<spmm>;
  using gemv_list = kernel_list<>;

  static double cycles(matmul_shape const& s) noexcept {
    // Panels of 4 registers below 93 % sparsity, of 2 above, where the trips of the sums decide (see sliced_ell).
    bool const wide = s.vectors() >= 4.0 && static_cast<double>(s.nnz) > 0.07 * static_cast<double>(s.weights.size());
    double const step = wide ? 0.69 : s.vectors() > 1.0 ? 1.0 : 1.8;
    return static_cast<double>(s.nnz) * step * s.vectors() +
           (wide ? 0.026 : 0.013) * static_cast<double>(s.weights.size()) * s.vectors();
  }
};

template <index_t H, index_t C, weight_value T>
struct kernels_of<column_blocks<H, C, T>> {
  using spmm = column_blocks_spmm<H, C, T>;
  using spmm_list = kernel_list<spmm>;
  using gemv_list = kernel_list<>;

  static double cycles(matmul_shape const& s) noexcept {
    return 0.6 * static_cast<double>(s.nnz) * s.vectors();
  }
};

/// The operands that `prepare` chooses from for a format: its layouts, the format as it is, and dense.
template <class... Operand>
using operand_list = type_list<Operand...>;

template <sparse_format F>
struct operands_of {
  using value_type = typename F::value_type;
  using type = operand_list<row_pairs<value_type>, sliced_ell<value_type>, F, dense<value_type>, dense_tiles<value_type>,
                            column_major<value_type>>;
};
template <index_t R, index_t C, weight_value T>
  requires(tile_height<R> > 0)
struct operands_of<bsr<R, C, T>> {
  using type = operand_list<column_blocks<tile_height<R>, C, T>, row_pairs<T>, sliced_ell<T>, bsr<R, C, T>, dense<T>,
                            dense_tiles<T>, column_major<T>>;
};
template <weight_value T>
struct operands_of<dense<T>> {
  using type = operand_list<dense<T>, dense_tiles<T>, column_major<T>>;
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
