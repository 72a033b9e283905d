// SPDX-License-Identifier: Apache-2.0
// A row of the benchmarks of products: one kernel on one problem, beside the own dense kernel and the peers.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <pare/kernel/prepare.hpp>
#include <pare/kernel/reference.hpp>

#include "contest.hpp"
#include "peers.hpp"
#include "problem.hpp"

namespace pare::bench {

/// X and Y of either layout.
struct activations {
  matrix<float> storage;
  bool token_major;
  /// (features, columns), whatever the layout.
  [[nodiscard]] matrix_span<float> view() { return token_major ? storage.span().transposed() : storage.span(); }
};

inline activations make_activations(matrix<float> const& token_major_values, bool token_major) {
  return {token_major ? token_major_values : matrix<float>(token_major_values.span().transposed()), token_major};
}
inline activations empty_activations(index_t features, index_t columns, bool token_major) {
  return {token_major ? matrix<float>(columns, features) : matrix<float>(features, columns), token_major};
}

/// |y - expected| within the bound of two float sums of K products in any order, |x| <= 1.
inline bool agrees(matrix_span<float const> y, matrix_span<float const> expected, std::vector<float> const& row_sums,
                   index_t inputs) {
  float const unit = 2.0f * static_cast<float>(inputs + 1) * 0x1p-24f;
  for (index_t r = 0; r < y.rows; ++r)
    for (index_t n = 0; n < y.cols; ++n)
      if (!(std::abs(y(r, n) - expected(r, n)) <= unit * row_sums[static_cast<std::size_t>(r)])) return false;  // NaN
  return true;
}

template <class F, class Kernel>
void product_row(benchmark::State& state, extents shape, double s, index_t columns, bool token_major) {
  weights<F> const& w = weights_of<F>(shape, s);
  auto const operand = lay_out<typename Kernel::operand>(w.format, simd::machine_of<simd::default_arch>, columns);
  auto const dense_operand = prepare(w.as_dense, {.columns = columns});
  activations x = make_activations(random_matrix(columns, shape.cols, 3), token_major);
  activations y = empty_activations(shape.rows, columns, token_major);
  activations y_dense = y;
  activations y_peer = y;

  contender own("own", [&] { matmul_with<Kernel>(operand, x.view(), y.view()); });
  std::vector<contender> others;
  others.emplace_back("dense", [&] { matmul(dense_operand, x.view(), y_dense.view()); });
  for (contender& c : peers<float>({w.as_float.span(), x.storage.data(), y_peer.storage.data(), columns, token_major}))
    others.push_back(std::move(c));

  // What is right: the own dense kernel's result, and for dense kernels that of the reference.
  if constexpr (is_dense<F>) {
    reference::matmul(w.format, x.view(), y_dense.view());
  } else {
    others.front().call();
  }
  auto const right = [&](activations& result) { return agrees(result.view(), y_dense.view(), w.row_sums, shape.cols); };
  own.call();
  if (!right(y)) return state.SkipWithError("wrong result");
  for (std::size_t i = 1; i < others.size(); ++i) {
    std::fill_n(y_peer.storage.data(), y_peer.storage.size(), 0.0f);  // in place: peers hold its address
    others[i].call();
    if (!right(y_peer)) return state.SkipWithError(("wrong result of " + others[i].name).c_str());
  }

  hold_contest(state, own, others);
  auto const rate = [&](index_t multiplied) { return 2.0 * static_cast<double>(multiplied * columns) / own.median; };
  state.counters["flops"] = rate(w.format.nnz());
  state.counters["effective_flops"] = rate(shape.size());
  state.counters["bytes"] = static_cast<double>(operand.bytes() + x.storage.bytes() + y.storage.bytes());
}

/// Registers a row for each operand of F and each of its kernels, at each shape, sparsity, number of columns and
/// layout. `many`: the kernels for many columns, else those for one and for few.
template <class F>
void register_products(char const* op, bool many, std::vector<index_t> const& columns,
                       std::vector<bool> const& layouts) {
  auto const register_kernel = [&]<class Kernel>() {
    std::string const label = format_traits<F>::label() + "." + Kernel::operand::name() + "." + Kernel::name();
    for (extents const shape : shapes())
      for (double const s : sparsities<F>())
        for (index_t const n : columns)
          for (bool const token_major : layouts) {
            std::string const name =
                row_name(dtype_name<typename F::value_type>, op, label, shape, n, s) + (token_major ? "/tm" : "");
            auto const body = [=](benchmark::State& state) { product_row<F, Kernel>(state, shape, s, n, token_major); };
            benchmark::RegisterBenchmark(name.c_str(), body)->Unit(benchmark::kMicrosecond);
          }
  };
  operands_of<F>::type::for_each([&]<class Operand>() {
    // Layouts that every format shares are measured with the bitmap.
    if constexpr (std::is_same_v<Operand, F> || std::is_same_v<F, bitmap<typename F::value_type>> ||
                  !is_in<Operand, typename operands_of<bitmap<typename F::value_type>>::type>) {
      kernels_of<Operand>::list::for_each([&]<class Kernel>() {
        if (many == (spmm_kernel<Kernel> || int8_spmm_kernel<Kernel>)) register_kernel.template operator()<Kernel>();
      });
    }
  });
}

}  // namespace pare::bench
