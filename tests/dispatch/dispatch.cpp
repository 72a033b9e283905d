// SPDX-License-Identifier: Apache-2.0
// Kernels that are chosen at run time. This program is compiled for the oldest x86-64, and run once as it is and once
// with each PARE_ARCH; tests of kernels and networks that know nothing of this are part of it too (see CMakeLists.txt).
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

#include "kernel/check_kernels.hpp"

#include <pare/kernel/prepare.hpp>

using namespace pare;
using pare::test::random_matrix;

static_assert(std::is_same_v<simd::default_arch, xsimd::sse2>, "the baseline of this test is to be plain x86-64");
static_assert(detail::is_dispatched<simd::best_arch, row_pairs<bf16>>);
static_assert(detail::is_dispatched<simd::best_arch, csr<float>>);
static_assert(!detail::is_dispatched<simd::best_arch, csr<float, std::int64_t>>);
static_assert(!detail::is_dispatched<simd::default_arch, csr<float>>);

namespace {

/// Calls f with every table that this machine can run.
template <class F>
int for_each_table(F&& f) {
  int tables = 0;
  for (detail::kernel_unit const& unit : detail::kernel_units()) {
    if (detail::has(unit.id)) {
      f(unit.kernels());
      ++tables;
    } else {
      WARN("skipped: this machine has no " << unit.name);
    }
  }
  return tables;
}

/// Operands of 8-bit codes round x to 127 steps a group (see matmul): by no more than half a step of the largest of
/// all.
bool within_rounding(quantised<128> const& w, matrix<float> const& x, matrix_span<float const> y) {
  matrix<float> expected(y.shape());
  reference::matmul(w, x.span(), expected.span());
  float largest = 0.0f;
  for (index_t i = 0; i < x.size(); ++i) largest = std::max(largest, std::abs(x.data()[i]));
  for (index_t r = 0; r < y.rows; ++r) {
    float sum = 0.0f;
    w.for_each_in_row(r, [&](index_t, float v) { sum += std::abs(v); });
    for (index_t n = 0; n < y.cols; ++n)
      if (!(std::abs(y(r, n) - expected(r, n)) <= 1.01f * sum * largest / 254.0f)) return false;
  }
  return true;
}

template <class F>
bool is_product(F const& w, matrix<float> const& x, matrix_span<float const> y) {
  if constexpr (std::is_same_v<F, quantised<128>>) {
    return within_rounding(w, x, y);
  } else {
    return test::within_bound(w, x, y);
  }
}

template <class F, class Operand>
void check_operand(kernel_table const& table, random_source& random) {
  extents const shape = test::tiled_by<F>({37, 133});
  for (float const density : {0.05f, 0.5f}) {
    constexpr bool whole_blocks = requires(F const& w) { Operand::suits(w); };
    F const format = compress<F>(random_matrix(random, shape), test::mask_for<F>(random, shape, density, whole_blocks));
    for (index_t const n : {1, 2, 4, 7, 64, 130}) {
      INFO(table.name << " " << F::name() << "/" << Operand::name() << " density " << density << " N " << n);
      auto const w = lay_out<Operand>(format, table.target, n);
      auto x = random_matrix(random, {shape.cols, n});
      matrix<float> y(shape.rows, n);
      matrix<float> turned(n, shape.rows);
      kernel_entry<Operand> const& kernels = table;
      kernels.multiply(w, x.span(), y.span(), {}, {});
      REQUIRE(is_product(format, x, y.span()));
      matrix<float> const tokens(x.span().transposed());
      kernels.multiply(w, tokens.span().transposed(), turned.span().transposed(), {}, {});
      REQUIRE(test::same_bits(turned.span().transposed(), y));

      // An Inf reaches the outputs that are connected to it, and no other.
      index_t const at = shape.cols / 2;
      x(at, n / 2) = std::numeric_limits<float>::infinity();
      kernels.multiply(w, x.span(), y.span(), {}, {});
      for (index_t r = 0; r < shape.rows; ++r) {
        bool connected = false;
        format.for_each_in_row(r, [&](index_t c, auto) { connected = connected || c == at; });
        REQUIRE(std::isfinite(y(r, n / 2)) != connected);
      }
    }
  }
}

char const* asked_for() {
  char const* const name = std::getenv("PARE_ARCH");
  return name == nullptr ? "" : name;
}

}  // namespace

TEST_CASE("dispatch: every operand in every table multiplies as the reference does") {
  random_source random(91);
  int const tables = for_each_table([&](kernel_table const& table) {
    auto const check = [&]<class F>() {
      operands_of<F>::type::for_each([&]<class O>() { check_operand<F, O>(table, random); });
    };
    format_list<float>::for_each(check);
    format_list<bf16>::for_each(check);
    check.operator()<quantised<128>>();
  });
  CHECK(tables >= 1);
}

TEST_CASE("dispatch: tables are laid out for what they are called") {
  for_each_table([](kernel_table const& table) {
    std::string const name = table.name;
    bool const wide = name == "avx512bw" || name == "avx512vnni";
    CHECK(table.target.lanes == (wide ? 16 : name == "avx2" ? 8 : 4));
    CHECK(table.target.has_32_registers == wide);
    CHECK(table.target.multiplies_bytes == (name == "avx512vnni"));
  });
}

