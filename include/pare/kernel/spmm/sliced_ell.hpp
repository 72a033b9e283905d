// SPDX-License-Identifier: Apache-2.0
// SpMM for slices of eight rows: one load brings four column offsets, another four weights.
#pragma once

#include <pare/kernel/operand/sliced_ell.hpp>

namespace pare::inline PARE_ABI {

/// 8 rows x 2 registers of columns, or 1 where there are no more (with 16 registers 8 x 1, or 4 x 2: half a slice at a
/// time). K is blocked so that the block of X stays in the first-level cache; rows without elements in an inner block
/// are not touched there.
///
/// A step with 2 registers: 16 loads of X folded into 16 multiply-adds, 2 loads of weights and 2 of offsets, a shuffle
/// for each weight that spreads it. Two loads a cycle are the limit: 16 / 20 of half the peak, minus the trips of
/// partial sums, which decide above 90 % sparsity.
///
/// Measured (Zen 5, 768 x 768), of the multiply-add peak: 70 % at 70 % sparsity, 63 at 90, 54 at 95. Slices of four
/// rows x 2 registers reach 62, 54 and 46, four rows x 4 registers 57 % at 90 % sparsity. Tried in vain: two steps a
/// turn of the loop; offsets and weights in streams of their own; offsets through a vector register (3 %). Offsets of 8
/// bits, two steps a load, save 4 % of a step, but bound blocks to 255 columns. Prefetching what is in the caches costs
/// 6 %; what is not, into the second-level cache only, 20 %.
/// Intel Xeon (by loads): 51, 43 and 37 %, limited by 26 loads a step; 49, 42 and 35 for 4096 x 4096. Tried in vain
/// there: half of the weights by shuffles (2 to 9 % slower); four rows x 4 registers (9 % better at 50 % sparsity, 5 %
/// worse at 95); 8 rows x 3 registers (3 to 5 % better at 70 and 80 %, 6 % worse at 95); blocks of columns of 24 to 64
/// KB.
template <weight_value T>
struct sliced_ell_spmm {
  using operand = sliced_ell<T>;
  static constexpr char const* name() noexcept { return "slices"; }
  template <class A>
  static panel_request panels(sliced_ell<T> const& w) noexcept {
    return {
        .vectors = w.vectors(), .same_stride = true, .block = w.block_columns(), .needs_sums = w.column_blocks() > 1};
  }

  template <class A, epilogue E>
  static void run(sliced_ell<T> const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0,
                  index_t r1) noexcept;

 private:
  using slice = typename sliced_ell<T>::slice;
  using step = typename sliced_ell<T>::step;
  /// Rows whose sums fit the registers: all of a slice, or half of it.
  template <class A, index_t Vectors>
  static constexpr index_t height = Vectors * 8 > (simd::has_32_registers<A> ? 16 : 8) ? 4 : 8;

  template <class A, index_t Vectors, epilogue E>
  static void block(sliced_ell<T> const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0) noexcept;
  template <class A, index_t Vectors, bool First, class Store>
  static step const* pass(slice const* s, slice const* end, step const* at, float const* columns, float* sums, bool far,
                          Store const& store) noexcept;

  /// The offsets of Height rows, four a word.
  template <index_t Height>
  struct offset_words {
    std::uint64_t word[Height / 4];
    explicit offset_words(std::uint16_t const* offsets) noexcept { std::memcpy(word, offsets, sizeof word); }
    [[nodiscard]] std::size_t operator[](index_t i) const noexcept {
      return sliced_ell<T>::offset_of(word[i / 4], i % 4);
    }
  };
};

template <weight_value T>
template <class A, epilogue E>
void sliced_ell_spmm<T>::run(sliced_ell<T> const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0,
                             index_t r1) noexcept {
  index_t const rows = w.block_rows();
  simd::with_processor<A, std::is_same_v<T, float>>([&]<class B>(std::type_identity<B>) {
    for (index_t r = r0; r < r1; r += rows) {
      if (x.vectors == 2) block<B, 2>(w, x, sums, y, e, r);
      if (x.vectors == 1) block<B, 1>(w, x, sums, y, e, r);
      if (sums != nullptr) sums += rows * x.vectors * simd::lanes<A>;
    }
  });
}

template <weight_value T>
template <class A, index_t Vectors, epilogue E>
void sliced_ell_spmm<T>::block(sliced_ell<T> const& w, x_panel x, float* sums, y_tile y, E const& e,
                               index_t r0) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t stride = Vectors * lanes;  // of sums
  index_t const b = r0 / w.block_rows();
  index_t const blocks = w.column_blocks();
  step const* at = w.steps(b);
  float const* columns = x.data;  // from the row of zeros on, where offsets count from
  constexpr index_t rows = height<A, Vectors>;
  auto const each_row = [](auto const& f) __attribute__((always_inline)) { simd::repeat<A, rows>(f); };
  auto const each_register = [](auto const& f) __attribute__((always_inline)) { simd::repeat<A, Vectors>(f); };
  auto const keep = [=](std::uint16_t const* row, floats const(&sum)[rows][Vectors]) __attribute__((always_inline)) {
    float* to[rows];
    each_row([&](index_t i) __attribute__((always_inline)) { to[i] = sums + row[i] * stride; });
    each_row([&](index_t i) __attribute__((always_inline)) {
      each_register([&](index_t t) __attribute__((always_inline)) { sum[i][t].store_aligned(to[i] + t * lanes); });
    });
  };
  auto const finish = [&](std::uint16_t const* rows_of_block, floats const(&sum)[rows][Vectors])
      __attribute__((always_inline)) {
    index_t row[rows];
    float* to[rows];
    each_row([&](index_t i) __attribute__((always_inline)) {
      row[i] = r0 + rows_of_block[i];
      to[i] = y.row(row[i]);
    });
    each_register([&](index_t t) __attribute__((always_inline)) {  // all before any is stored: y may be what e reads
      floats out[rows];
      each_row([&](index_t i)
                   __attribute__((always_inline)) { out[i] = e(sum[i][t], row[i], x.first_column + t * lanes); });
      each_row([&](index_t i) __attribute__((always_inline)) { out[i].store_unaligned(to[i] + t * lanes); });
    });
  };
  bool const far = w.far();
  if (blocks == 1) {
    pass<A, Vectors, true>(w.slices_begin(b, 0), w.slices_end(b, 0), at, columns, sums, far, finish);
    return;
  }
  for (index_t k = 0; k < blocks; ++k, columns += (w.block_columns() + 1) * x.stride) {
    slice const* const first = w.slices_begin(b, k);
    slice const* const end = w.slices_end(b, k);
    if (k == 0) {
      at = pass<A, Vectors, true>(first, end, at, columns, sums, far, keep);
    } else if (k + 1 < blocks) {
      at = pass<A, Vectors, false>(first, end, at, columns, sums, far, keep);
    } else {
      pass<A, Vectors, false>(first, end, at, columns, sums, far, finish);
    }
  }
}

