// SPDX-License-Identifier: Apache-2.0
// Dense matrices: the concept, the strided view, and the owning 64-byte aligned matrix.
//
// matrix_traits<T> is the only extension point: specialise it and a foreign matrix (Eigen's are adapted in
// pare/interop/eigen.hpp) is accepted everywhere, without a copy.
#pragma once

#include <cstddef>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include <pare/core/contract.hpp>
#include <pare/core/index.hpp>
#include <pare/core/memory.hpp>

namespace pare::inline PARE_ABI {

/// Non-owning strided view: element (i, j) is data[i * row_stride + j * col_stride]. Strides count elements.
/// T may be const. Trivially copyable; the viewed storage must outlive it.
template <class T>
struct matrix_span {
  T* data = nullptr;
  index_t rows = 0;
  index_t cols = 0;
  index_t row_stride = 0;
  index_t col_stride = 1;

  constexpr matrix_span() = default;
  /// Row-major, rows following each other without a gap.
  constexpr matrix_span(T* d, index_t r, index_t c) noexcept : data(d), rows(r), cols(c), row_stride(c) {}
  constexpr matrix_span(T* d, index_t r, index_t c, index_t rs, index_t cs = 1) noexcept
      : data(d), rows(r), cols(c), row_stride(rs), col_stride(cs) {}
  /// A view of mutable elements is a view of constant ones.
  template <class U>
    requires(std::is_const_v<T>&& std::is_same_v<U, std::remove_const_t<T>>)
  constexpr matrix_span(matrix_span<U> m) noexcept  // NOLINT: implicit by design
      : data(m.data), rows(m.rows), cols(m.cols), row_stride(m.row_stride), col_stride(m.col_stride) {}

  [[nodiscard]] constexpr extents shape() const noexcept { return {rows, cols}; }
  constexpr T& operator()(index_t i, index_t j) const noexcept { return data[i * row_stride + j * col_stride]; }
  [[nodiscard]] constexpr T* row(index_t i) const noexcept { return data + i * row_stride; }
  /// The same elements with the axes exchanged. Token-major activations (N, K) become the (K, N) operand so.
  [[nodiscard]] constexpr matrix_span transposed() const noexcept { return {data, cols, rows, col_stride, row_stride}; }
  /// Rows [first, first + count).
  [[nodiscard]] constexpr matrix_span row_range(index_t first, index_t count) const noexcept {
    return {data + first * row_stride, count, cols, row_stride, col_stride};
  }
  /// Columns [first, first + count).
  [[nodiscard]] constexpr matrix_span col_range(index_t first, index_t count) const noexcept {
    return {data + first * col_stride, rows, count, row_stride, col_stride};
  }
};

/// Describes a dense matrix type: `element_type`, and `span(m)` giving a matrix_span of it.
template <class M>
struct matrix_traits;

template <class T>
struct matrix_traits<matrix_span<T>> {
  using element_type = T;
  static constexpr matrix_span<T> span(matrix_span<T> m) noexcept { return m; }
};

/// A dense matrix whose elements can be addressed in place with two strides.
///
/// Semantics: `span` is O(1) and does not copy; the view stays valid as long as the matrix is not resized.
template <class M>
concept matrix_view = requires(M& m) {
  typename matrix_traits<std::remove_cvref_t<M>>::element_type;
  matrix_traits<std::remove_cvref_t<M>>::span(m);
};

/// The element type of a matrix, without const.
template <matrix_view M>
using element_t = std::remove_const_t<typename matrix_traits<std::remove_cvref_t<M>>::element_type>;

/// A read-only view of any dense matrix.
template <matrix_view M>
[[nodiscard]] constexpr matrix_span<element_t<M> const> as_span(M const& m) noexcept {
  return matrix_traits<M>::span(m);
}

/// A writable view of any dense matrix that allows it.
template <matrix_view M>
[[nodiscard]] constexpr auto as_mutable_span(M&& m) noexcept {
  auto s = matrix_traits<std::remove_cvref_t<M>>::span(m);
  static_assert(!std::is_const_v<std::remove_pointer_t<decltype(s.data)>>,
                "pare: this matrix is read-only, and it would be written to");
  return s;
}

/// Owning row-major matrix, zero-initialised, aligned to 64 bytes, rows without gaps. T must be trivially copyable.
template <class T>
class matrix {
  static_assert(std::is_trivially_copyable_v<T>, "pare::matrix holds plain values only");

