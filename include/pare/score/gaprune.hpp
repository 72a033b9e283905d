// SPDX-License-Identifier: Apache-2.0
// GAPrune: domain alignment importance (DAI), for networks that are pruned for a domain and must keep what is general
// (Tang & Yang 2025, arXiv 2509.10844).
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include <pare/calibrate/fisher.hpp>
#include <pare/calibrate/gradient_mean.hpp>
#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

namespace detail {
/// x rounded as if it had been stored in float16: what is below 2.98e-8 becomes 0.
inline double through_half(double x) noexcept {
  if (x == 0.0 || !std::isfinite(x)) return x;
  int const exponent = std::max(std::ilogb(x), -14) - 10;  // of the last bit
  double const rounded = std::ldexp(std::nearbyint(std::ldexp(x, -exponent)), exponent);
  return std::abs(rounded) > 65504.0 ? std::copysign(HUGE_VAL, rounded) : rounded;
}
}  // namespace detail

/// DAI as the published code computes it:
///
///     I = (F_dom m - beta F_gen m) clip(1 + gain a, 0.8, 1.2) + c sqrt(m + 1e-8),   S = softplus(I),   m = |W|
///
/// F: the diagonal Fisher information of each corpus, + 1e-8. a: the alignment of the corpora's mean gradients,
/// u_gen u_dom element by element with u = G / (||G|| + 1e-8) over the matrix, averaged over 3 x 3 neighbours (zeros
/// outside). Where all S of a matrix are equal (standard deviation below 1e-6), S is multiplied by
/// 0.5 + 0.5 m / mean(m). Scores of all matrices compete in one pool: allocate with `global`.
///
/// With Fisher values of trained networks (below 1e-4) the last term decides, and a, a product of entries of two unit
/// vectors, is about 1e-8: the result is magnitude pruning to four digits. `gaprune_scaled` is what acts.
struct gaprune {
  static constexpr scope compares = scope::network;
  using general_fisher = of<general_corpus, fisher>;
  using domain_fisher = of<domain_corpus, fisher>;
  using general_gradient = of<general_corpus, gradient_mean>;
  using domain_gradient = of<domain_corpus, gradient_mean>;
  using needs = statistics<general_fisher, domain_fisher, general_gradient, domain_gradient>;
  static constexpr char const* name() noexcept { return "gaprune"; }

  /// What is done to the scores of a matrix at the end. The code's class says zscore_sigmoid, its command line none.
  enum class finish { none, zscore_sigmoid, min_max, rank };

