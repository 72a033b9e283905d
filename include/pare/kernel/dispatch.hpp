// SPDX-License-Identifier: Apache-2.0
// Which instruction set multiplies: the one that a translation unit is compiled for, or, in a target that
// pare_add_dispatch (CMake) was called for, the best one that the processor has.
//
// pare_add_dispatch generates one translation unit for each instruction set, a kernel unit (see dispatch_unit.hpp), and
// defines PARE_DISPATCH. What leaves a kernel unit is one function, which returns a table with a pointer for each
// operand. Everything else in it is inlined, or has the architecture A in its type: an inline function that two units
// share is linked once, from either, and would bring AVX-512 to a machine without. tests/link looks for such functions.
#pragma once

#include <type_traits>

#include <pare/kernel/registry.hpp>

#if defined(PARE_DISPATCH)
#include <cstdlib>
#include <cstring>
#include <span>

#include <pare/kernel/execution.hpp>
#include <pare/kernel/layer_form.hpp>
#include <pare/kernel/panels.hpp>
#endif

namespace pare::inline PARE_ABI {

#if defined(PARE_DISPATCH)

/// The instruction sets that there may be kernel units for, worst first. `baseline` is what the target itself is
/// compiled for; `avx512vnni` is AVX-512 with VNNI, IFMA (newer xsimd asks for it) and VBMI2.
enum class isa { baseline, sse4_2, avx2, avx512bw, avx512vnni };

namespace detail {

/// Whatever b can do, a can.
[[nodiscard]] constexpr bool at_least(machine const& a, machine const& b) noexcept {
  return a.lanes >= b.lanes && a.has_32_registers >= b.has_32_registers && a.expands >= b.expands &&
         a.expands_words >= b.expands_words && a.multiplies_bytes >= b.multiplies_bytes &&
         a.multiplies_words >= b.multiplies_words && (a.permutes_8 || a.expands) >= b.permutes_8;
}

/// The types of several lists, each once.
template <class Found, class... Lists>
struct merged {
  using type = Found;
};
template <class... Found, class... Lists>
struct merged<type_list<Found...>, type_list<>, Lists...> : merged<type_list<Found...>, Lists...> {};
template <class... Found, class T, class... Rest, class... Lists>
struct merged<type_list<Found...>, type_list<T, Rest...>, Lists...>
    : merged<std::conditional_t<is_in<T, type_list<Found...>>, type_list<Found...>, type_list<Found..., T>>,
             type_list<Rest...>, Lists...> {};

/// The operands of all formats of some lists.
template <class... Lists>
struct operands_of_formats;
template <class... F>
struct operands_of_formats<type_list<F...>> : merged<type_list<>, typename operands_of<F>::type...> {};
template <class First, class... Lists>
struct operands_of_formats<First, Lists...>
    : merged<type_list<>, typename operands_of_formats<First>::type, typename operands_of_formats<Lists>::type...> {};

}  // namespace detail

/// The operands that kernel units hold kernels for: those of all formats that the registry names. Others (blocks of a
/// size of your own, 8-bit codes in groups of another size, for example) are multiplied by the baseline.
using dispatched_operands =
    typename detail::operands_of_formats<format_list<float>, format_list<bf16>, type_list<quantised<128>>>::type;

/// The multiplication with one operand.
template <class Operand>
struct kernel_entry {
  void (*multiply)(Operand const&, matrix_span<float const>, matrix_span<float>, layer_epilogue const&,
                   execution_ref) = nullptr;
};
template <class List>
struct kernel_entries;
template <class... Operand>
struct kernel_entries<type_list<Operand...>> : kernel_entry<Operand>... {};

/// The kernels of one instruction set.
struct kernel_table : kernel_entries<dispatched_operands> {
  char const* name = nullptr;  // of the instruction set, as active_arch() gives it
  machine target;              // what operands are laid out for
};

namespace detail {

/// The table of a kernel unit. Each unit defines one of these, and nothing else that other units see.
template <isa I>
kernel_table const& kernels_of_unit() noexcept;

struct kernel_unit {
  isa id;
  char const* name;
  kernel_table const& (*kernels)() noexcept;
};
/// The kernel units of this program, worst first; defined by the one for the baseline.
std::span<kernel_unit const> kernel_units() noexcept;

/// The processor has the instructions and the system saves their registers. (xsimd 8.1 asks the processor only, and
/// finds no AVX on some that have it.)
[[nodiscard]] inline bool has(isa id) noexcept {
  __builtin_cpu_init();
  bool const sse4_2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
  bool const avx2 = sse4_2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  bool const avx512bw = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl");
  switch (id) {
    case isa::baseline:
      return true;
    case isa::sse4_2:
      return sse4_2;
    case isa::avx2:
      return avx2;
    case isa::avx512bw:
      return avx512bw;
    case isa::avx512vnni:
      return avx512bw && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512ifma") &&
             __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
  }
  return false;
}

/// The table of the name, or, without one, the best that the processor has and that is not below the baseline.
/// A name that is not to be had is an error of whoever started the program: it ends as broken contracts do.
[[nodiscard]] inline kernel_table const& choose_kernels(char const* name) {
  char text[255] = "PARE_ARCH: this program and processor have";  // and their names
  bool const any = name == nullptr || *name == 0;
  kernel_table const* best = nullptr;
  for (kernel_unit const& unit : kernel_units()) {
    if (!has(unit.id)) continue;
    std::strncat(text, " ", sizeof text - std::strlen(text) - 1);
    std::strncat(text, unit.name, sizeof text - std::strlen(text) - 1);
    if (any ? best == nullptr || at_least(unit.kernels().target, best->target) : std::strcmp(name, unit.name) == 0)
      best = &unit.kernels();
  }
  if (best == nullptr) {
    std::strncat(text, ", not ", sizeof text - std::strlen(text) - 1);
    std::strncat(text, name, sizeof text - std::strlen(text) - 1);
    contract_failed(text);
  }
  return *best;
}

}  // namespace detail

/// The kernels that multiply in this program: the best that there are, or those that the environment variable PARE_ARCH
/// names when the first operand is prepared or multiplied with. Error: PARE_ARCH names others (contract).
[[nodiscard]] inline kernel_table const& active_kernels() {
  static kernel_table const& chosen = detail::choose_kernels(std::getenv("PARE_ARCH"));
  return chosen;
}

#endif

/// The name of the instruction set that multiplies, the same in every program that multiplies with it: "sse4_2",
/// "avx2", "avx512bw", "avx512vnni" (see isa), or xsimd's name of another.
[[nodiscard]] inline char const* active_arch() {
#if defined(PARE_DISPATCH)
  return active_kernels().name;
#else
  return simd::arch_name<simd::default_arch>;
#endif
}

namespace detail {

/// matmul on architecture A takes the operand's kernel from active_kernels().
template <class A, class Operand>
inline constexpr bool is_dispatched =
#if defined(PARE_DISPATCH)
    std::is_same_v<A, simd::dispatched>&& is_in<Operand, dispatched_operands>;
#else
    false;
#endif

/// The architecture whose kernels are compiled for A where nothing is dispatched.
template <class A>
using compiled_arch = std::conditional_t<std::is_same_v<A, simd::best_arch>, simd::default_arch, A>;

}  // namespace detail

/// What an operand must be laid out for, so that matmul without an architecture multiplies with it.
template <class Operand>
[[nodiscard]] machine machine_for() {
  machine target = simd::machine_of<simd::default_arch>;
#if defined(PARE_DISPATCH)
  if constexpr (detail::is_dispatched<simd::best_arch, Operand>) target = active_kernels().target;
#endif
  target.intel = target.expands && simd::is_intel<simd::default_arch>();
  return target;
}

namespace detail {

/// y = e(W x) with the chosen kernels, which know layer_epilogue. Where e cannot be written as one, the product waits
/// in working memory of this thread, and e is applied by the baseline; not in y, because e may read there (see
/// residual).
template <class Operand, epilogue E, class Exec>
void multiply_dispatched(Operand const& w, matrix_span<float const> x, matrix_span<float> y, E const& e, Exec& exec);

#if defined(PARE_DISPATCH)
template <class Operand, epilogue E, class Exec>
void multiply_dispatched(Operand const& w, matrix_span<float const> x, matrix_span<float> y, E const& e, Exec& exec) {
  kernel_entry<Operand> const& kernels = active_kernels();
  execution_ref const run = exec;
  if constexpr (layer_form<E>::exists) {
    layer_epilogue layer;
    layer_form<E>::write(e, layer);
    kernels.multiply(w, x, y, layer, run);
  } else {
    matrix_span<float> const product(scratch<simd::dispatched>(3, y.rows * y.cols), y.rows, y.cols);
    kernels.multiply(w, x, product, {}, run);
    for (index_t i = 0; i < y.rows; ++i)
      for (index_t j = 0; j < y.cols; ++j) y(i, j) = e(product(i, j), i, j);
  }
}
#endif

}  // namespace detail

}  // namespace pare::inline PARE_ABI
