// SPDX-License-Identifier: Apache-2.0
// What the translation units that pare_add_dispatch generates are made of; nothing for other sources to include.
//
// A unit is compiled for its instruction set, so that simd::default_arch is the architecture of its kernels:
//
//   template <> kernel_table const& kernels_of_unit<isa::avx2>() noexcept {
//     static constexpr kernel_table table = kernel_table_of<simd::default_arch>("avx2");
//     return table;
//   }
#pragma once

#include <pare/kernel/matmul.hpp>

#if defined(PARE_DISPATCH)

namespace pare::inline PARE_ABI::detail {

/// One entry of a table. No checks: they were made where matmul was called, and what they would do is not to be linked
/// from here.
template <class A, operand O>
void multiply_layer(O const& w, matrix_span<float const> x, matrix_span<float> y, layer_epilogue const& e,
                    execution_ref exec) {
  multiply<A>(w, x, y, e, exec);
}

template <class A, class... O>
[[nodiscard]] constexpr kernel_table fill_table(kernel_table table, type_list<O...>) noexcept {
  ((static_cast<kernel_entry<O>&>(table).multiply = &multiply_layer<A, O>), ...);
  return table;
}

/// The kernels of this translation unit.
template <class A>
[[nodiscard]] constexpr kernel_table kernel_table_of(char const* name) noexcept {
  kernel_table table;
  table.name = name;
  table.target = simd::machine_of<A>;
  return fill_table<A>(table, dispatched_operands{});
}

}  // namespace pare::inline PARE_ABI::detail

#endif
