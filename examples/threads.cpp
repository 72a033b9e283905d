// SPDX-License-Identifier: Apache-2.0
// The same result from any number of threads and either layout of the activations, bit for bit.
#include <cstdio>
#include <cstring>

#include <pare/pare.hpp>

int main() {
  pare::random_source random(1);
  pare::matrix<float> w(512, 384);
  pare::matrix<float> tokens(96, 384);  // (N, K), token-major: as a transformer has them
  for (pare::index_t i = 0; i < w.size(); ++i) w.data()[i] = random.normal();
  for (pare::index_t i = 0; i < tokens.size(); ++i) tokens.data()[i] = random.normal();
  auto const keep = pare::select(pare::score(w, pare::magnitude{}), pare::unstructured{}, pare::sparsity(0.8));
  auto const sparse = pare::compress<pare::csr<float>>(w, keep);

  pare::matrix<float> one(96, 512), two(96, 512), features(512, 96);
  pare::thread_pool pool(2);
  pare::matmul(sparse, tokens.span().transposed(), one.span().transposed());
  pare::matmul(sparse, tokens.span().transposed(), two.span().transposed(), pare::identity{}, pool);
  pare::matmul(sparse, tokens.span().transposed(), features);  // feature-major out
  bool same = std::memcmp(one.data(), two.data(), one.bytes()) == 0;
  for (pare::index_t n = 0; n < 96; ++n)
    for (pare::index_t m = 0; m < 512; ++m) same = same && one(n, m) == features(m, n);
  std::printf("one thread, two threads, other layout: %s\n", same ? "equal" : "different");
  return same ? 0 : 1;
}
