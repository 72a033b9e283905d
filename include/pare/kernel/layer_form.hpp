// SPDX-License-Identifier: Apache-2.0
// Epilogues as a layer_epilogue, which kernels that are compiled once know: bias{b} | gelu{} is one, gelu{} | bias{b}
// not.
#pragma once

#include <pare/kernel/epilogue.hpp>

namespace pare::inline PARE_ABI::detail {

/// The steps of a layer_epilogue, act(scale * v + bias + residual), in their order.
enum class layer_step { before, scale, bias, residual, act, after };

/// Which steps of a layer_epilogue an epilogue is, and how it is written into one. `exists` is false where it is none.
template <class E>
struct layer_form {
  static constexpr bool exists = false;
};

template <layer_step First, layer_step Last>
struct layer_steps {
  static constexpr bool exists = true;
  static constexpr layer_step first = First;
  static constexpr layer_step last = Last;
};

template <>
struct layer_form<identity> : layer_steps<layer_step::after, layer_step::before> {
  static void write(identity const&, layer_epilogue&) noexcept {}
};
template <>
struct layer_form<layer_epilogue> : layer_steps<layer_step::scale, layer_step::act> {
  static void write(layer_epilogue const& e, layer_epilogue& to) noexcept { to = e; }
};
template <>
struct layer_form<bias> : layer_steps<layer_step::bias, layer_step::bias> {
  static void write(bias const& e, layer_epilogue& to) noexcept { to.bias = e.values; }
};
template <>
struct layer_form<affine> : layer_steps<layer_step::scale, layer_step::bias> {
  static void write(affine const& e, layer_epilogue& to) noexcept {
    to.scale = e.scale;
    to.bias = e.shift;
  }
};
template <>
struct layer_form<residual> : layer_steps<layer_step::residual, layer_step::residual> {
  static void write(residual const& e, layer_epilogue& to) noexcept { to.added = e.values; }
};

template <activation Act>
struct layer_form_of_activation : layer_steps<layer_step::act, layer_step::act> {
  template <epilogue E>
  static void write(E const&, layer_epilogue& to) noexcept {
    to.act = Act;
  }
};
template <>
struct layer_form<relu> : layer_form_of_activation<activation::relu> {};
template <>
struct layer_form<silu> : layer_form_of_activation<activation::silu> {};
template <>
struct layer_form<gelu> : layer_form_of_activation<activation::gelu> {};
template <>
struct layer_form<tanh_activation> : layer_form_of_activation<activation::tanh> {};

/// In the order of the steps, and none of them twice.
template <class First, class Second>
  requires(layer_form<First>::exists&& layer_form<Second>::exists&& layer_form<First>::last < layer_form<Second>::first)
struct layer_form<composed<First, Second>>
    : layer_steps<
          (layer_form<First>::first < layer_form<Second>::first ? layer_form<First>::first : layer_form<Second>::first),
          (layer_form<First>::last < layer_form<Second>::last ? layer_form<Second>::last : layer_form<First>::last)> {
  static void write(composed<First, Second> const& e, layer_epilogue& to) noexcept {
    layer_form<First>::write(e.first, to);
    layer_form<Second>::write(e.second, to);
  }
};

}  // namespace pare::inline PARE_ABI::detail
