// SPDX-License-Identifier: Apache-2.0
// Sparse 8-bit SpMM: each of 16 rows looks up its own inputs in the register that holds a window of a column.
//
// A step of 64 elements and 16 columns: 2 loads, 16 vpermb, which read the windows, and 16 vpdpbusd. The sums are in
// lanes of rows, and a product ends with turning them.
#pragma once

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
  static panel_request panels(operand const&, index_t) noexcept {
    return {.vectors = most_vectors};
  }

  template <class A, epilogue E>
  static void run(operand const& w, int8_panel x, float* sums, y_tile y, E const& e, index_t r0, index_t r1) noexcept;

 private:
  static constexpr index_t most_vectors = 2;  // the sums of a block are 16 KB
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
    for (__m512i& d : dots) d = offsets;
    stream += operand::steps_at;
    for (index_t step = 0; step < of.steps; ++step, stream += operand::step_bytes) {
      __m512i const inputs = simd::load_bytes<A>(stream);
      __m512i const weights = simd::load_bytes<A>(stream + 64);
      std::int8_t const* const window = record + 64 * of.window_of(step);
      for (index_t j = 0; j < Columns; ++j) {
        __m512i const found = _mm512_permutexvar_epi8(inputs, _mm512_load_si512(window + j * column));
        dots[j] = simd::add_products<A>(dots[j], found, weights);
      }
    }
    float* const to = sums + of.number * stride;
    for (index_t j = 0; j < Columns; ++j) {
      __m512 const scale = _mm512_mul_ps(scales, _mm512_set1_ps(x_scales[j]));
      __m512 const sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[j]), scale, _mm512_load_ps(to + j * lanes));
      _mm512_store_ps(to + j * lanes, sum);
    }
  }
  return stream;
}
#endif

}  // namespace pare::inline PARE_ABI
