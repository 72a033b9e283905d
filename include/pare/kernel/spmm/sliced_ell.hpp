// SPDX-License-Identifier: Apache-2.0
// SpMM for slices of four rows: one load brings four column offsets, another four weights.
#pragma once

#include <pare/kernel/operand/sliced_ell.hpp>

namespace pare::inline PARE_ABI {

/// 4 rows x 1, 2 or 4 registers of columns (2 at most with 16 registers). K is blocked so that the block of X stays in
/// the first-level cache; rows without elements in an inner block are not touched there.
///
/// A step, with 4 registers: 1 load of offsets, 1 of weights, 16 loads of X folded into 16 multiply-adds, 4 shuffles
/// that spread the weights. Two loads a cycle are the limit: 16 / 18 of half the peak, minus the trips of partial sums,
/// which decide above 90 % sparsity.
///
/// Measured (Zen 5, 768 x 768, 128 columns), of the multiply-add peak: 67 % at 80 % sparsity, 57 at 90, 46 at 95.
/// Tried in vain: two steps a turn of the loop; offsets and weights in streams of their own; offsets through a vector
/// register (3 %). Offsets of 8 bits, two steps a load, save 4 % of a step, but bound blocks to 255 columns.
template <weight_value T>
struct sliced_ell_spmm {
  using operand = sliced_ell<T>;
  static constexpr char const* name() noexcept { return "slices"; }
  template <class A>
  static panel_request panels(sliced_ell<T> const& w, index_t) noexcept {
    return {.vectors = w.vectors(), .narrower = false, .block = w.block_columns(), .needs_sums = w.column_blocks() > 1};
  }

  template <class A, epilogue E>
  static void run(sliced_ell<T> const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0,
                  index_t r1) noexcept;

 private:
  using slice = typename sliced_ell<T>::slice;
  using step = typename sliced_ell<T>::step;
  static constexpr index_t height = sliced_ell<T>::slice_rows;

  template <class A, index_t Vectors, epilogue E>
  static void block(sliced_ell<T> const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0) noexcept;
  template <class A, index_t Vectors, bool First, class Store>
  static step const* pass(slice const* s, slice const* end, step const* at, float const* columns, float* sums,
                          Store const& store) noexcept;

  static std::uint64_t offsets_of(step const* s) noexcept {
    std::uint64_t four;
    std::memcpy(&four, s->offset, sizeof four);
    return four;
  }
};

template <weight_value T>
template <class A, epilogue E>
void sliced_ell_spmm<T>::run(sliced_ell<T> const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0,
                             index_t r1) noexcept {
  index_t const rows = w.block_rows();
  for (index_t r = r0; r < r1; r += rows, sums += rows * x.vectors * simd::lanes<A>) {
    if constexpr (simd::has_32_registers<A>)
      if (x.vectors == 4) block<A, 4>(w, x, sums, y, e, r);
    if (x.vectors == 2) block<A, 2>(w, x, sums, y, e, r);
    if (x.vectors == 1) block<A, 1>(w, x, sums, y, e, r);
  }
}

template <weight_value T>
template <class A, index_t Vectors, epilogue E>
void sliced_ell_spmm<T>::block(sliced_ell<T> const& w, x_panel x, float* sums, y_tile y, E const& e,
                               index_t r0) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t stride = Vectors * lanes;
  index_t const b = r0 / w.block_rows();
  index_t const blocks = w.column_blocks();
  step const* at = w.steps(b);
  float const* columns = x.data;  // from the row of zeros on, where offsets count from
  auto const keep = [sums](slice const& s, floats const(&sum)[height][Vectors]) {
    float* to[height];
    for (index_t i = 0; i < height; ++i) to[i] = sums + s.row[i] * stride;
    for (index_t i = 0; i < height; ++i)
      for (index_t t = 0; t < Vectors; ++t) sum[i][t].store_aligned(to[i] + t * lanes);
  };
  auto const finish = [&](slice const& s, floats const(&sum)[height][Vectors]) {
    index_t row[height];
    float* to[height];
    for (index_t i = 0; i < height; ++i) row[i] = r0 + s.row[i];
    for (index_t i = 0; i < height; ++i) to[i] = y.row(row[i]);
    for (index_t t = 0; t < Vectors; ++t) {  // all four before any is stored: y may be what e reads
      floats out[height];
      for (index_t i = 0; i < height; ++i) out[i] = e(sum[i][t], row[i], x.first_column + t * lanes);
      for (index_t i = 0; i < height; ++i) out[i].store_unaligned(to[i] + t * lanes);
    }
  };
  if (blocks == 1) {
    pass<A, Vectors, true>(w.slices_begin(b, 0), w.slices_end(b, 0), at, columns, sums, finish);
    return;
  }
  for (index_t k = 0; k < blocks; ++k, columns += (w.block_columns() + 1) * stride) {
    slice const* const first = w.slices_begin(b, k);
    slice const* const end = w.slices_end(b, k);
    if (k == 0) {
      at = pass<A, Vectors, true>(first, end, at, columns, sums, keep);
    } else if (k + 1 < blocks) {
      at = pass<A, Vectors, false>(first, end, at, columns, sums, keep);
    } else {
      pass<A, Vectors, false>(first, end, at, columns, sums, finish);
    }
  }
}

// Offsets are loaded three steps before they are used: an address that comes straight from a load costs two cycles a
// step more, whatever the processor reorders (12.0 against 10.3 for 4 registers).
template <weight_value T>
template <class A, index_t Vectors, bool First, class Store>
[[gnu::noinline]] typename sliced_ell<T>::step const* sliced_ell_spmm<T>::pass(slice const* s, slice const* end,
                                                                               step const* at, float const* columns,
                                                                               float* sums,
                                                                               Store const& store) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t stride = Vectors * lanes;
  constexpr index_t ahead = 1536 / static_cast<index_t>(sizeof(step));
  std::uint64_t next_0 = offsets_of(at);
  std::uint64_t next_1 = offsets_of(at + 1);
  std::uint64_t next_2 = offsets_of(at + 2);
  for (; s != end; ++s) {
    floats sum[height][Vectors];
    for (index_t i = 0; i < height; ++i)
      for (index_t t = 0; t < Vectors; ++t)
        sum[i][t] = First ? floats(0.0f) : floats::load_aligned(sums + s->row[i] * stride + t * lanes);
    for (index_t n = 0; n < s->steps; n += 2) __builtin_prefetch(at + ahead + n);
    for (int n = s->steps; n > 0; --n, ++at) {
      std::uint64_t const offsets = next_0;
      next_0 = next_1;
      next_1 = next_2;
      next_2 = offsets_of(at + 3);
      simd::weight_four<A> const weight = simd::broadcast_four<A>(at->weight);
      for (index_t i = 0; i < height; ++i) {
        auto const* const c = reinterpret_cast<float const*>(reinterpret_cast<char const*>(columns) +
                                                             sliced_ell<T>::offset_of(offsets, i));
        for (index_t t = 0; t < Vectors; ++t)
          sum[i][t] = simd::multiply_add<A>(weight.row[i], floats::load_aligned(c + t * lanes), sum[i][t]);
      }
    }
    store(*s, sum);
  }
  return at;
}

}  // namespace pare::inline PARE_ABI