  double beta = 1.0;
  double c = 0.5;  // of class and command line; the code's own function says 0.3
  double gain = 0.2;
  finish finished = finish::none;
  double temperature = 1.0;     // of zscore_sigmoid
  bool stored_as_half = false;  // Fisher and alignment pass through float16, as between the code's stages
  double micro_batch = 1.0;     // samples whose mean gradient the code squares: F is divided by it

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    auto const w = as_span(weights);
    fisher const& f_gen = stats.template get<general_fisher>();
    fisher const& f_dom = stats.template get<domain_fisher>();
    PARE_EXPECTS(f_gen.shape() == w.shape() && f_dom.shape() == w.shape(),
                 "gaprune: the statistics are of a layer of another shape");
    matrix<double> const aligned =
        alignment(stats.template get<general_gradient>(), stats.template get<domain_gradient>());
    auto const stored = [&](double x) { return stored_as_half ? detail::through_half(x) : x; };
    auto const magnitude = [&](index_t i, index_t j) { return std::abs(static_cast<double>(w(i, j))); };
    matrix<double> s(w.shape());
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) {
        double const m = magnitude(i, j);
        double const dom = stored(f_dom(i, j) / micro_batch + 1e-8);
        double const gen = stored(f_gen(i, j) / micro_batch + 1e-8);
        double const factor = std::min(std::max(1.0 + gain * stored(aligned(i, j)), 0.8), 1.2);
        double const importance = (dom * m - beta * gen * m) * factor + c * std::sqrt(m + 1e-8);
        s(i, j) = std::max(importance, 0.0) + std::log1p(std::exp(-std::abs(importance)));  // softplus
      }
    double mean = 0.0;
    double deviation = moments(s, mean);
    if (deviation < 1e-6) {
      double mean_magnitude = 0.0;
      for (index_t i = 0; i < w.rows; ++i)
        for (index_t j = 0; j < w.cols; ++j) mean_magnitude += magnitude(i, j) / static_cast<double>(s.size());
      for (index_t i = 0; i < w.rows; ++i)
        for (index_t j = 0; j < w.cols; ++j) s(i, j) *= 0.5 + 0.5 * magnitude(i, j) / (mean_magnitude + 1e-8);
      deviation = moments(s, mean);
    }
    apply_finish(s, mean, deviation);
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) out(i, j) = static_cast<float>(s(i, j));
  }

  /// a: (M, K), see above; 0 where a gradient's norm is at most 1e-8.
  [[nodiscard]] static matrix<double> alignment(gradient_mean const& general, gradient_mean const& domain) {
    PARE_EXPECTS(general.shape() == domain.shape(), "gaprune: the gradients are of layers of different shapes");
    extents const shape = general.shape();
    double general_square = 0.0;
    double domain_square = 0.0;
    for (index_t i = 0; i < shape.rows; ++i)
      for (index_t j = 0; j < shape.cols; ++j) {
        general_square += general(i, j) * general(i, j);
        domain_square += domain(i, j) * domain(i, j);
      }
    double const general_norm = std::sqrt(general_square);
    double const domain_norm = std::sqrt(domain_square);
    matrix<double> out(shape);
    if (general_norm <= 1e-8 || domain_norm <= 1e-8) return out;
    double const divisor = 9.0 * (general_norm + 1e-8) * (domain_norm + 1e-8);
    for (index_t i = 0; i < shape.rows; ++i)
      for (index_t j = 0; j < shape.cols; ++j) {
        double sum = 0.0;
        for (index_t r = std::max<index_t>(i - 1, 0); r < std::min(i + 2, shape.rows); ++r)
          for (index_t k = std::max<index_t>(j - 1, 0); k < std::min(j + 2, shape.cols); ++k)
            sum += general(r, k) * domain(r, k);
        out(i, j) = sum / divisor;
      }
    return out;
  }

 private:
  static double moments(matrix<double> const& s, double& mean) noexcept {
    mean = 0.0;
    double square = 0.0;
    auto const n = static_cast<double>(s.size());
    for (index_t i = 0; i < s.size(); ++i) mean += s.data()[i] / n;
    for (index_t i = 0; i < s.size(); ++i) square += (s.data()[i] - mean) * (s.data()[i] - mean);
    return n > 1.0 ? std::sqrt(square / (n - 1.0)) : 0.0;
  }
  void apply_finish(matrix<double>& s, double mean, double deviation) const {
    if (finished == finish::none || s.size() == 0) return;
    double* const v = s.data();
    double* const end = v + s.size();
    if (finished == finish::zscore_sigmoid) {
      for (double* x = v; x < end; ++x) *x = 1.0 / (1.0 + std::exp(-(*x - mean) / (deviation + 1e-8) / temperature));
    } else if (finished == finish::min_max) {
      double const low = *std::min_element(v, end);
      double const high = *std::max_element(v, end);
      for (double* x = v; x < end; ++x) *x = (*x - low) / (high - low + 1e-8);
    } else {
      std::vector<index_t> order(static_cast<std::size_t>(s.size()));
      for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<index_t>(i);
      std::stable_sort(order.begin(), order.end(), [v](index_t a, index_t b) { return v[a] < v[b]; });
      for (std::size_t i = 0; i < order.size(); ++i)
        v[order[i]] = static_cast<double>(i) / static_cast<double>(order.size());
    }
  }
};

