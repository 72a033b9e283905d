// SPDX-License-Identifier: Apache-2.0
// What is paid once a layer, and what is paid on every call besides the product:
//   select     scores -> mask of the format's pattern
//   compress   weights and mask -> format
//   prepare    format -> operand for n columns (n1 and n128), with a copy of the format, which prepare takes over; the
//              label is the operand that it chose
//   pack       X -> panels of two registers, feature-major and token-major (/tm)
// `elements` is weights (for pack: activations) a second; `vs_product` the time of one own dense product of n columns
// over this time: 0.1 means that the work costs as much as ten dense products.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pare/kernel/prepare.hpp>

#include "support/contest.hpp"
#include "support/problem.hpp"
#include "support/program.hpp"

namespace {

using namespace pare;
using namespace pare::bench;

/// The own dense kernel on the row's weights, as the yardstick.
template <class T>
contender dense_product(dense<T> const& w, index_t columns) {
  auto x = std::make_shared<matrix<float>>(random_matrix(w.shape().cols, columns, 3));
  auto y = std::make_shared<matrix<float>>(w.shape().rows, columns);
  return {"product", [&w, x, y] { matmul(w, *x, *y); }};
}

template <class F, class Make>
void run_row(benchmark::State& state, extents shape, double s, index_t columns, Make make) {
  weights<F> const& w = weights_of<F>(shape, s);
  contender own("own", make(state, w));
  std::vector<contender> others{dense_product(w.as_dense, columns)};
  hold_contest(state, own, others);
  state.counters["elements"] = static_cast<double>(shape.size()) / own.median;
  state.counters["bytes"] = static_cast<double>(w.format.bytes());
}

template <class F, class Make>
void register_row(char const* op, extents shape, double s, index_t columns, Make make) {
  std::string const name =
      row_name(dtype_name<typename F::value_type>, op, format_traits<F>::label(), shape, columns, s);
  auto const body = [=](benchmark::State& state) { run_row<F>(state, shape, s, columns, make); };
  benchmark::RegisterBenchmark(name.c_str(), body)->Unit(benchmark::kMicrosecond);
}

template <class F>
void register_format(extents shape, double s) {
  using pattern = typename format_traits<F>::pattern;
  if constexpr (std::is_same_v<typename F::value_type, float> && !is_dense<F>)
    register_row<F>("select", shape, s, 128, [s](benchmark::State&, weights<F> const& w) {
      return [&w, s] { benchmark::DoNotOptimize(random_mask<pattern>(w.as_float, s)); };
    });
  register_row<F>("compress", shape, s, 128, [](benchmark::State&, weights<F> const& w) {
    return [&w, keep = kept(w.format)] { benchmark::DoNotOptimize(compress<F>(w.as_float, keep).nnz()); };
  });
  for (index_t const columns : {1, 128})
    register_row<F>("prepare", shape, s, columns, [columns](benchmark::State& state, weights<F> const& w) {
      state.SetLabel(prepare(w.format, {.columns = columns}).name());
      return [&w, columns] { benchmark::DoNotOptimize(prepare(w.format, {.columns = columns}).nnz()); };
    });
}

void pack_row(benchmark::State& state, extents shape, index_t columns, bool token_major) {
  weights<dense<float>> const& w = weights_of<dense<float>>(shape, 0.0);
  index_t const width = 2 * simd::lanes<simd::default_arch>;
  matrix<float> const x = token_major ? random_matrix(columns, shape.cols, 3) : random_matrix(shape.cols, columns, 3);
  matrix_span<float const> const view = token_major ? x.span().transposed() : x.span();
  matrix<float> panels(shape.cols, columns);
  contender own("own", [&] {
    for (index_t n = 0; n < columns; n += width)
      detail::pack_panel<simd::default_arch>(view, 0, shape.cols, n, width, width, 0, panels.data() + n * shape.cols);
    benchmark::DoNotOptimize(panels.data());
  });
  std::vector<contender> others{dense_product(w.as_dense, columns)};
  hold_contest(state, own, others);
  state.counters["elements"] = static_cast<double>(x.size()) / own.median;
  state.counters["bytes"] = static_cast<double>(x.bytes() + panels.bytes());
}

template <class T>
void register_formats() {
  format_list<T>::for_each([]<class F>() {
    for (extents const shape : shapes())
      for (double const s : sparsities<F>()) register_format<F>(shape, s);
  });
}

void register_packing() {
  for (extents const shape : shapes())
    for (bool const token_major : {false, true}) {
      std::string const name = row_name("f32", "pack", "panel", shape, 128, 0.0) + (token_major ? "/tm" : "");
      auto const body = [=](benchmark::State& state) { pack_row(state, shape, 128, token_major); };
      benchmark::RegisterBenchmark(name.c_str(), body)->Unit(benchmark::kMicrosecond);
    }
}

}  // namespace

int main(int argc, char** argv) {
  settle_environment(argv);
  register_packing();
  register_formats<float>();
  register_formats<bf16>();
  return run(argc, argv);
}
