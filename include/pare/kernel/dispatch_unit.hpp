// SPDX-License-Identifier: Apache-2.0
// What the translation units that pare_add_dispatch generates are made of; nothing for other sources to include.
//
// A unit is compiled for its instruction set, which unit_arch follows:
//
//   template <> kernel_table const& kernels_of_unit<isa::avx2>() noexcept {
//     static constexpr kernel_table table = kernel_table_of<unit_arch>("avx2");
//     return table;
//   }
#pragma once

#include <pare/kernel/matmul.hpp>

#if defined(PARE_DISPATCH)

namespace pare::inline PARE_ABI::simd {
/// AVX-512 with VNNI and VBMI2, for which xsimd has no architecture before version 10: as avx512bw its kernels would
/// have the names of those that do without.
struct avx512vnni : xsimd::avx512bw {
  static constexpr char const* name() noexcept { return "avx512vnni"; }
};
}  // namespace pare::inline PARE_ABI::simd

#if XSIMD_WITH_AVX512BW
namespace xsimd::types {
template <class T>
struct get_bool_simd_register<T, pare::simd::avx512vnni> : get_bool_simd_register<T, avx512bw> {};
XSIMD_DECLARE_SIMD_REGISTER_ALIAS(pare::simd::avx512vnni, avx512bw);
}  // namespace xsimd::types
#endif

namespace pare::inline PARE_ABI::detail {

/// The architecture of the kernels of this unit.
using unit_arch =
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
    std::conditional_t<std::is_same_v<simd::default_arch, xsimd::avx512bw>, simd::avx512vnni, simd::default_arch>;
#else
    simd::default_arch;
#endif

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