TEST_CASE("dispatch: the best kernels, or those that are asked for") {
  WARN("chosen: " << active_arch() << ", asked for: \"" << asked_for() << "\"");
  std::string const wanted = asked_for();
  kernel_table const* best = nullptr;
  for_each_table([&](kernel_table const& table) { best = &table; });
  CHECK(&detail::choose_kernels(nullptr) == best);
  CHECK(&detail::choose_kernels("") == best);
  CHECK(std::string(detail::choose_kernels("baseline").name) == simd::default_arch::name());
  if (wanted.empty()) {
    CHECK(&active_kernels() == best);
  } else {
    CHECK(active_arch() == (wanted == "baseline" ? simd::default_arch::name() : wanted));
  }
  CHECK(machine_for<dense_tiles<float>>().lanes == active_kernels().target.lanes);
}

TEST_CASE("dispatch: the better of two can all that the other one can") {
  for_each_table([](kernel_table const& table) {
    CHECK(detail::at_least(table.target, table.target));
    CHECK(detail::at_least(table.target, machine_for<csr<float, std::int64_t>>()));  // the baseline
  });
  constexpr machine avx512vnni{16, true, true, true, true, true, false};
  machine avx512bw = avx512vnni;
  avx512bw.expands_words = avx512bw.multiplies_bytes = false;
  constexpr machine avx2{8, false, false, false, false, true, true};
  CHECK(detail::at_least(avx512vnni, avx512bw));
  CHECK_FALSE(detail::at_least(avx512bw, avx512vnni));
  CHECK(detail::at_least(avx512bw, avx2));
  CHECK_FALSE(detail::at_least(avx2, avx512bw));
}

TEST_CASE("dispatch: a name that is not to be had is an error that says which are") {
  CHECK_THROWS_WITH(detail::choose_kernels("avx9000"),
                    ContainsSubstring("this program and processor have baseline") && ContainsSubstring("not avx9000"));
  CHECK_THROWS_WITH(detail::choose_kernels(std::string(1000, 'x').c_str()), ContainsSubstring("not xxx"));
  for (detail::kernel_unit const& unit : detail::kernel_units())
    if (!detail::has(unit.id)) CHECK_THROWS_AS(detail::choose_kernels(unit.name), contract_violation);
}

TEST_CASE("dispatch: operands that no table has are multiplied by the baseline, laid out for it") {
  using wide_csr = csr<float, std::int64_t>;
  using tall_blocks = bsr<8, 2, float>;
  random_source random(92);
  auto const check = [&]<class F>() {
    for (index_t const n : {1, 33}) {
      F const format = compress<F>(random_matrix(random, {64, 96}), test::mask_for<F>(random, {64, 96}, 0.3f, true));
      for (bool const may_be_dense : {false, true}) {
        auto const p = prepare(format, {.columns = n, .may_be_dense = may_be_dense});
        auto const x = random_matrix(random, {96, n});
        matrix<float> y(64, n);
        matmul(p, x, y);
        INFO(p.name() << " N " << n);
        REQUIRE(test::within_bound(format, x, y.span()));
      }
    }
  };
  check.operator()<wide_csr>();
  check.operator()<tall_blocks>();
}

namespace {

/// An epilogue that no table knows.
struct doubled_and_column {
  static constexpr bool is_epilogue = true;
  template <class V>
  V operator()(V v, index_t, index_t col) const noexcept {
    if constexpr (std::is_same_v<V, float>) return 2.0f * v + static_cast<float>(col % 2);
    return v;  // would be seen, were it applied in registers
  }
};

}  // namespace

TEST_CASE("dispatch: epilogues that are no layer_epilogue are applied afterwards, to Y in place as well") {
  random_source random(93);
  auto const w = compress<bitmap<float>>(random_matrix(random, {40, 80}), test::random_mask(random, {40, 80}, 0.4f));
  for (index_t const n : {1, 20, 150}) {
    auto const p = prepare(w, {.columns = n});
    auto const x = random_matrix(random, {80, n});
    auto const added = random_matrix(random, {40, n});
    matrix<float> product(40, n);
    matmul(p, x, product);
    thread_pool pool(2);
    matrix<float> y(40, n);
    matmul(p, x, y, doubled_and_column{}, pool);
    for (index_t i = 0; i < 40; ++i)
      for (index_t j = 0; j < n; ++j) REQUIRE(y(i, j) == 2.0f * product(i, j) + static_cast<float>(j % 2));
    matrix<float> z(added);
    matmul(p, x, z, scaled{2.0f} | residual{z.span()} | relu{});
    for (index_t i = 0; i < 40; ++i)
      for (index_t j = 0; j < n; ++j)
        REQUIRE(z(i, j) == Approx(std::max(2.0f * product(i, j) + added(i, j), 0.0f)).margin(1e-5));
  }
}

namespace {
template <class E>
inline constexpr bool is_layer = detail::layer_form<E>::exists;
}  // namespace
static_assert(is_layer<identity> && is_layer<layer_epilogue> && is_layer<bias> && is_layer<affine>);
static_assert(is_layer<composed<bias, gelu>> && is_layer<composed<identity, relu>> &&
              is_layer<composed<relu, identity>>);
static_assert(is_layer<composed<composed<affine, residual>, silu>> &&
              is_layer<composed<affine, composed<residual, relu>>>);
static_assert(!is_layer<scaled> && !is_layer<composed<gelu, bias>> && !is_layer<composed<bias, affine>>);
static_assert(!is_layer<composed<bias, bias>> && !is_layer<composed<relu, gelu>> && !is_layer<doubled_and_column>);
