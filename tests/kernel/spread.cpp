// SPDX-License-Identifier: Apache-2.0
// Weights are spread over registers by loads or by shuffles, as the processor likes it: both must give the same bits,
// whichever of them the other tests ran on this machine.
#include <pare/format/bsr.hpp>
#include <pare/kernel/matmul.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

namespace {

using pare::extents;
using pare::index_t;
using pare::mask;
using pare::matrix;

using arch = xsimd::default_arch;

template <class Kernel, class W>
void same_both_ways(W const& w, matrix<float> const& x) {
  matrix<float> loads(w.shape().rows, x.cols());
  matrix<float> shuffles(loads.shape());
  matrix<float> chosen(loads.shape());
  pare::matmul_with<Kernel, pare::simd::by_loads<arch>>(w, x.span(), loads.span());
  pare::matmul_with<Kernel, pare::simd::by_shuffles<arch>>(w, x.span(), shuffles.span());
  pare::matmul_with<Kernel, arch>(w, x.span(), chosen.span());
  CHECK(pare::test::same_bits(loads, shuffles));
  CHECK(pare::test::same_bits(chosen, loads));
}

template <index_t R, index_t C>
void blocks(pare::random_source& random, matrix<float> const& w, matrix<float> const& x) {
  mask const tiles = pare::test::random_mask(random, {w.rows() / R, w.cols() / C}, 0.2f);
  mask keep(w.shape());
  for (index_t r = 0; r < w.rows(); ++r)
    for (index_t c = 0; c < w.cols(); ++c) keep.set(r, c, tiles(r / R, c / C));
  pare::column_blocks<R, C, float> const operand(pare::bsr<R, C, float>(w.span(), keep), pare::simd::machine_of<arch>);
  same_both_ways<pare::column_blocks_spmm<R, C, float>>(operand, x);
}

}  // namespace

TEST_CASE("spreading weights by loads and by shuffles gives the same bits") {
  pare::random_source random(67);
  // 2304 inputs: panels of two registers are larger than what column blocks expect in the second-level cache.
  for (extents const shape : {extents{48, 80}, extents{64, 2304}})
    for (index_t const n : {5, 16, 31, 33, 64, 140}) {
      INFO(shape.rows << " x " << shape.cols << ", N " << n);
      matrix<float> const w = pare::test::random_matrix(random, shape);
      matrix<float> const x = pare::test::random_matrix(random, {shape.cols, n});
      pare::bitmap<float> const half(w.span(), pare::test::random_mask(random, shape, 0.5f));
      auto const machine = pare::simd::machine_of<arch>;
      same_both_ways<pare::dense_tile_spmm<pare::dense_tiles<float>>>(pare::dense_tiles<float>(half, machine), x);
      same_both_ways<pare::row_pairs_spmm<float>>(pare::row_pairs<float>(half, machine), x);
      same_both_ways<pare::sliced_ell_spmm<float>>(pare::sliced_ell<float>(half, machine, n), x);
      blocks<16, 1>(random, w, x);
      blocks<4, 4>(random, w, x);
      blocks<8, 2>(random, w, x);
    }
}
