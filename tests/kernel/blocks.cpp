// SPDX-License-Identifier: Apache-2.0
// The kernels for one and for few columns of column_blocks, with what the walk over the registry does not have: blocks
// of other sizes, and rows of blocks that are long enough for each of their streams to be prefetched on its own.
#include <string>
#include <thread>

#include "kernel/check_kernels.hpp"

using pare::bf16;
using pare::bsr;
using pare::column_blocks;
using pare::extents;
using pare::index_t;
using pare::matrix;

namespace {

using fused = xsimd::fma3<xsimd::avx2>;

template <class A, index_t R, index_t C, class T>
void check_size(pare::random_source& random) {
  using format = bsr<R, C, T>;
  INFO("blocks of " << R << " x " << C);
  pare::test::kernel_check<format, pare::column_blocks_gemv<R, C, T>, A>(random).all();
  pare::test::kernel_check<format, pare::column_blocks_few<R, C, T>, A>(random).all();
}

/// Rows of blocks of very different lengths, among them empty ones, the last one too.
template <class A, index_t R, index_t C, class T>
void check_long_rows(pare::random_source& random) {
  extents const shape{6 * R, 1024 * C};
  pare::mask keep(shape);
  index_t const blocks[] = {1024, 0, 700, 3, 1023, 0};
  for (index_t row = 0; row < 6; ++row)
    for (index_t b = 0; b < blocks[row]; ++b)
      for (index_t i = 0; i < R; ++i)
        for (index_t c = 0; c < C; ++c) keep.set(row * R + i, b * C + c);
  auto const format = pare::compress<bsr<R, C, T>>(pare::test::random_matrix(random, shape), keep);
  column_blocks<R, C, T> const w(format, pare::simd::machine_of<A>);
  for (index_t const n : {1, 2, 3, 8}) {
    INFO("blocks of " << R << " x " << C << ", N " << n);
    auto const x = pare::test::random_matrix(random, {shape.cols, n});
    matrix<float> y(shape.rows, n);
    pare::matmul_with<pare::column_blocks_few<R, C, T>, A>(w, x.span(), y.span());
    REQUIRE(pare::test::within_bound(format, x, y.span()));
    if (n > 1) continue;
    matrix<float> same(shape.rows, 1);
    pare::matmul_with<pare::column_blocks_gemv<R, C, T>, A>(w, x.span(), same.span());
    REQUIRE(pare::test::same_bits(same, y));
  }
}

/// So many inputs that K is cut into parts, and so many rows that not all of them pass over a part together.
template <class A, index_t R, index_t C, class T>
void check_parts(pare::random_source& random) {
  using format_type = bsr<R, C, T>;
  using spmm = pare::column_blocks_spmm<R, C, T>;
  using few = pare::column_blocks_few<R, C, T>;
  using gemv = pare::column_blocks_gemv<R, C, T>;
  auto const m = pare::simd::machine_of<A>;
  extents const shape{pare::round_up(1100, R),
                      pare::round_up(2 * 640 * 1024 / ((m.has_32_registers ? 4 : 2) * m.lanes * 4) + 7, C)};
  pare::mask keep(shape);
  for (index_t r = 0; r < shape.rows; r += R)
    for (index_t n = r % 44; n > 0; --n) {  // none in some rows of blocks
      auto const c = random.below(shape.cols / C) * C;
      for (index_t i = 0; i < R * C; ++i) keep.set(r + i % R, c + i / R);
    }
  auto const format = pare::compress<format_type>(pare::test::random_matrix(random, shape), keep);
  column_blocks<R, C, T> const w(format, m);
  INFO("blocks of " << R << " x " << C << ", " << shape.cols << " inputs");
  REQUIRE(w.parts() == 3);
  REQUIRE(shape.rows > 2 * w.rows_together());
  index_t stored = 0;
  for (index_t r = 0; r < shape.rows; r += w.block_rows()) stored += w.block_nnz(r / w.block_rows());
  CHECK(stored == w.nnz());
  for (index_t const n : {1, 3, 8, 23, 70}) {
    INFO("N " << n);
    auto const x = pare::test::random_matrix(random, {shape.cols, n});
    pare::thread_pool pool(3);
    auto const check = [&]<class Kernel>() {
      matrix<float> y(shape.rows, n);
      pare::matmul_with<Kernel, A>(w, x.span(), y.span());
      REQUIRE(pare::test::within_bound(format, x, y.span()));
      matrix<float> turned(n, shape.rows);
      pare::matmul_with<Kernel, A>(w, x.span(), turned.span().transposed(), pare::identity{}, pool);
      matrix<float> same(shape.rows, n);
      for (index_t r = 0; r < shape.rows; ++r)
        for (index_t j = 0; j < n; ++j) same(r, j) = turned(j, r);
      REQUIRE(pare::test::same_bits(same, y));
    };
    if (n == 1) check.template operator()<gemv>();
    if (n <= 8) check.template operator()<few>();
    check.template operator()<spmm>();
  }
}

/// X that is read where it is, also between columns that do not belong to it; and the same X packed.
template <class A, index_t R, index_t C, class T>
void check_x_in_place(pare::random_source& random) {
  using kernel = pare::column_blocks_spmm<R, C, T>;
  constexpr index_t lanes = pare::simd::lanes<A>;
  extents const shape{40 * R, 48 * C};
  auto const keep = pare::test::mask_for<bsr<R, C, T>>(random, shape, 0.4f, true);
  auto const format = pare::compress<bsr<R, C, T>>(pare::test::random_matrix(random, shape), keep);
  column_blocks<R, C, T> const w(format, pare::simd::machine_of<A>);
  pare::thread_pool pool(3);
  for (index_t const n : {lanes, 3 * lanes, 8 * lanes, 11 * lanes}) {
    INFO("blocks of " << R << " x " << C << ", N " << n);
    auto const x = pare::test::random_matrix(random, {shape.cols, n});
    matrix<float> wide(shape.cols, n + 2 * lanes);
    for (index_t i = 0; i < wide.size(); ++i) wide.data()[i] = std::numeric_limits<float>::quiet_NaN();
    auto const in_place = wide.span().col_range(lanes, n);
    matrix<float> odd(shape.cols, n + 1);
    auto const to_pack = odd.span().col_range(1, n);
    for (index_t k = 0; k < shape.cols; ++k)
      for (index_t j = 0; j < n; ++j) in_place(k, j) = to_pack(k, j) = x(k, j);
    matrix<float> packed(shape.rows, n);
    pare::matmul_with<kernel, A>(w, to_pack, packed.span());
    REQUIRE(pare::test::within_bound(format, x, packed.span()));
    matrix<float> y(shape.rows, n);
    pare::matmul_with<kernel, A>(w, in_place, y.span());
    REQUIRE(pare::test::same_bits(y, packed));
    pare::matmul_with<kernel, A>(w, in_place, y.span(), pare::identity{}, pool);
    REQUIRE(pare::test::same_bits(y, packed));

    // From a thread that has no working memory yet, with threads that have some for less: none of it is X's.
    auto const small = pare::test::random_matrix(random, {64, 33});
    pare::dense<float> const odd_columns(pare::test::random_matrix(random, {512, 64}));
    matrix<float> of_small(512, 33);
    pare::matmul_with<pare::generic_spmm<pare::dense<float>>, A>(odd_columns, small.span(), of_small.span(),
                                                                 pare::identity{}, pool);
    std::thread([&] { pare::matmul_with<kernel, A>(w, in_place, y.span(), pare::identity{}, pool); }).join();
    REQUIRE(pare::test::same_bits(y, packed));

    using product = pare::detail::panel_product<kernel, A, pare::identity>;
    CHECK_FALSE(product(w, in_place, y.span(), pare::identity{}).packs());
    CHECK(product(w, to_pack, y.span(), pare::identity{}).packs());
  }
}

template <class A, class T>
void check_blocks() {
  if constexpr (A::supported()) {
    if (!pare::test::runs_on<A>(xsimd::available_architectures())) {
      WARN("skipped: this machine has no " << A::name());
      return;
    }
    pare::random_source random(69);
    check_size<A, 4, 2, T>(random);
    check_size<A, 8, 8, T>(random);
    check_long_rows<A, 4, 3, T>(random);    // neither divides a register nor is divided by one
    check_long_rows<A, 32, 12, T>(random);  // crosses the runs in which a few columns of x are packed
    check_long_rows<A, 12, 1, T>(random);
    check_long_rows<A, 4, 4, T>(random);
    check_long_rows<A, 16, 1, T>(random);
    check_long_rows<A, 8, 2, T>(random);
    check_parts<A, 12, 1, T>(random);
    check_parts<A, 4, 4, T>(random);
    check_x_in_place<A, 16, 1, T>(random);
    check_x_in_place<A, 4, 4, T>(random);
  } else {
    WARN("skipped: not compiled for " << A::name());
  }
}

template <class Operand>
double cost(extents shape, double sparsity, index_t n) {
  auto const nnz = static_cast<index_t>((1.0 - sparsity) * static_cast<double>(shape.size()));
  return pare::kernels_of<Operand>::cycles({shape, nnz, n, {16, true, true}});
}

}  // namespace

