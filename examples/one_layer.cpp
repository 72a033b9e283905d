// SPDX-License-Identifier: Apache-2.0
// One layer from dense weights to a sparse multiplication, step by step.
#include <cstdio>
#include <vector>

#include <pare/pare.hpp>

int main() {
  pare::random_source random(1);
  pare::matrix<float> w(256, 512);  // (M, K): 256 outputs, 512 inputs
  pare::matrix<float> x(512, 64);   // (K, N): 64 samples
  pare::matrix<float> y(256, 64);   // (M, N)
  std::vector<float> b(256, 0.1f);
  for (pare::index_t i = 0; i < w.size(); ++i) w.data()[i] = random.normal();
  for (pare::index_t i = 0; i < x.size(); ++i) x.data()[i] = random.normal();

  pare::statistics<pare::input_norms> stats(512);  // what Wanda wants to know of the inputs
  stats.add(x.span());

  auto const scores = pare::score(w, pare::wanda{}, stats);               // (M, K), higher = keep
  auto const keep = pare::select(scores, pare::n_of_m<2, 4>{});           // mask: 2 of each 4 inputs stay
  auto const sparse = pare::compress<pare::bitmap<pare::bf16>>(w, keep);  // what is left, as bf16
  auto const layer = pare::prepare(sparse, {.columns = 64});              // laid out for this machine
  pare::matmul(layer, x, y, pare::bias{b} | pare::gelu{});                // y = gelu(W x + b)

  std::printf("kept %td of %td weights in %zu bytes instead of %zu, runs as %s; y(0, 0) = %f\n", sparse.nnz(), w.size(),
              sparse.bytes(), w.bytes(), layer.name(), static_cast<double>(y(0, 0)));
  return keep.sparsity() == 0.5 ? 0 : 1;
}
