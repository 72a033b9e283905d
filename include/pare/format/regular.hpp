// SPDX-License-Identifier: Apache-2.0
// The canonical format for a matrix whose mask is known at run time only.
#pragma once

#include <utility>

#include <pare/format/bitmap.hpp>
#include <pare/format/bsr.hpp>
#include <pare/format/csr.hpp>
#include <pare/format/dense.hpp>
#include <pare/format/n_of_m_packed.hpp>

namespace pare::inline PARE_ABI {

namespace detail {
template <class Format, class Pattern, class W, class F>
bool try_format(W const& w, mask const& keep, F& f) {
  if (!admits(Pattern{}, keep)) return false;
  f(compress<Format>(w, keep));
  return true;
}
}  // namespace detail

/// Calls f(format) with w in the most regular format that its mask allows: dense where nothing is pruned; BSR for whole
/// blocks 16x1, 4x4 or 4x1; N:M for 1:4, 2:4 or 4:8 where four fifths of the places are used; else bitmap, or CSR where
/// that is smaller (below 1/32 kept). O(M K).
template <weight_value T, class F>
void with_regular_format(dense<T> const& w, F&& f) {
  if (w.keeps_all()) {
    f(w);
    return;
  }
  mask const keep = kept(w);
  auto const& v = w.values();
  using detail::try_format;
  if (try_format<bsr<16, 1, T>, block<16, 1>>(v, keep, f)) return;
  if (try_format<bsr<4, 4, T>, block<4, 4>>(v, keep, f)) return;
  if (try_format<bsr<4, 1, T>, block<4, 1>>(v, keep, f)) return;
  // A mask much sparser than N / M fits N:M by chance; most of the places would hold nothing.
  auto const fills = [&](index_t n, index_t m) { return keep.count() * m * 5 >= keep.shape().size() * n * 4; };
  if (fills(1, 4) && try_format<n_of_m_packed<1, 4, T>, n_of_m<1, 4>>(v, keep, f)) return;
  if (fills(2, 4) && try_format<n_of_m_packed<2, 4, T>, n_of_m<2, 4>>(v, keep, f)) return;
  if (fills(4, 8) && try_format<n_of_m_packed<4, 8, T>, n_of_m<4, 8>>(v, keep, f)) return;
  if (keep.count() * 32 < keep.shape().size() && csr<T>::accepts(keep)) {
    f(compress<csr<T>>(v, keep));
  } else {
    f(compress<bitmap<T>>(v, keep));
  }
}

}  // namespace pare::inline PARE_ABI
