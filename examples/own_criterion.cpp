// SPDX-License-Identifier: Apache-2.0
// A criterion of your own: about ten lines, and it works with every pattern, allocation, format and network.
#include <cstdio>

#include <pare/pare.hpp>

/// RIA without the activation's power (Zhang et al. 2024): |W_ij| relative to its row and to its column, times ||x_j||.
struct relative_importance {
  using needs = pare::statistics<pare::input_norms>;  // calibration collects exactly these

  template <pare::matrix_view W>
  void score(W const& weights, auto const& stats, pare::score_sink<float> out) const {
    auto const w = pare::as_span(weights);
    auto const& norms = stats.template get<pare::input_norms>();
    auto const size = [&](pare::index_t i, pare::index_t j) { return w(i, j) < 0.0f ? -w(i, j) : w(i, j); };
    for (pare::index_t i = 0; i < w.rows; ++i)
      for (pare::index_t j = 0; j < w.cols; ++j) {
        float row = 0.0f, column = 0.0f;
        for (pare::index_t c = 0; c < w.cols; ++c) row += size(i, c);
        for (pare::index_t r = 0; r < w.rows; ++r) column += size(r, j);
        out(i, j) = (size(i, j) / row + size(i, j) / column) * static_cast<float>(norms.norm(j));
      }
  }
};
static_assert(pare::criterion<relative_importance>);

int main() {
  pare::random_source random(1);
  pare::matrix<float> w(32, 64);
  pare::matrix<float> x(64, 16);
  for (pare::index_t i = 0; i < w.size(); ++i) w.data()[i] = random.normal();
  for (pare::index_t i = 0; i < x.size(); ++i) x.data()[i] = random.normal();
  pare::statistics<pare::input_norms> stats(64);
  stats.add(x.span());

  // Compared with others on the same layer: how much of the output is lost?
  auto const loss = [&](pare::mask const& keep) {
    pare::matrix<float> full(32, 16), left(32, 16);
    pare::matmul(pare::dense<float>(w), x, full);
    pare::matmul(pare::compress<pare::csr<float>>(w, keep), x, left);
    double lost = 0.0, all = 0.0;
    for (pare::index_t i = 0; i < full.size(); ++i) {
      double const d = static_cast<double>(full.data()[i] - left.data()[i]);
      lost += d * d;
      all += static_cast<double>(full.data()[i]) * static_cast<double>(full.data()[i]);
    }
    return lost / all;
  };
  auto const pattern = pare::unstructured{};
  auto const half = pare::sparsity(0.5);
  double const own = loss(pare::select(pare::score(w, relative_importance{}, stats), pattern, half, pare::scope::row));
  double const chance = loss(pare::select(pare::score(w, pare::random_score{}), pattern, half, pare::scope::row));
  std::printf("share of the output lost at 50 %%: own criterion %.3f, Wanda %.3f, random %.3f\n", own,
              loss(pare::select(pare::score(w, pare::wanda{}, stats), pattern, half, pare::scope::row)), chance);
  return own < chance ? 0 : 1;
}
