// SPDX-License-Identifier: Apache-2.0
// Low-rank factors of a layer: truncated SVD by rank or by energy (TRP: Xu et al. 2020, arXiv 2004.14566), weighted by
// the Fisher information (FWSVD: Hsu et al. 2022, arXiv 2207.00112), and with a sparse part for what they leave (LOST:
// Li et al. 2025, arXiv 2508.02668).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <Eigen/QR>
#include <Eigen/SVD>

#include <pare/core/random.hpp>
#include <pare/prune/layer_pruner.hpp>

namespace pare::inline PARE_ABI {

/// W ~ u v. The singular values are shared out evenly: each factor holds their square roots.
struct low_rank {
  matrix<float> u;             // (M, r)
  matrix<float> v;             // (r, K)
  std::vector<double> values;  // the r singular values, descending; of the weighted matrix for fwsvd
  double error = 0.0;          // ||W - u v||_F
};

/// full: of the whole matrix, O(M K min(M, K)) with a large factor. randomised: only as much as the rank needs,
/// O(M K (rank + 10)), by random projection and two power iterations (Halko, Martinsson, Tropp 2011, arXiv 0909.4061);
/// the factors are nearly the best where the singular values fall, and the same on every run.
enum class svd_method { full, randomised };

/// The share of sum sigma^2 that truncation keeps at least, in (0, 1].
struct energy {
  double kept = 0.9;
};

namespace detail {

struct triplets {
  Eigen::MatrixXd u;  // (M, r)
  Eigen::VectorXd s;  // (r), descending
  Eigen::MatrixXd v;  // (K, r)
};

[[nodiscard]] inline Eigen::MatrixXd to_eigen(matrix_span<float const> w) {
  return Eigen::MatrixXd::NullaryExpr(w.rows, w.cols,
                                      [&](index_t i, index_t j) { return static_cast<double>(w(i, j)); });
}

[[nodiscard]] inline result<Eigen::MatrixXd> finite_matrix(matrix_span<float const> w) {
  Eigen::MatrixXd a = to_eigen(w);
  if (!a.allFinite()) return error{errc::not_finite, "weights", "a matrix that holds NaN or Inf has no factors"};
  return a;
}

/// A random projection that finds the largest triplets (Halko, Martinsson, Tropp 2011, arXiv 0909.4061).
struct projection {
  index_t width;  // directions; as many as the matrix has: none is needed
  int iterations = 2;
  std::uint64_t seed = 0;
};

/// Orthonormal columns that span nearly what the largest left singular vectors of a span.
[[nodiscard]] inline Eigen::MatrixXd range_of(Eigen::MatrixXd const& a, projection const& by) {
  random_source random(by.seed);
  Eigen::MatrixXd const probe = Eigen::MatrixXd::NullaryExpr(
      a.cols(), by.width, [&](index_t, index_t) { return static_cast<double>(random.normal()); });
  auto const orthogonal = [&](Eigen::MatrixXd const& m) -> Eigen::MatrixXd {
    return Eigen::HouseholderQR<Eigen::MatrixXd>(m).householderQ() * Eigen::MatrixXd::Identity(m.rows(), by.width);
  };
  Eigen::MatrixXd basis = orthogonal(a * probe);
  for (int i = 0; i < by.iterations; ++i) basis = orthogonal(a * orthogonal(a.transpose() * basis));
  return basis;
}

/// The `rank` largest singular triplets of a, or all that there are.
[[nodiscard]] inline triplets svd(Eigen::MatrixXd const& a, index_t rank, projection const& by) {
  index_t const most = std::min(a.rows(), a.cols());
  rank = std::min(rank, most);
  if (rank == 0) return {Eigen::MatrixXd(a.rows(), 0), Eigen::VectorXd(0), Eigen::MatrixXd(a.cols(), 0)};
  bool const whole = by.width >= most;
  Eigen::MatrixXd const basis = whole ? Eigen::MatrixXd() : range_of(a, by);
  Eigen::BDCSVD<Eigen::MatrixXd> const part(whole ? a : basis.transpose() * a,
                                            Eigen::ComputeThinU | Eigen::ComputeThinV);
  Eigen::MatrixXd u = part.matrixU().leftCols(rank);
  if (!whole) u = (basis * u).eval();
  return {std::move(u), part.singularValues().head(rank), part.matrixV().leftCols(rank)};
}
[[nodiscard]] inline triplets svd(Eigen::MatrixXd const& a, index_t rank, svd_method method) {
  return svd(a, rank, projection{method == svd_method::full ? std::min(a.rows(), a.cols()) : rank + 10});
}

/// ||w - u v||_F with the factors as they are stored.
inline double residual_norm(Eigen::MatrixXd const& w, low_rank const& f) {
  return (w - to_eigen(f.u.span()) * to_eigen(f.v.span())).norm();
}

/// u = diag(row) U sqrt(S), v = sqrt(S) V^T diag(col); empty vectors count as ones.
[[nodiscard]] inline low_rank factors_of(triplets const& t, Eigen::VectorXd const& row, Eigen::VectorXd const& col) {
  index_t const rank = t.s.size();
  low_rank out{matrix<float>(t.u.rows(), rank), matrix<float>(rank, t.v.rows()), {}};
  for (index_t r = 0; r < rank; ++r) {
    double const root = std::sqrt(std::max(t.s(r), 0.0));
    out.values.push_back(t.s(r));
    for (index_t i = 0; i < t.u.rows(); ++i)
      out.u(i, r) = static_cast<float>((row.size() > 0 ? row(i) : 1.0) * t.u(i, r) * root);
    for (index_t j = 0; j < t.v.rows(); ++j)
      out.v(r, j) = static_cast<float>((col.size() > 0 ? col(j) : 1.0) * t.v(j, r) * root);
  }
  return out;
}

}  // namespace detail

/// The smallest r whose largest singular values hold the share of the sum of squares; 0 where all are 0.
/// values: all singular values, descending. O(n).
[[nodiscard]] inline index_t rank_of(std::span<double const> values, energy share) {
  PARE_EXPECTS(share.kept > 0.0 && share.kept <= 1.0, "rank_of: the share of energy must lie in (0, 1]");
  double total = 0.0;
  for (double const s : values) total += s * s;
  double sum = 0.0;
  index_t rank = 0;
  for (; rank < std::ssize(values) && sum < share.kept * total; ++rank) {
    double const s = values[static_cast<std::size_t>(rank)];
    sum += s * s;
  }
  return rank;
}

/// The best approximation of w (M, K) of a rank: at most `rank`, and at most min(M, K). Error: NaN or Inf in w.
[[nodiscard]] inline result<low_rank> truncated_svd(matrix_span<float const> w, index_t rank,
                                                    svd_method method = svd_method::full) {
  PARE_EXPECTS(rank >= 0, "truncated_svd: the rank must not be negative");
  PARE_TRY(Eigen::MatrixXd const a, detail::finite_matrix(w));
  low_rank out = detail::factors_of(detail::svd(a, rank, method), {}, {});
  out.error = detail::residual_norm(a, out);
  return out;
}

/// The same with the smallest rank that keeps a share of the energy (TRP, 0.9): by the full SVD.
[[nodiscard]] inline result<low_rank> truncated_svd(matrix_span<float const> w, energy share) {
  PARE_TRY(Eigen::MatrixXd const a, detail::finite_matrix(w));
  detail::triplets t = detail::svd(a, std::min(w.rows, w.cols), svd_method::full);
  index_t const rank = rank_of(std::span(t.s.data(), static_cast<std::size_t>(t.s.size())), share);
  low_rank out = detail::factors_of({t.u.leftCols(rank), t.s.head(rank), t.v.leftCols(rank)}, {}, {});
  out.error = detail::residual_norm(a, out);
  return out;
}

/// What FWSVD weighs: the inputs (as published, where a weight matrix is stored with inputs as rows), or inputs and
/// outputs.
enum class fwsvd_sides { inputs, both };

/// Minimises ||R (W - u v) C||_F with C_jj = sqrt(sum_o F_oj) and R = I, or R_ii = sqrt(sum_k F_ik): the SVD of R W C
/// with the weights divided out of its factors. fisher (M, K): mean or sum of squared gradients. What has no Fisher
/// information at all, an input or output, costs nothing and becomes 0.
/// Errors: NaN or Inf in w; a Fisher information that is negative, NaN or infinite.
[[nodiscard]] inline result<low_rank> fwsvd(matrix_span<float const> w, matrix_span<float const> fisher, index_t rank,
                                            fwsvd_sides sides = fwsvd_sides::inputs,
                                            svd_method method = svd_method::full) {
  PARE_EXPECTS(rank >= 0, "fwsvd: the rank must not be negative");
  PARE_EXPECTS(fisher.shape() == w.shape(), "fwsvd: the Fisher information must have the weights' shape");
  PARE_TRY(Eigen::MatrixXd const a, detail::finite_matrix(w));
  Eigen::MatrixXd const f = detail::to_eigen(fisher);
  if (!f.allFinite() || (f.array() < 0.0).any())
    return error{errc::out_of_range, "Fisher information", "an entry is negative, NaN or infinite"};
  Eigen::VectorXd const col = f.colwise().sum().transpose().cwiseSqrt();
  Eigen::VectorXd row = Eigen::VectorXd::Ones(w.rows);
  if (sides == fwsvd_sides::both) row = f.rowwise().sum().cwiseSqrt();
  auto const inverse = [](Eigen::VectorXd const& x) -> Eigen::VectorXd {
    return x.unaryExpr([](double v) { return v > 0.0 ? 1.0 / v : 0.0; });
  };
  Eigen::MatrixXd const weighted = row.asDiagonal() * a * col.asDiagonal();
  low_rank out = detail::factors_of(detail::svd(weighted, rank, method), inverse(row), inverse(col));
  out.error = detail::residual_norm(a, out);
  return out;
}

/// W ~ u v + S.
struct low_rank_sparse {
  low_rank low;          // its error: without S
  matrix<float> sparse;  // (M, K), +0 where `keep` is not set
  mask keep;
  double error = 0.0;  // ||W - u v - S||_F
};

/// Splits w (M, K) into factors of `rank` and a sparse rest: the largest triplets of W, then of what they leave the
/// weights with the largest squares, in any pattern: unstructured; any_pattern({M, 1}, 0, 0) for whole columns (as in
/// LOST); N:M, where `target` is ignored. With more than one round the factors are found again for W - S, then S for
/// what these leave, and so on: by the full SVD the error never grows.
/// Error: NaN or Inf in w. O(rounds) of one SVD and of M K rank.
[[nodiscard]] inline result<low_rank_sparse> split_low_rank_sparse(matrix_span<float const> w, index_t rank,
                                                                   any_pattern const& pattern, sparsity target,
                                                                   int rounds = 1,
                                                                   svd_method method = svd_method::full) {
  PARE_EXPECTS(rank >= 0, "split_low_rank_sparse: the rank must not be negative");
  PARE_EXPECTS(rounds > 0, "split_low_rank_sparse: there must be at least one round");
  PARE_EXPECTS(fits(pattern, w.shape()), "split_low_rank_sparse: the pattern does not tile the weights");
  PARE_TRY(Eigen::MatrixXd const a, detail::finite_matrix(w));
  low_rank_sparse out{{}, matrix<float>(w.shape()), mask(w.shape())};
  for (int round = 0; round < rounds; ++round) {
    out.low = detail::factors_of(detail::svd(a - detail::to_eigen(out.sparse.span()), rank, method), {}, {});
    Eigen::MatrixXd const rest = a - detail::to_eigen(out.low.u.span()) * detail::to_eigen(out.low.v.span());
    matrix<float> squares(w.shape());
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) {
        out.sparse(i, j) = static_cast<float>(rest(i, j));
        squares(i, j) = static_cast<float>(rest(i, j) * rest(i, j));
      }
    out.keep = pattern.of() > 0 ? select(squares, pattern) : select(squares, pattern, target, scope::matrix);
    apply(out.keep, out.sparse);
    out.low.error = rest.norm();
    out.error = (rest - detail::to_eigen(out.sparse.span())).norm();
  }
  return out;
}

}  // namespace pare::inline PARE_ABI
