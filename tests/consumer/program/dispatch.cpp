// SPDX-License-Identifier: Apache-2.0
// Kernels chosen at run time, built by a project that found pare installed.
#include <pare/pare.hpp>

int main() {
  pare::matrix<float> w(64, 64);
  pare::matrix<float> x(64, 16);
  pare::matrix<float> y(64, 16);
  for (pare::index_t i = 0; i < 64; ++i) w(i, 63 - i) = 2.0f;
  for (pare::index_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i);
  pare::mask const keep = pare::kept(pare::dense<float>(w));
  auto const layer = pare::prepare(pare::compress<pare::bitmap<float>>(w, keep), {.columns = 16});
  pare::matmul(layer, x, y);
  return y(3, 5) == 2.0f * x(60, 5) && pare::active_arch() != nullptr ? 0 : 1;
}