/// DAI with every part brought to the same size, so that each acts:
///
///     S = (f_dom - beta f_gen) a m + c sqrt(m),   m = |W| / mean|W|,   f = sqrt(P) / mean sqrt(P)
///
/// P: the Fisher information by positions, of each corpus. The means are over all layers that are scored
/// (`look` sees each of them first, as pare::prune does; without it, over the layer). beta = 0.25: at 1, as published,
/// weights that both corpora need are removed. a: 1, or 1 + gain cos(g_gen, g_dom) over the row. The scores can be
/// compared within a matrix and over the network (allocate with `global`).
template <bool RowAligned>
struct basic_gaprune_scaled {
  static constexpr scope compares = scope::matrix;
  using general_fisher = of<general_corpus, position_fisher>;
  using domain_fisher = of<domain_corpus, position_fisher>;
  using general_gradient = of<general_corpus, gradient_mean>;
  using domain_gradient = of<domain_corpus, gradient_mean>;
  using needs =
      std::conditional_t<RowAligned, statistics<general_fisher, domain_fisher, general_gradient, domain_gradient>,
                         statistics<general_fisher, domain_fisher>>;
  static constexpr char const* name() noexcept { return RowAligned ? "gaprune-row" : "gaprune-scaled"; }

  double beta = 0.25;
  double c = 0.5;
  double gain = 0.2;  // of the row's alignment

  /// Sums over the layers that were shown: of |W|, of sqrt(P) of each corpus, and how many weights there are.
  struct sums {
    double magnitude = 0.0, general = 0.0, domain = 0.0, count = 0.0;
    void add(matrix_span<float const> w, position_fisher const& gen, position_fisher const& dom) {
      PARE_EXPECTS(gen.shape() == w.shape() && dom.shape() == w.shape(),
                   "gaprune_scaled: the statistics are of a layer of another shape");
      for (index_t i = 0; i < w.rows; ++i)
        for (index_t j = 0; j < w.cols; ++j) {
          magnitude += std::abs(static_cast<double>(w(i, j)));
          general += std::sqrt(gen(i, j));
          domain += std::sqrt(dom(i, j));
        }
      count += static_cast<double>(w.rows * w.cols);
    }
  };
  sums seen{};

  /// Adds a layer to the means.
  template <matrix_view W>
  void look(W const& weights, needs const& stats) {
    seen.add(as_span(weights), stats.template get<general_fisher>(), stats.template get<domain_fisher>());
  }

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    auto const w = as_span(weights);
    position_fisher const& gen = stats.template get<general_fisher>();
    position_fisher const& dom = stats.template get<domain_fisher>();
    PARE_EXPECTS(gen.shape() == w.shape() && dom.shape() == w.shape(),
                 "gaprune_scaled: the statistics are of a layer of another shape");
    auto all = seen;
    if (all.count == 0.0) all.add(w, gen, dom);
    auto const over = [&](double sum) { return sum > 0.0 ? all.count / sum : 0.0; };  // 1 / mean
    double const by_magnitude = over(all.magnitude);
    double const by_general = over(all.general);
    double const by_domain = over(all.domain);
    for (index_t i = 0; i < w.rows; ++i) {
      double factor = 1.0;
      if constexpr (RowAligned)
        factor += gain * row_cosine(stats.template get<general_gradient>(), stats.template get<domain_gradient>(), i);
      for (index_t j = 0; j < w.cols; ++j) {
        double const m = std::abs(static_cast<double>(w(i, j))) * by_magnitude;
        double const f = std::sqrt(dom(i, j)) * by_domain - beta * std::sqrt(gen(i, j)) * by_general;
        out(i, j) = static_cast<float>(f * factor * m + c * std::sqrt(m));
      }
    }
  }

 private:
  static double row_cosine(gradient_mean const& a, gradient_mean const& b, index_t row) {
    PARE_EXPECTS(a.shape() == b.shape(), "gaprune_scaled: the gradients are of layers of different shapes");
    double along = 0.0;
    double aa = 0.0;
    double bb = 0.0;
    for (index_t j = 0; j < a.shape().cols; ++j) {
      along += a(row, j) * b(row, j);
      aa += a(row, j) * a(row, j);
      bb += b(row, j) * b(row, j);
    }
    return aa > 0.0 && bb > 0.0 ? along / std::sqrt(aa * bb) : 0.0;
  }
};

/// Without gradient alignment.
using gaprune_scaled = basic_gaprune_scaled<false>;
/// With the cosine of the corpora's gradients over each row (an output's weights).
using gaprune_row_aligned = basic_gaprune_scaled<true>;

}  // namespace pare::inline PARE_ABI