 public:
  using value_type = T;

  matrix() = default;
  /// Pre: rows, cols >= 0, and an index_t holds the number of bytes. Throws std::bad_alloc.
  matrix(index_t rows, index_t cols) : rows_(rows), cols_(cols) {
    PARE_EXPECTS(rows >= 0 && cols >= 0, "matrix: extents must not be negative");
    constexpr index_t most = std::numeric_limits<index_t>::max() / index_t{sizeof(T)};
    PARE_EXPECTS(cols == 0 || rows <= most / cols, "matrix: so many elements cannot be addressed");
    if (size() > 0) {
      data_ = static_cast<T*>(detail::allocate(bytes()));
      std::memset(static_cast<void*>(data_), 0, bytes());
    }
  }
  explicit matrix(extents e) : matrix(e.rows, e.cols) {}
  /// Copies the elements of a view, whatever its strides.
  explicit matrix(matrix_span<T const> m) : matrix(m.rows, m.cols) {
    // Square blocks: a transposed view is then read along its rows too while they are in the cache.
    index_t const height = m.col_stride == 1 ? 1 : 16;
    index_t const width = m.col_stride == 1 ? cols_ : 16;
    for (index_t i0 = 0; i0 < rows_; i0 += height)
      for (index_t j0 = 0; j0 < cols_; j0 += width)
        for (index_t i = i0; i < rows_ && i < i0 + height; ++i)
          for (index_t j = j0; j < cols_ && j < j0 + width; ++j) (*this)(i, j) = m(i, j);
  }
  matrix(matrix const& other) : matrix(other.rows_, other.cols_) {
    if (size() > 0) std::memcpy(static_cast<void*>(data_), other.data_, bytes());
  }
  matrix(matrix&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        rows_(std::exchange(other.rows_, 0)),
        cols_(std::exchange(other.cols_, 0)) {}
  matrix& operator=(matrix other) noexcept {
    std::swap(data_, other.data_);
    std::swap(rows_, other.rows_);
    std::swap(cols_, other.cols_);
    return *this;
  }
  ~matrix() { detail::deallocate(data_, bytes()); }

  [[nodiscard]] index_t rows() const noexcept { return rows_; }
  [[nodiscard]] index_t cols() const noexcept { return cols_; }
  [[nodiscard]] extents shape() const noexcept { return {rows_, cols_}; }
  [[nodiscard]] index_t size() const noexcept { return rows_ * cols_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return static_cast<std::size_t>(size()) * sizeof(T); }
  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] T const* data() const noexcept { return data_; }
  [[nodiscard]] T* row(index_t i) noexcept { return data_ + i * cols_; }
  [[nodiscard]] T const* row(index_t i) const noexcept { return data_ + i * cols_; }
  T& operator()(index_t i, index_t j) noexcept { return data_[i * cols_ + j]; }
  T const& operator()(index_t i, index_t j) const noexcept { return data_[i * cols_ + j]; }
  [[nodiscard]] matrix_span<T> span() noexcept { return {data_, rows_, cols_}; }
  [[nodiscard]] matrix_span<T const> span() const noexcept { return {data_, rows_, cols_}; }

 private:
  T* data_ = nullptr;
  index_t rows_ = 0;
  index_t cols_ = 0;
};

template <class T>
struct matrix_traits<matrix<T>> {
  using element_type = T;
  static matrix_span<T> span(matrix<T>& m) noexcept { return m.span(); }
  static matrix_span<T const> span(matrix<T> const& m) noexcept { return m.span(); }
};

}  // namespace pare::inline PARE_ABI
