// SPDX-License-Identifier: Apache-2.0
// One program for every CPU: the kernels of several instruction sets in one file, chosen when it runs. All that it
// takes is in CMakeLists.txt: pare_add_dispatch(dispatch ARCHS avx2 ...). Try PARE_ARCH=avx2 ./dispatch.
#include <cstdio>

#include <pare/pare.hpp>

int main() {
  pare::random_source random(1);
  pare::matrix<float> w(768, 768);  // (M, K)
  pare::matrix<float> x(768, 64);   // (K, N)
  pare::matrix<float> y(768, 64);   // (M, N)
  for (pare::index_t i = 0; i < w.size(); ++i) w.data()[i] = random.normal();
  for (pare::index_t i = 0; i < x.size(); ++i) x.data()[i] = random.normal();
  auto const keep = pare::select(pare::score(w, pare::magnitude{}), pare::unstructured{}, pare::sparsity(0.8));
  auto const sparse = pare::compress<pare::bitmap<float>>(w, keep);

  auto const layer = pare::prepare(sparse, {.columns = 64});  // laid out for the kernels that were chosen
  pare::matmul(layer, x, y, pare::relu{});
  std::printf("%s kernels multiply, W runs as %s, in %.0f us\n", pare::active_arch(), layer.name(),
              1e6 * pare::seconds_of_matmul(layer, 64));

  float expected = 0.0f;
  sparse.for_each_in_row(0, [&](pare::index_t k, float v) { expected += v * x(k, 0); });
  float const difference = y(0, 0) - (expected > 0.0f ? expected : 0.0f);
  return difference * difference < 1e-6f ? 0 : 1;
}
