// SPDX-License-Identifier: Apache-2.0
// SpMM for pairs of rows: a load of X serves both rows where both have the column.
#pragma once

#include <pare/kernel/operand/row_pairs.hpp>

namespace pare::inline PARE_ABI {

/// 2 rows x 8 registers of columns with 32 registers, 2 x 4 with 16. K is blocked by 64, so that the block of X
/// (64 x 128 floats = 32 KB) stays in the first-level cache while all rows of a block pass over it; partial sums wait
/// in the second-level cache meanwhile.
///
/// A column of both rows: 8 loads of X, 2 broadcasts, 16 multiply-adds, 3 scalar operations; a column of each: 16
/// loads. Two multiply-adds and two loads a cycle are the machine's limit, so shared columns run at the peak and the
/// others at half of it minus the broadcasts. A mask that is used up finds "column" 64, a row of zeros.
///
/// Intel Xeon, in the first-level cache: 8.9 cycles for a column of both rows, 11.3 for one of each, whether loads are
/// folded or not and however addressed; 65 % of the peak at 50 % sparsity, 57 at 70. Three rows together, which need a
/// sixth fewer loads, but five loops: 3 to 15 % slower.
template <weight_value T>
struct row_pairs_spmm {
  using operand = row_pairs<T>;
  static constexpr char const* name() noexcept { return "pairs"; }
  template <class A>
  static panel_request panels(row_pairs<T> const& w) noexcept {
    return {.vectors = simd::has_32_registers<A> ? 8 : 4,
            .block = row_pairs<T>::block_columns,
            .needs_sums = w.shape().cols > row_pairs<T>::block_columns};
  }

  template <class A, epilogue E>
  static void run(row_pairs<T> const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0, index_t r1) noexcept;

 private:
  using pair = typename row_pairs<T>::pair;

  template <class A, index_t Vectors, epilogue E>
  static void block(row_pairs<T> const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0,
                    index_t r1) noexcept;
  template <class A, index_t Vectors, bool First, class Store>
  static T const* pass(pair const* p, pair const* end, T const* v, float const* columns, float* sums,
                       Store const& store) noexcept;
};

template <weight_value T>
template <class A, epilogue E>
void row_pairs_spmm<T>::run(row_pairs<T> const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0,
                            index_t r1) noexcept {
  index_t const step = w.block_rows();
  simd::with_processor<A, std::is_same_v<T, float>>([&]<class B>(std::type_identity<B>) {
    for (index_t r = r0; r < r1; r += step) {
      index_t const end = r + step < r1 ? r + step : r1;
      if constexpr (simd::has_32_registers<A>) {
        if (x.vectors == 8) block<B, 8>(w, x, sums, y, e, r, end);
        if (x.vectors == 6) block<B, 6>(w, x, sums, y, e, r, end);
      }
      if (x.vectors == 4) block<B, 4>(w, x, sums, y, e, r, end);
      if (x.vectors == 3) block<B, 3>(w, x, sums, y, e, r, end);
      if (x.vectors == 2) block<B, 2>(w, x, sums, y, e, r, end);
      if (x.vectors == 1) block<B, 1>(w, x, sums, y, e, r, end);
      if (sums != nullptr) sums += step * x.vectors * simd::lanes<A>;
    }
  });
}

template <weight_value T>
template <class A, index_t Vectors, epilogue E>
void row_pairs_spmm<T>::block(row_pairs<T> const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0,
                              index_t r1) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t stride = Vectors * lanes;
  index_t const b = r0 / w.block_rows();
  index_t const pairs = row_pairs<T>::pair_count(r1 - r0);
  index_t const blocks = w.column_blocks();
  pair const* p = w.pairs(b);
  T const* v = w.values(b);
  float const* columns = x.data + stride;  // behind the first row of zeros
  auto const keep = [sums](pair const& of, floats const* sum_a, floats const* sum_b) __attribute__((always_inline)) {
    float* const to_a = sums + of.row_a * stride;
    float* const to_b = sums + of.row_b * stride;
    // a last: it is the real one where a row is alone.
    simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) {
      sum_b[t].store_aligned(to_b + t * lanes);
      sum_a[t].store_aligned(to_a + t * lanes);
    });
  };
  auto const finish = [&](pair const& of, floats const* sum_a, floats const* sum_b) __attribute__((always_inline)) {
    index_t const row_a = r0 + of.row_a;
    index_t const row_b = r0 + of.row_b;
    float* const to_a = y.row(row_a);
    float* const to_b = y.row(row_b);
    // Both before either is stored: y may be what e reads.
    simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) {
      floats const out_b = e(sum_b[t], row_b, x.first_column + t * lanes);
      floats const out_a = e(sum_a[t], row_a, x.first_column + t * lanes);
      out_b.store_unaligned(to_b + t * lanes);
      out_a.store_unaligned(to_a + t * lanes);
    });
  };
  if (blocks == 1) {
    pass<A, Vectors, true>(p, p + pairs, v, columns, sums, finish);
    return;
  }
  for (index_t k = 0; k < blocks; ++k, p += pairs, columns += (row_pairs<T>::block_columns + 1) * stride) {
    if (k == 0) {
      v = pass<A, Vectors, true>(p, p + pairs, v, columns, sums, keep);
    } else if (k + 1 < blocks) {
      v = pass<A, Vectors, false>(p, p + pairs, v, columns, sums, keep);
    } else {
      pass<A, Vectors, false>(p, p + pairs, v, columns, sums, finish);
    }
  }
}

