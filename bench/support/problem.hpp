// SPDX-License-Identifier: Apache-2.0
// What is multiplied: shapes, sparsities, and random matrices of each format's own pattern with a fixed seed.
#pragma once

#include <any>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pare/core/cast.hpp>
#include <pare/core/random.hpp>
#include <pare/format/bitmap.hpp>
#include <pare/format/bsr.hpp>
#include <pare/format/csr.hpp>
#include <pare/format/dense.hpp>
#include <pare/format/n_of_m_packed.hpp>
#include <pare/kernel/simd.hpp>
#include <pare/select/select.hpp>

namespace pare::bench {

/// Attention and feed-forward layers of a small transformer; with PARE_BENCH_LARGE set one of a large one too.
inline std::vector<extents> shapes() {
  std::vector<extents> s{{768, 768}, {3072, 768}};
  if (std::getenv("PARE_BENCH_LARGE") != nullptr) s.push_back({4096, 4096});
  return s;
}

/// The pattern that a format is made for, and how rows call the format. Specialise it for structured formats.
template <class F>
struct format_traits {
  using pattern = unstructured;
  static std::string label() { return F::name(); }
};
template <index_t R, index_t C, class T>
struct format_traits<bsr<R, C, T>> {
  using pattern = block<R, C>;
  static std::string label() { return "bsr" + std::to_string(R) + "x" + std::to_string(C); }
};
template <index_t N, index_t M, class T>
struct format_traits<n_of_m_packed<N, M, T>> {
  using pattern = n_of_m<N, M>;
  static std::string label() { return std::to_string(N) + ":" + std::to_string(M); }
};

template <class F>
inline constexpr bool is_dense = std::is_same_v<F, dense<typename F::value_type>>;

/// The sparsities at which a format is measured.
template <class F>
std::vector<double> sparsities() {
  using pattern = typename format_traits<F>::pattern;
  if constexpr (is_dense<F>) {
    return {0.0};
  } else if constexpr (fixed_ratio_pattern<pattern>) {
    return {1.0 - static_cast<double>(pattern::keep()) / static_cast<double>(pattern::of())};
  } else {
    return {0.5, 0.7, 0.9, 0.95};
  }
}

/// Uniform in [-1, 1).
inline matrix<float> random_matrix(index_t rows, index_t cols, std::uint64_t seed) {
  random_source random(seed);
  matrix<float> m(rows, cols);
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = random.uniform(-1.0f, 1.0f);
  return m;
}

/// A random mask of pattern P; `s` counts only where P leaves the number free.
template <class P>
mask random_mask(matrix<float> const& scores, double s) {
  if constexpr (fixed_ratio_pattern<P>) {
    return select(scores, P{});
  } else {
    return select(scores, P{}, sparsity(s));
  }
}

/// One weight matrix in the forms that are compared.
template <class F>
struct weights {
  using value_type = typename F::value_type;

  weights(extents shape, double s) {
    mask const keep = random_mask<typename format_traits<F>::pattern>(random_matrix(shape.rows, shape.cols, 1), s);
    matrix<float> const values = random_matrix(shape.rows, shape.cols, 2);
    format = compress<F>(values, keep);
    as_dense = compress<dense<value_type>>(values, keep);
    as_float = cast<float>(as_dense.values());
    row_sums.resize(static_cast<std::size_t>(shape.rows));
    for (index_t r = 0; r < shape.rows; ++r)
      for (index_t c = 0; c < shape.cols; ++c) row_sums[static_cast<std::size_t>(r)] += std::abs(as_float(r, c));
  }

  F format;
  dense<value_type> as_dense;
  matrix<float> as_float;       // what peers multiply; for bf16 the rounded values
  std::vector<float> row_sums;  // of |w|
};

/// The last weights made, of whatever format: rows that follow each other share them, and one matrix lives at a time.
struct last_weights {
  extents shape;
  double s = 0.0;
  std::any held;  // std::shared_ptr<weights<F>>
};
inline last_weights last;

/// The weights of a row. Valid until those of another are asked for.
template <class F>
weights<F> const& weights_of(extents shape, double s) {
  using pointer = std::shared_ptr<weights<F>>;
  pointer* found = std::any_cast<pointer>(&last.held);
  if (found == nullptr || last.shape != shape || last.s != s) {
    last.held.reset();
    last.shape = shape;
    last.s = s;
    found = &last.held.emplace<pointer>(std::make_shared<weights<F>>(shape, s));
  }
  return **found;
}

/// op/format/dtype/MxK/nN/sSPARSITY/arch
inline std::string row_name(std::string_view dtype, std::string const& op, std::string const& format, extents shape,
                            index_t columns, double s) {
  char rounded[16];
  std::snprintf(rounded, sizeof rounded, "%.2f", s);
  std::string const size = std::to_string(shape.rows) + "x" + std::to_string(shape.cols);
  return op + "/" + format + "/" + std::string(dtype) + "/" + size + "/n" + std::to_string(columns) + "/s" + rounded +
         "/" + simd::default_arch::name();
}

}  // namespace pare::bench
