// SPDX-License-Identifier: Apache-2.0
// What a kernel is, and the lists that tests, benches and the cost model walk.
#pragma once

#include <concepts>
#include <cstddef>

#include <pare/core/matrix.hpp>
#include <pare/format/format.hpp>
#include <pare/kernel/epilogue.hpp>
#include <pare/kernel/simd.hpp>

namespace pare::inline PARE_ABI {

/// Some columns of X, packed: [K][vectors * lanes] floats, aligned, zeros behind the last column.
struct x_panel {
  float const* data = nullptr;
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

/// A kernel for many columns: Y = epilogue(W X).
///
/// Semantics: an empty type. `run<A>(w, x, y, e, r0, r1)` computes rows [r0, r1) for all columns of the panel on
/// architecture A; rows are the only parallel axis. The sum of an output runs over the stored elements of its row in
/// ascending order in one accumulator, so that results do not depend on tiles, panels or threads. No allocation, no
/// checks. `panel_vectors<A>` is the panel width it likes; it must take narrower ones.
/// `operand` is the type that it multiplies with.
template <class Kernel>
concept spmm_kernel = std::is_empty_v<Kernel> &&
    requires(typename Kernel::operand const& w, x_panel x, y_tile y, identity e, index_t r) {
  { Kernel::name() } -> std::convertible_to<char const*>;
  { Kernel::template panel_vectors<simd::default_arch> } -> std::convertible_to<index_t>;
  { Kernel::template run<simd::default_arch>(w, x, y, e, r, r) }
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

/// A list of types: of kernels, of formats.
template <class... T>
struct type_list {
  /// Calls f.template operator()<T>() for each.
  template <class F>
  static void for_each(F&& f) {
    (f.template operator()<T>(), ...);
  }
};

template <class... Kernel>
using kernel_list = type_list<Kernel...>;

}  // namespace pare::inline PARE_ABI