// Not inlined: with the variables of the loops around it g++ runs out of scalar registers and parks them in vector
// ones.
template <weight_value T>
template <class A, index_t Vectors, bool First, class Store>
[[gnu::noinline]] T const* row_pairs_spmm<T>::pass(pair const* p, pair const* end, T const* v, float const* columns,
                                                   float* sums, Store const& store) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t stride = Vectors * lanes;
  constexpr index_t line = 64 / static_cast<index_t>(sizeof(T));  // values
  // Eight sums or more are needed to hide the latency of a multiply-add: narrow panels sum in several chains.
  constexpr index_t chains = Vectors == 1 ? 4 : Vectors == 2 ? 2 : 1;
  auto const each_register = [](auto const& f) __attribute__((always_inline)) { simd::repeat<A, Vectors>(f); };
  for (; p != end; ++p) {
    floats sum_a[chains][Vectors];
    floats sum_b[chains][Vectors];
    each_register([&](index_t t) __attribute__((always_inline)) {
      sum_a[0][t] = First ? floats(0.0f) : floats::load_aligned(sums + p->row_a * stride + t * lanes);
      sum_b[0][t] = First ? floats(0.0f) : floats::load_aligned(sums + p->row_b * stride + t * lanes);
      simd::repeat<A, chains - 1>([&](index_t c) __attribute__((always_inline)) {
        sum_a[c + 1][t] = sum_b[c + 1][t] = floats(0.0f);
      });
    });
    for (index_t n = 0; n < 2 * (p->both + p->only); n += line) __builtin_prefetch(v + 16 * line + n);
    std::uint64_t both = p->a & p->b;
    std::uint64_t only_a = p->a & ~both;
    std::uint64_t only_b = p->b & ~both;
    auto const shared = [&](floats * to_a, floats * to_b)
        __attribute__((always_inline)) {  // the next column of both rows
      float const* const at = columns + std::countr_zero(both) * stride;
      simd::weight_pair<A> const weight = simd::broadcast_pair<A>(v);
      both &= both - 1;
      v += 2;
      each_register([&](index_t t) __attribute__((always_inline)) {
        floats const x = simd::in_register<A>(floats::load_aligned(at + t * lanes));
        to_a[t] = simd::multiply_add<A>(weight.first, x, to_a[t]);
        to_b[t] = simd::multiply_add<A>(weight.second, x, to_b[t]);
      });
    };
    auto const single = [&](floats * to_a, floats * to_b)
        __attribute__((always_inline)) {  // the next column of each row
      float const* const at_a = columns + std::countr_zero(only_a) * stride;
      float const* const at_b = columns + std::countr_zero(only_b) * stride;
      simd::weight_pair<A> const weight = simd::broadcast_pair<A>(v);
      only_a &= only_a - 1;
      only_b &= only_b - 1;
      v += 2;
      each_register([&](index_t t) __attribute__((always_inline)) {
        to_a[t] = simd::multiply_add<A>(weight.first, floats::load_aligned(at_a + t * lanes), to_a[t]);
        to_b[t] = simd::multiply_add<A>(weight.second, floats::load_aligned(at_b + t * lanes), to_b[t]);
      });
    };
    auto const repeat = [&](int n, auto const& step) __attribute__((always_inline)) {
      for (; n >= chains; n -= static_cast<int>(chains))
        simd::repeat<A, chains>([&](index_t c) __attribute__((always_inline)) { step(sum_a[c], sum_b[c]); });
      if constexpr (chains > 1)
        for (; n > 0; --n) step(sum_a[0], sum_b[0]);
    };
    repeat(p->both, shared);
    repeat(p->only, single);
    simd::repeat<A, chains - 1>([&](index_t c) __attribute__((always_inline)) {
      each_register([&](index_t t) __attribute__((always_inline)) {
        sum_a[0][t] = sum_a[0][t] + sum_a[c + 1][t];
        sum_b[0][t] = sum_b[0][t] + sum_b[c + 1][t];
      });
    });
    store(*p, sum_a[0], sum_b[0]);
  }
  return v;
}

}  // namespace pare::inline PARE_ABI
