// SPDX-License-Identifier: Apache-2.0
// prepare: from a canonical format to the operand that multiplies fastest on this machine for this many columns.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include <pare/kernel/matmul.hpp>
#include <pare/kernel/registry.hpp>
#include <pare/kernel/tuning.hpp>

namespace pare::inline PARE_ABI {

/// What the operand will be used for, and how it is chosen.
struct prepare_options {
  index_t columns = 1;         // N that it is chosen for; any N works afterwards
  double zero_inputs = 0.0;    // the fraction of the activations that is expected to be zero, in [0, 1]
  bool may_be_dense = true;    // false: keep a sparse form even where dense is expected to be faster
  bool autotune = false;       // measure the candidates on this machine instead of asking the cost model
  std::string_view operand{};  // a name that prepared::name() gave: take this one, however fast
  tuning* choices = nullptr;   // take what was chosen before, where it can be taken here; autotune adds what is new
  execution_ref exec{};        // who will multiply, for autotune
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

/// Seconds of one multiplication of w (an operand, a format or a prepared operand) with `columns` columns on `exec`,
/// the calling thread by default: the least of some calls, for about 10 ms. What w takes from memory is in the caches
/// where it fits. `zero_inputs`: the fraction of x that is zero.
template <class W>
[[nodiscard]] double seconds_of_matmul(W const& w, index_t columns, double zero_inputs = 0.0, execution_ref exec = {}) {
  using clock = std::chrono::steady_clock;
  matrix<float> x(w.shape().cols, columns);
  for (index_t i = 0; i < x.size(); ++i)
    x.data()[i] = static_cast<double>(i * 619 % 1000) < 1000.0 * zero_inputs ? 0.0f : static_cast<float>(i % 17 + 1);
  matrix<float> y(w.shape().rows, columns);
  double least = 1e300;
  double total = 0.0;
  for (int call = 0; call < 3 || (total < 0.01 && call < 1000); ++call) {
    auto const start = clock::now();
    matmul(w, x, y, identity{}, exec);
    double const seconds = std::chrono::duration<double>(clock::now() - start).count();
    if (call > 0) least = std::min(least, seconds);  // the first one meets cold caches
    total += seconds;
  }
  return least;
}

namespace detail {

template <class O>
inline constexpr bool is_dense_operand =
    std::same_as<O, dense<typename O::value_type>> || std::same_as<O, dense_tiles<typename O::value_type>> ||
    std::same_as<O, column_major<typename O::value_type>>;
template <index_t G>
inline constexpr bool is_dense_operand<int8_dense<G>> = true;

/// The estimated cost of one operand for a format, or `never`.
template <operand O, sparse_format F>
[[nodiscard]] double estimated_cycles(F const& format, matmul_shape const& shape, prepare_options const& options) {
  if (!options.operand.empty() && options.operand != O::name()) return never;
  if (is_dense_operand<O> && !is_dense_operand<F> && !options.may_be_dense) return never;
  if constexpr (requires { O::suits(format); }) {
    if (!O::suits(format)) return never;
  }
  return kernels_of<O>::cycles(shape);
}

/// The shape with what the cost model wants to know of the machine that multiplies with O.
template <operand O>
[[nodiscard]] matmul_shape on_its_machine(matmul_shape shape) {
  shape.target = machine_for<O>();
  return shape;
}

/// Lays out the best of the operands: what the table of choices says, else by the cost model, or measured among those
/// within four times its best.
template <class... O, sparse_format F>
[[nodiscard]] prepared<F> best_of(operand_list<O...>, F format, prepare_options const& options) {
  PARE_EXPECTS(options.zero_inputs >= 0.0 && options.zero_inputs <= 1.0,
               "prepare: zero_inputs is a fraction and must lie in [0, 1]");
  matmul_shape const shape{.weights = format.shape(),
                           .nnz = format.nnz(),
                           .columns = std::clamp<index_t>(options.columns, 1, index_t{1} << 40),
                           .live = 1.0 - options.zero_inputs};
  auto const estimate = [&](prepare_options const& o) {
    return std::array{estimated_cycles<O>(format, on_its_machine<O>(shape), o)...};
  };
  auto const least_of = [](auto const& cycles) { return *std::min_element(cycles.begin(), cycles.end()); };
  auto cycles = estimate(options);
  bool measures = options.autotune;
  tuned_layer layer;
  if (options.choices != nullptr && options.operand.empty()) {
    layer = layer_of(format, shape.columns, options.zero_inputs, options.exec.concurrency());
    prepare_options known = options;
    known.operand = options.choices->find(layer);
    if (auto const chosen = estimate(known); !known.operand.empty() && least_of(chosen) < never) {
      cycles = chosen;
      measures = false;
    }
  }
  double const least = least_of(cycles);
  PARE_EXPECTS(least < never, "prepare: no operand of this name can hold the format here, or may_be_dense excludes it");
  double const limit = measures ? 4.0 * least : least;
  std::optional<prepared<F>> best;
  double best_seconds = never;
  bool as_it_is = false;  // moved in at the end, so that formats need not be copied
  std::size_t i = 0;
  auto const seconds_of = [&](auto const& operand) {
    return measures ? seconds_of_matmul(operand, shape.columns, options.zero_inputs, options.exec) : 0.0;
  };
  auto const consider = [&]<class Operand>(std::type_identity<Operand>) {
    if (cycles[i++] > limit || (!measures && (best || as_it_is))) return;
    if constexpr (std::same_as<Operand, F>) {
      double const seconds = seconds_of(format);
      if (seconds >= best_seconds) return;
      best_seconds = seconds;
      as_it_is = true;
    } else {
      Operand laid_out = lay_out<Operand>(format, machine_for<Operand>(), shape.columns);
      double const seconds = seconds_of(laid_out);
      if (seconds >= best_seconds) return;
      best_seconds = seconds;
      as_it_is = false;
      best.emplace(std::move(laid_out));
    }
  };
  (consider(std::type_identity<O>{}), ...);
  if (as_it_is) best.emplace(std::move(format));
  // The best one of some is not the best of all.
  if (measures && options.choices != nullptr && options.operand.empty() && options.may_be_dense &&
      is_operand_name(best->name()))
    options.choices->set(std::move(layer), best->name());
  return std::move(*best);
}

}  // namespace detail

/// Lays the elements of a format out for `options.columns` columns on this machine, as the operand that the cost model
/// (or, with `autotune`, a measurement of some 10 ms a candidate) expects to be fastest. O(M K).
///
/// With `options.choices` a layer that the table knows (see layer_of) gets the operand that it names, and nothing is
/// measured. An operand that cannot hold the format, or that is dense where that is forbidden, counts as not known.
/// What is measured is added, in place of such a one, but not where dense operands were left out.
/// Pre: `options.operand`, where it is given, names an operand that can hold the format.
template <sparse_format F>
[[nodiscard]] prepared<F> prepare(F format, prepare_options const& options = {}) {
  return detail::best_of(typename operands_of<F>::type{}, std::move(format), options);
}

/// The lowest sparsity, in steps of a hundredth, from which on the cost model expects a sparse operand of format F to
/// be faster than the dense ones for W (M, K) and N columns on this architecture; 1 where it never is. By dtype,
/// without a pattern: bitmap<float>, bitmap<bf16>, quantised<128>.
template <sparse_format F = bitmap<float>>
[[nodiscard]] inline sparsity break_even(extents weights, index_t columns) {
  columns = std::clamp<index_t>(columns, 1, index_t{1} << 40);
  auto const least = [&](index_t nnz, bool dense_ones) {
    double best = detail::never;
    operands_of<F>::type::for_each([&]<class O>() {
      if (detail::is_dense_operand<O> == dense_ones)
        best = std::min(best, kernels_of<O>::cycles(detail::on_its_machine<O>({weights, nnz, columns})));
    });
    return best;
  };
  int percent = 100;
  for (; percent > 0; --percent) {
    index_t const nnz = weights.size() - sparsity((percent - 1) / 100.0).removed_of(weights.size());
    if (least(nnz, false) >= least(nnz, true)) break;
  }
  return sparsity(percent / 100.0);
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
