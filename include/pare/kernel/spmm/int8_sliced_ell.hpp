// SPDX-License-Identifier: Apache-2.0
// Sparse 8-bit SpMM: each of 16 rows looks up its own inputs in the register that holds a window of a column.
//
// A step of 64 elements and 16 columns: 2 loads, 16 vpermb, which read the windows, and 16 vpdpbusd; 11 cycles. 16 rows
// and 128 inputs end with 16 conversions, products of the scales and multiply-adds, a product of W and X with turning
// the sums, which are in lanes of rows: 50 cycles for both with K = 768.
//
// What bounds it: vpdpbusd runs on two of Zen 5's ports, a permutation of bytes on one of these and a third one. So 64
// elements of a column take 2/3 of a cycle (0.69 measured), 64 products of the dense tile 1/2: with a density d and
// p slots for an element this cannot be more than 0.75 / (d p) times as fast, 1.27 times at 50 % (p = 1.18; 1.5 with
// 2:4, whose rows are equally long). At 50 % unstructured 1.6 is out of reach of any kernel that permutes once a
// product. Those that permute less have other bounds (estimated from the ports, not built): quads of inputs made of
// pairs that wait in the first-level cache take a load a product and those of sums and weights, at most 1.4; a blend of
// two quads and a rest to be looked up, 1.3 with the padding of the rest.
//
// Measured on one core of a Zen 5, 128 columns, times int8_tile_spmm (x rounded and packed on each call in both):
//   50 / 70 / 80 / 90 / 95 %: 768 x 768 1.05 / 1.44 / 1.8 / 2.4 / 2.8; 4096 x 4096 1.05 / 1.58 / 1.9 / 2.7 / 3.3;
//   2:4 1.17, 1:4 1.9.
//
// Dropped: one window of 128 in two registers, vpermi2b or vpermt2b: 8 of them with their products take 7.7 cycles
// instead of 5.7, presumably because each reads three registers, as vpdpbusd does; windows of eight columns in
// registers: no faster than from memory, and fewer columns for a load of inputs; the middle window read across lines: 9
// cycles instead of 6. Blocks of 64 rows and panels of 64 columns: no difference. Without prefetching 4096 x 4096 takes
// 10 % longer. Not tried: sorting the rows in every group, whose turning 16 x 16 sums each time costs most of what it
// saves.
#pragma once

#include <pare/kernel/bytes.hpp>
#include <pare/kernel/int8_panels.hpp>
#include <pare/kernel/operand/int8_sliced_ell.hpp>

namespace pare::inline PARE_ABI {

template <index_t G>
struct int8_sliced_ell_spmm {
  using operand = int8_sliced_ell<G>;
  static constexpr char const* name() noexcept { return "sliced"; }
  static constexpr index_t group = operand::group;
  static constexpr detail::int8_order order = detail::int8_order::windows;

  template <class A>
  static constexpr bool runs_on = simd::multiplies_bytes<A>;

  template <class A>
  static panel_request panels(operand const&) noexcept {
    return {.vectors = most_vectors};
  }

  template <class A, epilogue E>
  static void run(operand const& w, int8_panel x, float* sums, y_tile y, E const& e, index_t r0, index_t r1) noexcept;

 private:
  static constexpr index_t most_vectors = 2;  // the sums of a block are 16 KB
  static constexpr index_t ahead = 8192;      // bytes of the stream
  static constexpr index_t lanes = operand::slice_rows;
  static_assert(lanes == 16);

