// SPDX-License-Identifier: Apache-2.0
// prepare: from a canonical format to the operand that multiplies fastest on this machine for this many columns.
#pragma once

#include <memory>
#include <utility>
#include <variant>

#include <pare/kernel/matmul.hpp>
#include <pare/kernel/registry.hpp>

namespace pare::inline PARE_ABI {

/// What the operand will be used for.
struct prepare_options {
  index_t columns = 1;       // N that it is chosen for; any N works afterwards
  bool may_be_dense = true;  // false: keep the sparse form even where the cost model expects dense to be faster
};

/// A prepared operand: one of the operands of format F (see operands_of). Opaque, of this machine, never saved.
template <sparse_format F>
class prepared {
  template <class List>
  struct variant_of;
  template <class... O>
  struct variant_of<operand_list<O...>> {
    using type = std::variant<O...>;
  };

 public:
  using format = F;
  using operands = typename variant_of<typename operands_of<F>::type>::type;

  template <class Operand>
  explicit prepared(Operand operand) : operand_(std::move(operand)) {}

  [[nodiscard]] extents shape() const noexcept {
    return visit([](auto const& o) { return o.shape(); });
  }
  [[nodiscard]] index_t nnz() const noexcept {
    return visit([](auto const& o) { return o.nnz(); });
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return visit([](auto const& o) { return o.bytes(); });
  }
  /// The name of the operand that was chosen: "dense", "bitmap", ...
  [[nodiscard]] char const* name() const noexcept {
    return visit([](auto const& o) { return o.name(); });
  }
  template <class Visitor>
  decltype(auto) visit(Visitor&& v) const {
    return std::visit(std::forward<Visitor>(v), operand_);
  }

 private:
  operands operand_;
};

/// Chooses the operand with the lowest estimated cost for `options.columns` columns. O(M K).
template <sparse_format F>
[[nodiscard]] prepared<F> prepare(F format, prepare_options const& options = {}) {
  using alternative = dense<typename F::value_type>;
  if constexpr (!std::same_as<F, alternative>) {
    matmul_shape const shape{format.shape(), format.nnz(), options.columns, simd::lanes<simd::default_arch>};
    if (options.may_be_dense && kernels_of<alternative>::cycles(shape) < kernels_of<F>::cycles(shape))
      return prepared<F>(convert<alternative>(format));
  }
  return prepared<F>(std::move(format));
}

/// y = e(W x) with a prepared operand; everything else as for matmul of a format.
template <sparse_format F, matrix_view X, matrix_view Y, epilogue E = identity, execution Exec = sequential>
void matmul(prepared<F> const& w, X const& x, Y&& y, E const& e = {}, Exec&& exec = Exec{}) {
  w.visit([&](auto const& operand) { matmul(operand, x, y, e, exec); });
}

/// A prepared operand of any format, for networks whose pattern is known at run time only. Shares, does not copy.
/// Its epilogue is layer_epilogue, so that kernels are built once.
class any_operand {
 public:
  any_operand() = default;
  template <sparse_format F>
  any_operand(prepared<F> p)  // NOLINT: implicit by design
      : self_(std::make_shared<prepared<F> const>(std::move(p))), table_(&table_of<F>) {}

  explicit operator bool() const noexcept { return self_ != nullptr; }
  [[nodiscard]] extents shape() const noexcept { return table_->shape(self_.get()); }
  [[nodiscard]] index_t nnz() const noexcept { return table_->nnz(self_.get()); }
  [[nodiscard]] std::size_t bytes() const noexcept { return table_->bytes(self_.get()); }
  [[nodiscard]] char const* name() const noexcept { return table_->name(self_.get()); }
  void multiply(matrix_span<float const> x, matrix_span<float> y, layer_epilogue const& e, execution_ref exec) const {
    table_->multiply(self_.get(), x, y, e, exec);
  }

 private:
  struct functions {
    extents (*shape)(void const*) noexcept;
    index_t (*nnz)(void const*) noexcept;
    std::size_t (*bytes)(void const*) noexcept;
    char const* (*name)(void const*) noexcept;
    void (*multiply)(void const*, matrix_span<float const>, matrix_span<float>, layer_epilogue const&, execution_ref);
  };
  template <class F>
  static prepared<F> const& as(void const* p) noexcept {
    return *static_cast<prepared<F> const*>(p);
  }
  template <class F>
  static constexpr functions table_of = {
      [](void const* p) noexcept { return as<F>(p).shape(); }, [](void const* p) noexcept { return as<F>(p).nnz(); },
      [](void const* p) noexcept { return as<F>(p).bytes(); }, [](void const* p) noexcept { return as<F>(p).name(); },
      [](void const* p, matrix_span<float const> x, matrix_span<float> y, layer_epilogue const& e, execution_ref exec) {
        matmul(as<F>(p), x, y, e, exec);
      }};

  std::shared_ptr<void const> self_;
  functions const* table_ = nullptr;
};

}  // namespace pare::inline PARE_ABI
