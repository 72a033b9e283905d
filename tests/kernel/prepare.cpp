// SPDX-License-Identifier: Apache-2.0
// Prepared operands, whatever was chosen, multiply as their format does.
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <pare/kernel/prepare.hpp>
#include <pare/kernel/reference.hpp>
#include <pare/kernel/thread_pool.hpp>
#include <pare/select/select.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::extents;
using pare::index_t;
using pare::matrix;

namespace {

template <class F>
F sample(pare::random_source& random, float density) {
  extents const shape{32, 48};
  auto keep = pare::test::random_mask(random, shape, density);
  if constexpr (requires { typename F::pattern_type; })
    keep &= pare::select(pare::test::random_matrix(random, shape), typename F::pattern_type{});
  return pare::compress<F>(pare::test::random_matrix(random, shape), keep);
}

template <class F>
void check_prepared(pare::random_source& random) {
  std::vector<float> const b(32, 0.5f);
  pare::layer_epilogue const e{.bias = b, .act = pare::activation::relu};
  for (float const density : {0.02f, 0.5f, 1.0f}) {
    F const format = sample<F>(random, density);
    for (index_t const n : {1, 3, 70})
      for (bool const may_be_dense : {false, true}) {
        INFO(F::name() << " density " << density << " N " << n << " may be dense " << may_be_dense);
        auto const x = pare::test::random_matrix(random, {48, n});
        auto const p = pare::prepare(format, {.columns = n, .may_be_dense = may_be_dense});
        REQUIRE(p.shape() == format.shape());
        REQUIRE(p.nnz() == format.nnz());
        if (!may_be_dense && std::string(F::name()) != "dense") REQUIRE(std::string(p.name()) != "dense");

        matrix<float> y(32, n);
        pare::execution_ref exec;
        pare::matmul(p, x, y, e, exec);
        matrix<float> expected(32, n);
        pare::reference::matmul(format, x.span(), expected.span(), e);
        for (index_t i = 0; i < y.size(); ++i)
          REQUIRE(y.data()[i] == Approx(expected.data()[i]).epsilon(1e-5).margin(1e-5));
        pare::any_operand const any(p);
        REQUIRE(any);
        REQUIRE(any.shape() == p.shape());
        REQUIRE(any.nnz() == p.nnz());
        REQUIRE(any.bytes() == p.bytes());
        REQUIRE(std::string(any.name()) == p.name());
        pare::any_operand const copy = any;  // NOLINT: shares
        matrix<float> z(32, n);
        copy.multiply(x.span(), z.span(), e, {});
        REQUIRE(pare::test::same_bits(z, y));
      }
  }
}

}  // namespace

TEST_CASE("prepare: every format, as itself, prepared, and behind any_operand, gives the same") {
  pare::random_source random(81);
  pare::format_list<float>::for_each([&]<class F>() { check_prepared<F>(random); });
  check_prepared<pare::bitmap<pare::bf16>>(random);
}

TEST_CASE("prepare: takes the dense alternative where nothing is pruned, and never where it is forbidden") {
  pare::random_source random(82);
  auto const full = sample<pare::csr<float>>(random, 1.1f);
  CHECK(std::string(pare::prepare(full, {.columns = 64}).name()) == "dense");
  CHECK(std::string(pare::prepare(full, {.columns = 64, .may_be_dense = false}).name()) != "dense");
  auto const empty = sample<pare::csr<float>>(random, -1.0f);
  CHECK(std::string(pare::prepare(empty, {.columns = 64}).name()) != "dense");
  CHECK_FALSE(pare::any_operand());
}