  template <class A, epilogue E>
  static void block(operand const& w, int8_panel x, y_tile y, E const& e, index_t b) noexcept;
  template <class A, index_t Columns>
  static std::uint8_t const* pass(typename operand::slice const* slices, index_t count, std::uint8_t const* stream,
                                  std::int8_t const* record, float* sums, index_t stride) noexcept;
};

template <index_t G>
template <class A, epilogue E>
void int8_sliced_ell_spmm<G>::run(operand const& w, int8_panel x, float*, y_tile y, E const& e, index_t r0,
                                  index_t r1) noexcept {
  for (index_t r = r0; r < r1; r += operand::height) block<A>(w, x, y, e, r / operand::height);
}

template <index_t G>
template <class A, epilogue E>
void int8_sliced_ell_spmm<G>::block([[maybe_unused]] operand const& w, [[maybe_unused]] int8_panel x,
                                    [[maybe_unused]] y_tile y, [[maybe_unused]] E const& e,
                                    [[maybe_unused]] index_t b) noexcept {
#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
  constexpr index_t record = detail::int8_panel_record<group, order>;
  alignas(alignment) float sums[operand::height * most_vectors * lanes];  // by slice, column and row
  index_t const width = x.vectors * lanes;
  index_t const slices = w.slices_in(b);
  std::memset(sums, 0, static_cast<std::size_t>(slices * width * lanes) * sizeof(float));
  typename operand::slice const* of = w.slices(b);
  std::uint8_t const* stream = w.stream(b);
  std::int8_t const* records = x.records;
  for (index_t g = 0; g < w.groups(); ++g, of += operand::most_slices) {
    std::uint8_t const* const from = stream;
    for (index_t c = 0; c < width; c += lanes, records += record) {
      if (x.columns - c > lanes / 2) {
        stream = pass<A, lanes>(of, slices, from, records, sums + c * lanes, width * lanes);
      } else {
        stream = pass<A, lanes / 2>(of, slices, from, records, sums + c * lanes, width * lanes);
      }
    }
  }
  for (index_t i = 0; i < w.rows_of(b); i += lanes)
    for (index_t c = 0; c < width; c += lanes) {
      alignas(alignment) float rows[lanes * lanes];
      float const* columns[lanes];
      for (index_t j = 0; j < lanes; ++j) columns[j] = sums + i * width + (c + j) * lanes;
      detail::transpose_block<A>(columns, rows, lanes);
      for (index_t j = 0; j < lanes && i + j < w.rows_of(b); ++j) {
        index_t const r = w.row_at(b, i + j);
        e(simd::floats<A>::load_aligned(rows + j * lanes), r, x.first_column + c).store_unaligned(y.row(r) + c);
      }
    }
#endif
}

#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
/// One group of up to 16 columns for all slices of a block. Not inlined: the loops around it would have g++ park their
/// variables in vector registers.
template <index_t G>
template <class A, index_t Columns>
[[gnu::noinline]] std::uint8_t const* int8_sliced_ell_spmm<G>::pass(typename operand::slice const* slices,
                                                                    index_t count, std::uint8_t const* stream,
                                                                    std::int8_t const* record, float* sums,
                                                                    index_t stride) noexcept {
  constexpr index_t column = detail::int8_column_codes<group, order>;
  auto const* const x_scales = reinterpret_cast<float const*>(record + detail::int8_panel_codes<group, order>);
  for (index_t n = 0; n < count; ++n) {
    typename operand::slice const of = slices[n];
    __m512i const offsets = simd::load_bytes<A>(stream);
    __m512 const scales = _mm512_load_ps(reinterpret_cast<float const*>(stream + operand::scales_at));
    __m512i dots[Columns];
    simd::repeat<A, Columns>([&](index_t j) __attribute__((always_inline)) { dots[j] = offsets; });
    stream += operand::steps_at;
    for (index_t step = 0; step < of.steps; ++step, stream += operand::step_bytes) {
      __m512i const inputs = simd::load_bytes<A>(stream);
      __m512i const weights = simd::load_bytes<A>(stream + 64);
      __builtin_prefetch(stream + ahead);
      __builtin_prefetch(stream + ahead + 64);
      std::int8_t const* const window = record + 64 * of.window_of(step);
      simd::repeat<A, Columns>([&](index_t j) __attribute__((always_inline)) {
        __m512i const found = _mm512_permutexvar_epi8(inputs, _mm512_load_si512(window + j * column));
        dots[j] = simd::add_products<A>(dots[j], found, weights);
      });
    }
    float* const to = sums + of.number * stride;
    simd::repeat<A, Columns>([&](index_t j) __attribute__((always_inline)) {
      __m512 const scale = _mm512_mul_ps(scales, _mm512_set1_ps(x_scales[j]));
      __m512 const sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[j]), scale, _mm512_load_ps(to + j * lanes));
      _mm512_store_ps(to + j * lanes, sum);
    });
  }
  return stream;
}
#endif

}  // namespace pare::inline PARE_ABI