TEST_CASE("blocks: f32 on the best architecture of the build") { check_blocks<xsimd::default_arch, float>(); }
TEST_CASE("blocks: bf16 on the best architecture of the build") { check_blocks<xsimd::default_arch, bf16>(); }
TEST_CASE("blocks: f32 on AVX2") { check_blocks<fused, float>(); }
TEST_CASE("blocks: bf16 on SSE4.2") { check_blocks<xsimd::sse4_2, bf16>(); }

TEST_CASE("blocks: the cost model takes them for few columns where they are fastest") {
  for (extents const shape : {extents{512, 1024}, extents{11008, 4096}})
    for (index_t const n : {1, 2, 4}) {
      INFO(shape.rows << " x " << shape.cols << ", N " << n);
      double const blocks = cost<column_blocks<4, 4, float>>(shape, 0.92, n);
      CHECK(blocks < cost<pare::windowed_ell<float>>(shape, 0.92, n));
      CHECK(blocks < cost<pare::bitmap_stream<float>>(shape, 0.92, n));
      CHECK(blocks < cost<pare::dense<float>>(shape, 0.92, n));
      CHECK(cost<column_blocks<4, 4, float>>(shape, 0.0, 1) > cost<pare::dense<float>>(shape, 0.0, 1));
    }
  CHECK(cost<column_blocks<4, 1, float>>({512, 1024}, 0.92, 8) > cost<pare::windowed_ell<float>>({512, 1024}, 0.92, 8));
}