TEST_CASE("prepare: takes the operand that is named, and measures where it is told to") {
  pare::random_source random(83);
  auto const format = sample<pare::bitmap<float>>(random, 0.3f);
  auto const added = pare::test::random_matrix(random, {32, 5});
  auto const x = pare::test::random_matrix(random, {48, 5});
  matrix<float> expected(32, 5);
  pare::reference::matmul(format, x.span(), expected.span(), pare::residual{added.span()});
  auto const multiplies = [&](auto const& p) {
    matrix<float> y(32, 5);
    pare::matmul(p, x, y, pare::residual{added.span()});
    for (index_t i = 0; i < y.size(); ++i) REQUIRE(y.data()[i] == Approx(expected.data()[i]).margin(1e-5));
  };
  for (char const* name : {"row_pairs", "sliced_ell", "bitmap", "dense", "column_major"}) {
    auto const p = pare::prepare(format, {.columns = 5, .operand = name});
    CHECK(std::string(p.name()) == name);
    multiplies(p);
  }
  multiplies(pare::prepare(format, {.columns = 5, .autotune = true}));
  CHECK(std::string(pare::prepare(format, {.zero_inputs = 0.99, .operand = "column_major"}).name()) == "column_major");
  CHECK_THROWS_AS(pare::prepare(format, {.operand = "none of this name"}), pare::contract_violation);
  CHECK_THROWS_AS(pare::prepare(format, {.zero_inputs = 1.5}), pare::contract_violation);
  auto const widest = pare::prepare(format, {.columns = std::numeric_limits<index_t>::max()});
  CHECK(std::string(widest.name()) == pare::prepare(format, {.columns = index_t{1} << 20}).name());
  multiplies(widest);
}

TEMPLATE_TEST_CASE("break_even: lies where the cost model's choice changes", "", pare::bitmap<float>,
                   pare::bitmap<pare::bf16>, pare::quantised<128>) {
  pare::random_source random(84);
  extents const shape{128, 256};
  auto const w = pare::test::random_matrix(random, shape);
  auto const scores = pare::test::random_matrix(random, shape);
  for (index_t const n : {1, 32, 128}) {
    double const s = pare::break_even<TestType>(shape, n).value;
    INFO(n << " columns: " << s);
    REQUIRE((s >= 0.0 && s <= 1.0));
    auto const is_dense = [&](double at) {
      auto const keep = pare::select(scores, pare::unstructured{}, pare::sparsity(at));
      auto const chosen = pare::prepare(pare::compress<TestType>(w, keep), {.columns = n});
      return chosen.visit([]<class O>(O const&) { return pare::detail::is_dense_operand<O>; });
    };
    if (s < 1.0) CHECK_FALSE(is_dense(s + 0.01 < 1.0 ? s + 0.01 : 1.0));
    if (s > 0.02) CHECK(is_dense(s - 0.02));
  }
}

TEST_CASE("prepare: Inf in x does not pass through what was pruned, dense alternative or not") {
  matrix<float> w(4, 4);
  for (index_t i = 0; i < 16; ++i) w.data()[i] = 1.0f;
  pare::mask keep({4, 4}, true);
  keep.set(2, 1, false);
  for (index_t const n : {1, 20}) {
    matrix<float> x(4, n);
    x(1, 0) = std::numeric_limits<float>::infinity();
    auto const p = pare::prepare(pare::compress<pare::bitmap<float>>(w, keep), {.columns = n, .operand = "dense"});
    REQUIRE(std::string(p.name()) == "dense");
    matrix<float> y(4, n);
    pare::matmul(p, x, y);
    for (index_t r = 0; r < 4; ++r) CHECK(y(r, 0) == (r == 2 ? 0.0f : x(1, 0)));
  }
}

TEST_CASE("matmul: shapes that do not go together are contract violations") {
  auto const w = pare::compress<pare::bitmap<float>>(matrix<float>(3, 5), pare::mask({3, 5}));
  matrix<float> y(3, 2);
  CHECK_THROWS_AS(pare::matmul(w, matrix<float>(4, 2), y), pare::contract_violation);
  CHECK_THROWS_AS(pare::matmul(w, matrix<float>(5, 3), y), pare::contract_violation);
  CHECK_THROWS_AS(pare::matmul(w, matrix<float>(5, 1), y), pare::contract_violation);
  CHECK_THROWS_AS(pare::matmul(w, matrix<float>(5, 2), y.span().transposed()), pare::contract_violation);
  CHECK_THROWS_AS(pare::reference::matmul(w, matrix<float>(4, 2).span(), y.span()), pare::contract_violation);
  CHECK_NOTHROW(pare::matmul(w, matrix<float>(5, 2), y));
}
