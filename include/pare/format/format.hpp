// SPDX-License-Identifier: Apache-2.0
// What a sparse format is, and what all of them can do: compress, decompress, convert.
//
// A canonical format is what a user sees, converts and saves; kernels may lay it out anew for themselves (see
// pare/kernel/prepare.hpp). Every format here keeps two things apart: which elements are *stored* (the mask;
// structural) and what their values are (a stored 0 stays stored). So a conversion between any two formats is lossless
// in both.
#pragma once

#include <concepts>

#include <pare/core/cast.hpp>
#include <pare/core/matrix.hpp>
#include <pare/mask/mask.hpp>
#include <pare/pattern/pattern.hpp>

namespace pare::inline PARE_ABI {

namespace detail {
struct any_callback {
  template <class... T>
  void operator()(T const&...) const noexcept {}
};
}  // namespace detail

/// A compressed (M, K) matrix of T.
///
/// Semantics:
///  - `F::accepts(keep)`: the format can store a matrix with that mask; `F(w, keep)` then does. Pre: equal shapes.
///  - `for_each_in_row(r, f)` calls f(column, value) for the stored elements of a row, columns ascending: this is the
///    meaning of the format, and the reference kernels are written on it.
///  - `stores<P>`: every mask of pattern P is accepted where P fits.
///  - `bytes()`: values and metadata, without the object itself.
///  - `F::name()`: a word, without spaces: tuning tables and reports call it so.
template <class F>
concept sparse_format = std::movable<F> && weight_value<typename F::value_type> &&
    std::constructible_from<F, matrix_span<float const>, mask const&>&& requires(F const& f, mask const& keep,
                                                                                 index_t row) {
  { F::accepts(keep) } -> std::same_as<bool>;
  { F::template stores<unstructured> } -> std::convertible_to<bool>;
  { f.shape() } -> std::same_as<extents>;
  { f.nnz() } -> std::same_as<index_t>;
  { f.row_nnz(row) } -> std::same_as<index_t>;
  { f.bytes() } -> std::same_as<std::size_t>;
  { F::name() } -> std::convertible_to<char const*>;
  f.for_each_in_row(row, detail::any_callback{});
};

/// Calls f(row, column, value) for every stored element, row by row.
template <sparse_format F, class Callback>
void for_each(F const& format, Callback&& callback) {
  for (index_t r = 0; r < format.shape().rows; ++r)
    format.for_each_in_row(r, [&](index_t c, typename F::value_type v) { callback(r, c, v); });
}

/// Which elements are stored.
template <sparse_format F>
[[nodiscard]] mask kept(F const& format) {
  mask keep(format.shape());
  for_each(format, [&](index_t r, index_t c, auto) { keep.set(r, c); });
  return keep;
}

/// The dense matrix: stored values in place, +0 elsewhere.
template <sparse_format F>
[[nodiscard]] matrix<typename F::value_type> decompress(F const& format) {
  matrix<typename F::value_type> out(format.shape());
  for_each(format, [&](index_t r, index_t c, auto v) { out(r, c) = v; });
  return out;
}

/// Stores the elements of w (M, K; float or bf16) that the mask keeps; values are rounded where F stores bf16.
/// Pre: equal shapes; F::accepts(keep). O(M K).
template <sparse_format F, matrix_view W>
[[nodiscard]] F compress(W const& w, mask const& keep) {
  auto const view = as_span(w);
  PARE_EXPECTS(view.shape() == keep.shape(), "compress: the mask and the weights must have equal shapes");
  PARE_EXPECTS(F::accepts(keep), "compress: this mask does not follow the structure that the format stores");
  return F(view, keep);
}

/// The same matrix in another format: the same elements stored, bit for bit where the value types agree.
/// Pre: To::accepts(kept(from)), true for all but N:M and shapes that blocks do not tile. O(M K) time and memory.
template <sparse_format To, sparse_format From>
[[nodiscard]] To convert(From const& from) {
  return compress<To>(decompress(from), kept(from));
}

}  // namespace pare::inline PARE_ABI
