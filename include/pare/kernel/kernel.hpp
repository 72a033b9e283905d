// SPDX-License-Identifier: Apache-2.0
// What a kernel is, and the lists that tests, benches and the cost model walk.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include <pare/core/matrix.hpp>
#include <pare/format/format.hpp>
#include <pare/kernel/epilogue.hpp>
#include <pare/kernel/simd.hpp>

namespace pare::inline PARE_ABI {

/// What kernels multiply with: a canonical format as it is, or its elements laid out anew for one family of kernels.
///
/// Semantics: `block_rows()` says at which rows the work may be cut (their multiples), `block_nnz(b)` how much
/// the b-th such run of rows stores, in elements or bytes. Formats can be cut anywhere and have row_nnz instead. One
/// that was moved from may only be destroyed or assigned to.
template <class O>
concept operand = std::movable<O> && weight_value<typename O::value_type> && requires(O const& o, index_t i) {
  { O::name() } -> std::convertible_to<char const*>;
  { o.shape() } -> std::same_as<extents>;
  { o.nnz() } -> std::same_as<index_t>;
  { o.bytes() } -> std::same_as<std::size_t>;
  requires sparse_format<O> || requires {
    { o.block_rows() } -> std::same_as<index_t>;
    { o.block_nnz(i) } -> std::same_as<index_t>;
  };
};

/// Some columns of X, packed (see panels.hpp) or in place: aligned rows of vectors * lanes floats, zeros behind the
/// last column.
struct x_panel {
  float const* data = nullptr;
  index_t stride = 0;  // floats from row to row: vectors * lanes, or what panel_request allows
  index_t vectors = 0;
  index_t first_column = 0;  // of X and Y: what epilogues are told
};

/// Where a kernel stores: row r begins at data + (r - first_row) * stride and takes vectors * lanes floats.
struct y_tile {
  float* data = nullptr;
  index_t stride = 0;
  index_t first_row = 0;
  [[nodiscard]] float* row(index_t r) const noexcept { return data + (r - first_row) * stride; }
};

/// What a kernel asks of matmul.
struct panel_request {
  index_t vectors = 1;       // the width of a panel, in registers; the last one may have 1, 2, 3, 4 or 6
  bool same_stride = false;  // rows of the last panel, which may be narrower, are as far apart as those of the others
  index_t block = 0;         // rows of X between two rows of zeros (a multiple of 16); 0: the kernel does not block K
  bool needs_sums = false;   // it keeps partial sums in memory between blocks
  index_t rows = 0;  // it takes so many rows at once, a multiple of the operand's block_rows(); 0: as matmul likes
  bool any_stride = false;  // rows of X may be any distance apart: matmul may leave X where it is
};

/// A kernel for many columns: Y = epilogue(W X).
///
/// Semantics: an empty type. `run<A>(w, x, sums, y, e, r0, r1)` computes rows [r0, r1), which begin at a multiple of
/// the operand's block_rows(), for all columns of the panel on architecture A; rows are the only parallel axis. `sums`
/// is working memory for the kernels that ask for it: row r0 and those after it, as wide as the panel, without gaps; y
/// may be the same memory. The sum of an output runs over the stored elements of its row in an order that the operand
/// and the panel's width fix, so that results do not depend on threads. No allocation, no checks. `operand` is the type
/// that it multiplies with.
template <class Kernel>
concept spmm_kernel = std::is_empty_v<Kernel> &&
    requires(typename Kernel::operand const& w, x_panel x, float* sums, y_tile y, identity e, index_t r) {
  { Kernel::name() } -> std::convertible_to<char const*>;
  { Kernel::template panels<simd::default_arch>(w) } -> std::same_as<panel_request>;
  { Kernel::template run<simd::default_arch>(w, x, sums, y, e, r, r) }
  noexcept;
};

/// A kernel for one column: y[r * stride] = epilogue(W x) for rows [r0, r1); x has K consecutive floats.
template <class Kernel>
concept gemv_kernel = std::is_empty_v<Kernel> &&
    requires(typename Kernel::operand const& w, float const* x, float* y, identity e, index_t r) {
  { Kernel::name() } -> std::convertible_to<char const*>;
  { Kernel::template run<simd::default_arch>(w, x, y, r, e, r, r) }
  noexcept;
};

/// Up to eight columns of X, packed (see columns.hpp): for every 16 inputs `width` runs of 16 floats, one a column. The
/// inputs are filled up to a multiple of 64 with zeros, the columns to `width`, a power of two.
struct x_columns {
  float const* data = nullptr;
  index_t width = 1;
  index_t count = 1;         // columns that exist
  index_t first_column = 0;  // of Y: what epilogues are told
  bool finite = true;        // no Inf, no NaN: what is not stored may be multiplied as a zero
};

/// A kernel for 1 to 8 columns, which reads W once for all of them: y(r, first_column + j) = epilogue(W x) for rows
/// [r0, r1), which begin at a multiple of the operand's block_rows(); y has any strides.
template <class Kernel>
concept few_columns_kernel = std::is_empty_v<Kernel> &&
    requires(typename Kernel::operand const& w, x_columns x, matrix_span<float> y, identity e, index_t r) {
  { Kernel::name() } -> std::convertible_to<char const*>;
  { Kernel::template run<simd::default_arch>(w, x, y, e, r, r) }
  noexcept;
};

/// Columns of X rounded to 8 bits: records of codes by group of inputs and column, and their scales (int8_columns.hpp).
struct int8_columns {
  std::int8_t const* codes = nullptr;
  float const* scales = nullptr;
  index_t count = 0;
};

/// A kernel that rounds X to 8 bits and reads W once for all columns: y(r, j) = epilogue(W x) for rows [r0, r1), which
/// begin at a multiple of the operand's block_rows(); y has any strides. Where `runs_on<A>` is false, or X holds NaN or
/// Inf, matmul multiplies element by element instead.
template <class Kernel>
concept int8_kernel = std::is_empty_v<Kernel> &&
    requires(typename Kernel::operand const& w, int8_columns const& x, matrix_span<float> y, identity e, index_t r) {
  { Kernel::name() } -> std::convertible_to<char const*>;
  { Kernel::group } -> std::convertible_to<index_t>;
  { Kernel::template runs_on<simd::default_arch> } -> std::convertible_to<bool>;
  { Kernel::template run<simd::default_arch>(w, x, y, e, r, r) }
  noexcept;
};

/// Some columns of X rounded to 8 bits: records of codes, scales and offsets by group of inputs and 16 columns
/// (int8_panels.hpp).
struct int8_panel {
  std::int8_t const* records = nullptr;
  index_t vectors = 0;       // the width in registers of floats
  index_t columns = 0;       // of them exist
  index_t first_column = 0;  // of X and Y: what epilogues are told
};

/// A kernel for many columns that rounds X to 8 bits; otherwise as spmm_kernel. `group` is the number of inputs that
/// share a scale, `order` that of the codes. Where `runs_on<A>` is false, or X holds NaN or Inf, matmul
/// multiplies element by element instead.
template <class Kernel>
concept int8_spmm_kernel = std::is_empty_v<Kernel> &&
    requires(typename Kernel::operand const& w, int8_panel x, float* sums, y_tile y, identity e, index_t r) {
  { Kernel::name() } -> std::convertible_to<char const*>;
  { Kernel::group } -> std::convertible_to<index_t>;
  Kernel::order;
  { Kernel::template runs_on<simd::default_arch> } -> std::convertible_to<bool>;
  { Kernel::template panels<simd::default_arch>(w) } -> std::same_as<panel_request>;
  { Kernel::template run<simd::default_arch>(w, x, sums, y, e, r, r) }
  noexcept;
};

/// A list of types: of kernels, of formats.
template <class... T>
struct type_list {
  /// Calls f.template operator()<T>() for each.
  template <class F>
  static void for_each(F&& f) {
    (f.template operator()<T>(), ...);
  }
};

/// T is one of a type_list.
template <class T, class List>
inline constexpr bool is_in = false;
template <class T, class... Others>
inline constexpr bool is_in<T, type_list<Others...>> = (std::is_same_v<T, Others> || ...);

template <class... Kernel>
using kernel_list = type_list<Kernel...>;

}  // namespace pare::inline PARE_ABI
