// SPDX-License-Identifier: Apache-2.0
// Eigen matrices, maps and blocks as pare matrices, without a copy. Inert where Eigen is not installed.
#pragma once

#include <type_traits>

#include <pare/core/matrix.hpp>

#if __has_include(<Eigen/Core>)
#include <Eigen/Core>

namespace pare::inline PARE_ABI {

namespace detail {
/// A dense Eigen object with its elements in memory: not a lazy expression, not a sparse matrix.
template <class M>
concept eigen_in_memory = requires {
  typename M::PlainObject;
}
&&std::is_base_of_v<Eigen::DenseBase<M>, M> &&
    (static_cast<int>(Eigen::internal::traits<M>::Flags) & static_cast<int>(Eigen::DirectAccessBit)) != 0;
template <class M>
inline constexpr bool eigen_writable = (static_cast<int>(Eigen::internal::traits<M>::Flags) &
                                        static_cast<int>(Eigen::LvalueBit)) != 0;
}  // namespace detail

/// Row- and column-major, any strides, fixed or dynamic sizes.
template <detail::eigen_in_memory M>
struct matrix_traits<M> {
  using element_type = typename M::Scalar;

  static matrix_span<element_type const> span(M const& m) noexcept {
    return {m.data(), m.rows(), m.cols(), m.rowStride(), m.colStride()};
  }
  static matrix_span<element_type> span(M& m) noexcept requires detail::eigen_writable<M> {
    return {m.data(), m.rows(), m.cols(), m.rowStride(), m.colStride()};
  }
};

}  // namespace pare::inline PARE_ABI
#endif
