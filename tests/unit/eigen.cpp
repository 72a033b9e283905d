// SPDX-License-Identifier: Apache-2.0
#include <pare/interop/eigen.hpp>
#include <pare/kernel/matmul.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/select/select.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::index_t;

namespace {
using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class M>
void check_addresses(M& m) {
  auto const v = pare::as_span(m);
  REQUIRE(v.rows == m.rows());
  REQUIRE(v.cols == m.cols());
  for (index_t i = 0; i < v.rows; ++i)
    for (index_t j = 0; j < v.cols; ++j) REQUIRE(&v(i, j) == &m.coeffRef(i, j));
}
}  // namespace

TEST_CASE("eigen: matrices, maps, blocks and transposes are seen in place") {
  Eigen::MatrixXf column_major = Eigen::MatrixXf::Random(5, 7);
  row_major rows = row_major::Random(5, 7);
  check_addresses(column_major);
  check_addresses(rows);
  auto block = rows.block(1, 2, 3, 4);
  check_addresses(block);
  auto transposed = column_major.transpose();
  check_addresses(transposed);
  Eigen::Matrix3f fixed = Eigen::Matrix3f::Random();
  check_addresses(fixed);
  Eigen::VectorXf vector = Eigen::VectorXf::Random(6);
  check_addresses(vector);
  Eigen::Map<Eigen::MatrixXf, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> strided(rows.data(), 2, 3, {14, 2});
  check_addresses(strided);
  Eigen::Ref<Eigen::MatrixXf> ref(column_major);
  check_addresses(ref);
}

TEST_CASE("eigen: weights, activations and results go through pare without a copy") {
  Eigen::MatrixXf w = Eigen::MatrixXf::Random(6, 8);
  auto const keep = pare::select(pare::score(w, pare::magnitude{}), pare::n_of_m<2, 4>{});
  auto const sparse = pare::compress<pare::bitmap<float>>(w, keep);
  Eigen::MatrixXf const x = Eigen::MatrixXf::Random(8, 5);
  row_major y(6, 5);
  pare::matmul(sparse, x, y);
  Eigen::MatrixXf const pruned = [&] {
    Eigen::MatrixXf copy = w;
    pare::apply(keep, copy);
    return copy;
  }();
  CHECK((pruned * x - y).cwiseAbs().maxCoeff() < 1e-5f);
  pare::matmul(sparse, x.leftCols(1), y.col(2));
  CHECK((pruned * x.leftCols(1) - y.col(2)).cwiseAbs().maxCoeff() < 1e-5f);
}
