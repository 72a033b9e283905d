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
#include <pare/kernel/gemv/dense_dot.hpp>
#include <pare/kernel/gemv/generic.hpp>
#include <pare/kernel/spmm/dense_tile.hpp>
#include <pare/kernel/spmm/generic.hpp>

namespace pare::inline PARE_ABI {

/// What the cost model sees of one multiplication.
struct matmul_shape {
  extents weights;  // (M, K)
  index_t nnz = 0;
  index_t columns = 1;  // N
  index_t lanes = 1;    // floats a register
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
    auto const vectors = static_cast<double>(ceil_div(s.columns, s.lanes));
    return nnz * (1.4 * vectors + 2.0 * static_cast<double>(ceil_div(static_cast<index_t>(vectors), 8))) +
           rows * vectors;
  }
};

template <weight_value T>
struct kernels_of<dense<T>> {
  using spmm = dense_tile_spmm<T>;
  using gemv = dense_dot_gemv<T>;
  using spmm_list = kernel_list<spmm, generic_spmm<dense<T>>>;
  using gemv_list = kernel_list<gemv, generic_gemv<dense<T>>>;

  /// The register tile reaches about 80 % of two multiply-adds a cycle; the dot product waits for the memory: 16 bytes
  /// a cycle from the second-level cache.
  static double cycles(matmul_shape const& s) noexcept {
    auto const size = static_cast<double>(s.weights.size());
    if (s.columns == 1) return size * static_cast<double>(sizeof(T)) / 16.0;
    return size * 0.6 * static_cast<double>(ceil_div(s.columns, s.lanes));
  }
};

/// The operands that `prepare` chooses from for a format: the format as it is, and the dense alternative.
template <class... Operand>
struct operand_list {};

template <sparse_format F>
struct operands_of {
  using type = operand_list<F, dense<typename F::value_type>>;
};
template <weight_value T>
struct operands_of<dense<T>> {
  using type = operand_list<dense<T>>;
};

/// Representative formats of each family, for tests and benches to walk.
template <weight_value T>
using format_list = type_list<dense<T>, bitmap<T>, csr<T>, bsr<4, 1, T>, bsr<4, 4, T>, bsr<16, 1, T>,
                              n_of_m_packed<2, 4, T>, n_of_m_packed<1, 4, T>, n_of_m_packed<4, 8, T>>;

}  // namespace pare::inline PARE_ABI
