// SPDX-License-Identifier: Apache-2.0
// What happens to an accumulator before it is stored: bias, activation, residual, scale.
//
// Composed at compile time with |, applied from left to right in registers: `bias{b} | gelu{}` is gelu(W x + b).
// Always inlined: for V = float the instruction set is not in the name (see dispatch.hpp).
#pragma once

#include <cmath>
#include <concepts>
#include <span>
#include <type_traits>

#include <pare/core/matrix.hpp>
#include <pare/kernel/simd.hpp>

namespace pare::inline PARE_ABI {

/// A function of one output value v at (row, col) of Y; V is float or a SIMD register of the columns col, col + 1, ...
///
/// Semantics: pure; called at least once for every output (in the padding behind the last column too, where the result
/// is thrown away: what it reads there must be guarded). Types opt in with `static constexpr bool is_epilogue = true`.
template <class E>
concept epilogue = std::copy_constructible<E> && E::is_epilogue && requires(E const& e, float v, index_t i) {
  { e(v, i, i) } -> std::same_as<float>;
};

/// Stores the accumulator as it is.
struct identity {
  static constexpr bool is_epilogue = true;
  template <class V>
  [[gnu::always_inline]] V operator()(V v, index_t, index_t) const noexcept {
    return v;
  }
};

/// v + b[row]. b (M) must outlive the call.
struct bias {
  static constexpr bool is_epilogue = true;
  std::span<float const> values;
  template <class V>
  [[gnu::always_inline]] V operator()(V v, index_t row, index_t) const noexcept {
    return v + V(values[static_cast<std::size_t>(row)]);
  }
};

/// a[row] * v + b[row]: a folded batch norm. a, b (M).
struct affine {
  static constexpr bool is_epilogue = true;
  std::span<float const> scale;
  std::span<float const> shift;
  template <class V>
  [[gnu::always_inline]] V operator()(V v, index_t row, index_t) const noexcept {
    auto const r = static_cast<std::size_t>(row);
    return v * V(scale[r]) + V(shift[r]);
  }
};

/// v * factor.
struct scaled {
  static constexpr bool is_epilogue = true;
  float factor = 1.0f;
  template <class V>
  [[gnu::always_inline]] V operator()(V v, index_t, index_t) const noexcept {
    return v * V(factor);
  }
};

/// v + R(row, col). R (M, N), any strides; it may be Y itself.
struct residual {
  static constexpr bool is_epilogue = true;
  matrix_span<float const> values;
  template <class V>
  [[gnu::always_inline]] V operator()(V v, index_t row, index_t col) const noexcept {
    if constexpr (std::is_same_v<V, float>) {
      return v + values(row, col);
    } else {
      constexpr auto width = static_cast<index_t>(V::size);
      if (values.col_stride == 1 && col + width <= values.cols) return v + V::load_unaligned(values.row(row) + col);
      alignas(64) float lane[static_cast<std::size_t>(width)] = {};
      for (index_t i = 0; i < width && col + i < values.cols; ++i) lane[i] = values(row, col + i);
      return v + V::load_aligned(lane);
    }
  }
};

/// max(v, 0); NaN stays NaN.
struct relu {
  static constexpr bool is_epilogue = true;
  template <class V>
  [[gnu::always_inline]] V operator()(V v, index_t, index_t) const noexcept {
    if constexpr (std::is_same_v<V, float>) {
      return v < 0.0f ? 0.0f : v;
    } else {
      return max(V(0.0f), v);  // in this order x86 hands a NaN of v through
    }
  }
};

/// v * sigmoid(v), also called swish.
struct silu {
  static constexpr bool is_epilogue = true;
  template <class V>
  [[gnu::always_inline]] V operator()(V v, index_t, index_t) const noexcept {
    using std::exp;
    return v / (V(1.0f) + exp(-v));
  }
};

/// v * Phi(v) with the exact normal distribution function (erf), as PyTorch's default.
struct gelu {
  static constexpr bool is_epilogue = true;
  template <class V>
  [[gnu::always_inline]] V operator()(V v, index_t, index_t) const noexcept {
    using std::erf;
    return V(0.5f) * v * (V(1.0f) + erf(v * V(0.70710678118654752f)));
  }
};

/// tanh(v).
struct tanh_activation {
  static constexpr bool is_epilogue = true;
  template <class V>
  [[gnu::always_inline]] V operator()(V v, index_t, index_t) const noexcept {
    using std::tanh;
    return tanh(v);
  }
};

/// Second after first.
template <epilogue First, epilogue Second>
struct composed {
  static constexpr bool is_epilogue = true;
  First first;
  Second second;
  template <class V>
  [[gnu::always_inline]] V operator()(V v, index_t row, index_t col) const noexcept {
    return second(first(v, row, col), row, col);
  }
};

/// Second after first. (Two epilogues of a namespace of your own need `using pare::operator|;` there.)
template <epilogue First, epilogue Second>
[[nodiscard]] constexpr composed<First, Second> operator|(First first, Second second) {
  return {first, second};
}

/// Activation functions by name, for networks that learn theirs from a file.
enum class activation { none, relu, silu, gelu, tanh };

/// The common order of epilogues with everything optional at run time: act(scale * v + bias + residual).
/// Networks use it, so that each kernel is built once for all their layers. Empty spans are left out.
struct layer_epilogue {
  static constexpr bool is_epilogue = true;
  std::span<float const> scale{};    // (M) or empty
  std::span<float const> bias{};     // (M) or empty
  matrix_span<float const> added{};  // (M, N) or data == nullptr
  activation act = activation::none;

  template <class V>
  [[gnu::always_inline]] V operator()(V v, index_t row, index_t col) const noexcept {
    auto const r = static_cast<std::size_t>(row);
    if (!scale.empty()) v = v * V(scale[r]);
    if (!bias.empty()) v = v + V(bias[r]);
    if (added.data != nullptr) v = residual{added}(v, row, col);
    switch (act) {
      case activation::none:
        break;
      case activation::relu:
        return relu{}(v, row, col);
      case activation::silu:
        return silu{}(v, row, col);
      case activation::gelu:
        return gelu{}(v, row, col);
      case activation::tanh:
        return tanh_activation{}(v, row, col);
    }
    return v;
  }
};

}  // namespace pare::inline PARE_ABI