// AVX-512: offsets are loaded three steps before they are used, four with a load; an address that comes straight from a
// load costs two cycles a step more, whatever the processor reorders (12.0 against 10.3 for 4 registers). AVX2 is short
// of instructions, not of loads: offsets one by one, a load for each (Intel Xeon: 58 instead of 47 %).
// Weights from beyond the caches are prefetched in each step, except for AMD's AVX-512, where a load slot is too dear:
// a slice's at once. Elsewhere that makes others wait: 4096 x 4096, 90 %, Intel: AVX-512 37 % instead of 42, AVX2 41
// instead of 52. Where all is near, the step itself is "prefetched", which costs nothing; 4 KB ahead costs 8 %.
template <weight_value T>
template <class A, index_t Vectors, bool First, class Store>
[[gnu::noinline]] typename sliced_ell<T>::step const* sliced_ell_spmm<T>::pass(slice const* s, slice const* end,
                                                                               step const* at, float const* columns,
                                                                               float* sums, bool far,
                                                                               Store const& store) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t stride = Vectors * lanes;
  constexpr index_t rows = height<A, Vectors>;
  constexpr bool by_words = simd::has_32_registers<A>;
  constexpr bool by_slice = simd::has_32_registers<A> && !simd::for_intel<A>;
  std::size_t const ahead = far ? 4096 : 0;
  auto const each_sum = [](auto const& f) __attribute__((always_inline)) {
    simd::repeat<A, rows>([&](index_t i) __attribute__((always_inline)) {
      simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) { f(i, t); });
    });
  };
  for (; s != end; at += s->steps, ++s) {
    if (by_slice && far)
      for (std::size_t n = 0; n < s->steps * sizeof(step); n += 64)
        __builtin_prefetch(reinterpret_cast<char const*>(at) + ahead + n);
    // A half that repeats a row of the other one is left out: a row is finished once.
    for (index_t first = s->missing / rows * rows; first < sliced_ell<T>::slice_rows; first += rows) {
      floats sum[rows][Vectors];
      each_sum([&](index_t i, index_t t) __attribute__((always_inline)) {
        sum[i][t] = First ? floats(0.0f) : floats::load_aligned(sums + s->row[first + i] * stride + t * lanes);
      });
      offset_words<rows> next_0(at->offset + first);
      offset_words<rows> next_1(at[1].offset + first);
      offset_words<rows> next_2(at[2].offset + first);
      step const* now = at;
      for (int n = s->steps; n > 0; --n, ++now) {
        if constexpr (!by_slice) __builtin_prefetch(reinterpret_cast<char const*>(now) + ahead);
        offset_words<rows> const offsets = next_0;
        next_0 = next_1;
        next_1 = next_2;
        next_2 = offset_words<rows>(now[3].offset + first);
        simd::weight_four<A> weight[rows / 4];
        simd::repeat<A, rows / 4>([&](index_t i) __attribute__((always_inline)) {
          weight[i] = simd::broadcast_four<A>(now->weight + first + 4 * i);
        });
        simd::repeat<A, rows>([&](index_t i) __attribute__((always_inline)) {
          std::size_t const offset = by_words ? offsets[i] : now->offset[first + i];
          auto const* const c = reinterpret_cast<float const*>(reinterpret_cast<char const*>(columns) + offset);
          simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) {
            sum[i][t] = simd::multiply_add<A>(weight[i / 4].row[i % 4], floats::load_aligned(c + t * lanes), sum[i][t]);
          });
        });
      }
      store(s->row + first, sum);
    }
  }
  return at;
}

}  // namespace pare::inline PARE_ABI
