// SPDX-License-Identifier: Apache-2.0
// Kernels differ between Intel's processors and others: both must give the same bits, whichever of them the other tests
// ran on this machine.
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
  matrix<float> intel(w.shape().rows, x.cols());
  matrix<float> others(intel.shape());
  matrix<float> chosen(intel.shape());
  pare::matmul_with<Kernel, pare::simd::on_intel<arch>>(w, x.span(), intel.span());
  pare::matmul_with<Kernel, pare::simd::on_others<arch>>(w, x.span(), others.span());
  pare::matmul_with<Kernel, arch>(w, x.span(), chosen.span());
  CHECK(pare::test::same_bits(intel, others));
  CHECK(pare::test::same_bits(chosen, intel));
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

TEST_CASE("kernels of Intel's processors and of others give the same bits") {
  pare::random_source random(67);
  // 2304 inputs: panels of two registers are larger than what column blocks expect in the second-level cache.
  for (extents const shape : {extents{48, 80}, extents{64, 2304}})
    for (index_t const n : {5, 16, 31, 33, 64, 140}) {
      INFO(shape.rows << " x " << shape.cols << ", N " << n);
      matrix<float> const w = pare::test::random_matrix(random, shape);
      matrix<float> const x = pare::test::random_matrix(random, {shape.cols, n});
      pare::bitmap<float> const half(w.span(), pare::test::random_mask(random, shape, 0.5f));
      auto const machine = pare::simd::machine_of<arch>;
      for (bool const intel : {false, true}) {  // the layouts for both
        pare::machine layout = machine;
        layout.intel = intel;
        same_both_ways<pare::dense_tile_spmm<pare::dense_tiles<float>>>(pare::dense_tiles<float>(half, layout, n), x);
      }
      same_both_ways<pare::row_pairs_spmm<float>>(pare::row_pairs<float>(half, machine), x);
      same_both_ways<pare::sliced_ell_spmm<float>>(pare::sliced_ell<float>(half, machine, n), x);
      blocks<16, 1>(random, w, x);
      blocks<4, 4>(random, w, x);
      blocks<8, 2>(random, w, x);
    }
}

TEST_CASE("so do those for one column") {
  pare::random_source random(68);
  // The streams of the larger shape go on behind every distance at which they are fetched ahead.
  for (extents const shape : {extents{19, 77}, extents{130, 1030}}) {
    INFO(shape.rows << " x " << shape.cols);
    matrix<float> const w = pare::test::random_matrix(random, shape);
    matrix<float> const x = pare::test::random_matrix(random, {shape.cols, 1});
    mask const keep = pare::test::random_mask(random, shape, 0.5f);
    auto const machine = pare::simd::machine_of<arch>;
    auto const stream = [&]<pare::weight_value T>() {
      auto const half = pare::compress<pare::bitmap<T>>(w, keep);
      same_both_ways<pare::bitmap_stream_few<T>>(pare::bitmap_stream<T>(half, machine), x);
    };
    stream.operator()<float>();
    stream.operator()<pare::bf16>();
    same_both_ways<pare::dense_dot_gemv<pare::bf16>>(pare::compress<pare::dense<pare::bf16>>(w, keep), x);
    if constexpr (pare::simd::multiplies_bytes<arch>) {
      auto const codes = pare::compress<pare::quantised<128>>(w, keep);
      same_both_ways<pare::int8_stream_few<pare::int8_bitmap_stream<128>>>(
          pare::int8_bitmap_stream<128>(codes, machine), x);
    }
  }
}
