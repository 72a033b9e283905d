// SPDX-License-Identifier: Apache-2.0
// The same as one type: criterion, pattern, format and epilogue fixed at compile time, on weights that Eigen owns.
#include <cstdio>

#include <Eigen/Core>

#include <pare/interop/eigen.hpp>
#include <pare/pare.hpp>

using pruned_linear = pare::pipeline<pare::magnitude, pare::block<4, 1>, pare::bsr<4, 1, float>, pare::relu>;
// pare::pipeline<pare::magnitude, pare::unstructured, pare::bsr<4, 1, float>> would not compile: BSR stores whole
// blocks.

int main() {
  Eigen::MatrixXf const w = Eigen::MatrixXf::Random(64, 128);  // column-major; read in place, not copied
  Eigen::MatrixXf const x = Eigen::MatrixXf::Random(128, 10);
  Eigen::MatrixXf y(64, 10);

  auto const layer = pruned_linear::from(w, pare::sparsity(0.75));
  layer(x, y);  // y = relu(W x)

  std::printf("%.0f %% pruned, runs as %s, smallest output %f\n", 100.0 * layer.keep().sparsity(),
              layer.operand().name(), static_cast<double>(y.minCoeff()));
  return y.minCoeff() >= 0.0f ? 0 : 1;
}
