// SPDX-License-Identifier: Apache-2.0
// One pruned linear layer as one type: criterion, pattern, format and epilogue fixed at compile time.
#pragma once

#include <type_traits>
#include <utility>

#include <pare/format/format.hpp>
#include <pare/kernel/prepare.hpp>
#include <pare/score/criterion.hpp>
#include <pare/select/select.hpp>

namespace pare::inline PARE_ABI {

/// `pipeline<wanda, n_of_m<2, 4>, n_of_m_packed<2, 4, bf16>, gelu>`: score, select, compress, prepare, multiply.
/// Combinations that make no sense do not compile.
template <criterion Criterion, sparsity_pattern Pattern, sparse_format Format, epilogue Epilogue = identity>
class pipeline {
  static_assert(
      Format::template stores<Pattern>,
      "pare::pipeline: this format cannot store every mask of this pattern: bsr<R, C> takes block patterns of whole "
      "R x C blocks, n_of_m_packed<N, M> takes n_of_m patterns at most as dense; bitmap and csr take all");
  static_assert(
      std::is_empty_v<Epilogue>,
      "pare::pipeline: an epilogue with data (a bias, a residual) is passed at the call: layer(bias{b}, x, y)");

 public:
  /// A layer of a fixed-ratio pattern. w (M, K), float or bf16; stats as the criterion needs. Pre: the pattern fits w.
  template <matrix_view W, class Stats = statistics<>>
    requires fixed_ratio_pattern<Pattern>
  [[nodiscard]] static pipeline from(W const& w, Stats const& stats = {}, Criterion const& by = {},
                                     prepare_options const& options = {}) {
    return pipeline(w, select(score(w, by, stats), Pattern{}), options);
  }
  /// A layer pruned to the sparsity s, in the criterion's pool.
  template <matrix_view W, class Stats = statistics<>>
    requires(!fixed_ratio_pattern<Pattern>)
  [[nodiscard]] static pipeline from(W const& w, sparsity s, Stats const& stats = {}, Criterion const& by = {},
                                     prepare_options const& options = {}) {
    return pipeline(w, select(score(w, by, stats), Pattern{}, s, default_scope<Criterion>()), options);
  }

  /// y = epilogue(W x): shapes as for matmul.
  template <matrix_view X, matrix_view Y, execution Exec = sequential>
  void operator()(X const& x, Y&& y, Exec&& exec = Exec{}) const {
    matmul(operand_, x, y, Epilogue{}, exec);
  }
  /// y = epilogue(before(W x)): `before` carries what is known at run time only, such as bias{b}.
  template <epilogue Before, matrix_view X, matrix_view Y, execution Exec = sequential>
  void operator()(Before const& before, X const& x, Y&& y, Exec&& exec = Exec{}) const {
    matmul(operand_, x, y, before | Epilogue{}, exec);
  }

  [[nodiscard]] mask const& keep() const noexcept { return keep_; }
  [[nodiscard]] prepared<Format> const& operand() const noexcept { return operand_; }

 private:
  template <matrix_view W>
  pipeline(W const& w, mask keep, prepare_options const& options)
      : keep_(std::move(keep)), operand_(prepare(compress<Format>(w, keep_), options)) {}

  mask keep_;
  prepared<Format> operand_;
};

}  // namespace pare::inline PARE_ABI
