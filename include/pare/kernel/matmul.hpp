// SPDX-License-Identifier: Apache-2.0
// y = epilogue(W x): shapes, layouts and threads around the kernels.
//
// Where kernels are chosen at run time, what is in detail runs inside of kernel units, and so carries the architecture
// A in its type (see dispatch.hpp). The public functions check what they are given before.
#pragma once

#include <atomic>
#include <cstdint>

#include <pare/core/reduce.hpp>
#include <pare/kernel/columns.hpp>
#include <pare/kernel/dispatch.hpp>
#include <pare/kernel/execution.hpp>
#include <pare/kernel/int8_columns.hpp>
#include <pare/kernel/int8_panels.hpp>
#include <pare/kernel/kernel.hpp>
#include <pare/kernel/panels.hpp>
#include <pare/kernel/registry.hpp>

namespace pare::inline PARE_ABI {

namespace detail {

/// An epilogue for a column that a kernel takes for the first.
template <epilogue E>
struct at_column {
  static constexpr bool is_epilogue = true;
  E const& e;
  index_t column;
  template <class V>
  [[gnu::always_inline]] V operator()(V v, index_t row, index_t) const noexcept {
    return e(v, row, column);
  }
};

/// Below this many multiply-adds a second thread costs more than it brings.
inline constexpr index_t parallel_threshold = 200'000;

/// At which multiples of rows the work may be cut.
template <operand O>
[[nodiscard, gnu::always_inline]] inline index_t block_rows(O const& w) noexcept {
  if constexpr (requires { w.block_rows(); }) {
    return w.block_rows();
  } else {
    return 1;
  }
}

/// Rows [0, rows) cut into at most `parts` runs of about equal weight (stored elements, plus one for the row itself),
/// at those multiples of block_rows(w) that come nearest (of blocks as heavy as the last one). Writes parts + 1 ends
/// and returns the number of runs.
template <class A, operand O>
index_t split_rows(O const& w, index_t parts, index_t* ends) {
  index_t const rows = w.shape().rows;
  index_t const step = block_rows(w);
  auto const weight_at = [&](index_t r) -> index_t {
    if constexpr (requires { w.block_nnz(r); }) {
      return w.block_nnz(r / step) + step;
    } else {
      return w.row_nnz(r) + 1;
    }
  };
  index_t total = w.nnz() + rows;
  if constexpr (requires { w.block_nnz(rows); }) {  // may count padding, or bytes
    total = 0;
    for (index_t r = 0; r < rows && parts > 1; r += step) total += weight_at(r);
  }
  index_t part = 0;
  index_t weight = 0;
  ends[0] = 0;
  for (index_t r = 0; r < rows && part + 1 < parts; r += step) {
    index_t const block = weight_at(r);
    weight += block;
    if ((2 * weight + block) * parts > 2 * total * (part + 1)) ends[++part] = r + step < rows ? r + step : rows;
  }
  if (ends[part] < rows) ends[++part] = rows;
  return part;
}

/// Dense operands multiply their pruned zeros, which is right only for finite x: 0 * Inf is NaN. Where x is not finite
/// the stored elements are visited one by one instead.
template <operand O>
inline constexpr bool stores_zeros = requires(O const& w) {
  w.keeps_all();
};

/// A number for each multiplication whose threads pack X for themselves; never 0.
template <class A>
[[nodiscard]] std::uint64_t next_call() noexcept {
  static std::atomic<std::uint64_t> calls{0};
  return calls.fetch_add(1, std::memory_order_relaxed) + 1;
}
/// The one whose X this thread has packed last; 0: none of them.
template <class A>
[[nodiscard]] std::uint64_t& packed_for() noexcept {
  thread_local std::uint64_t call = 0;
  return call;
}

/// One multiplication with an SpMM kernel: how X is cut into panels, and what is done for some rows and panels.
template <class Kernel, class A, epilogue E>
class panel_product {
  using operand_type = typename Kernel::operand;
  static constexpr index_t lanes = simd::lanes<A>;
  static constexpr bool rounds = int8_spmm_kernel<Kernel>;
  static constexpr bool looks_at_x = rounds || stores_zeros<operand_type>;
  /// A kernel takes so many rows at once, where W's blocks are not higher.
  static constexpr index_t rows_at_once = 96;
  /// Rows for all panels before the next rows: while all panels stay in the second-level cache, as few as that, and the
  /// weights come from memory once, then from there too. Panels that do not would come anew for each of them, so as
  /// many rows as have these bytes.
  static constexpr index_t near_bytes = 512 * 1024;
  static constexpr index_t far_bytes = 4 * 1024 * 1024;
  /// X is read in place, where the kernel can, while it stays in the second-level cache wherever its rows lie. A copy
  /// costs its time and the room of one: 16 x 1, 768 x 768 with 128 columns (Intel): 3, 6 and 14 % faster without at
  /// 50, 70 and 90 % sparsity, 4 x 4 3, 5 and 11. dense_tile_spmm is slower without: 87 % of the peak instead of 93.
  static constexpr index_t in_place_bytes = 512 * 1024;

 public:
  panel_product(operand_type const& w, matrix_span<float const> x, matrix_span<float> y, E const& e)
      : w_(w), x_(x), y_(y), e_(e), request_(Kernel::template panels<A>(w)) {
    width_ = request_.vectors * lanes;
    if constexpr (rounds) {
      rows_ = ceil_div(x.rows, Kernel::group) * (int8_panel_record<Kernel::group, Kernel::order> / (4 * lanes));
    } else {
      rows_ = panel_rows(x.rows, request_.block);
    }
    in_place_ = can_read_in_place();
    index_t const step = block_rows(w);
    rows_at_once_ = request_.rows > 0 ? request_.rows : step >= rows_at_once ? step : rows_at_once / step * step;
    rows_for_all_ = rows_at_once_;
    index_t const bytes = static_cast<index_t>(w.bytes());
    if (panels() > 1 && size() * static_cast<index_t>(sizeof(float)) > near_bytes)
      rows_for_all_ *= bytes > far_bytes ? ceil_div(ceil_div(w.shape().rows * far_bytes, bytes), rows_at_once_)
                                         : ceil_div(w.shape().rows, rows_at_once_);
  }

  [[nodiscard]] index_t panels() const noexcept { return ceil_div(y_.cols, width_); }
  /// Whether each of several threads packs X for itself: what another core has just packed is slow to read (30 to 40 us
  /// for 768 x 128 floats on two threads, with 12 to pack the other half too). Where it fits a core's caches.
  [[nodiscard]] bool packs_alone() const noexcept { return !rounds && !in_place_ && size() <= 128 * 1024; }
  [[nodiscard]] bool packs() const noexcept { return !in_place_; }
  /// Room for packed X in working memory of this thread.
  [[nodiscard]] float* reserve() const {
    packed_for<A>() = 0;
    return room();
  }
  /// Packed X in working memory of this thread, which packs it when it comes here for the first time in a call, or when
  /// it has packed something else since.
  [[nodiscard]] float const* packed_here(std::uint64_t call) const {
    if (packed_for<A>() == call) return room();
    float* const packed = reserve();
    for (index_t p = 0; p < panels(); ++p) {
      pack(packed, p, 0, 1);
      look_at(packed, p);
    }
    packed_for<A>() = call;
    return packed;
  }
  /// Into so many parts, at most `most`, a panel may be cut to be packed.
  [[nodiscard]] index_t packing_parts(index_t most) const noexcept {
    index_t const steps = rounds ? 1 : ceil_div(x_.rows, panel_step(request_.block));
    return steps < most ? (steps > 1 ? steps : 1) : most;
  }
  void pack(float* packed, index_t panel, index_t part, index_t parts) const noexcept {
    float* const out = packed + panel * width_ * rows_;
    if constexpr (rounds) {
      bool const finite = pack_int8_panel<A, Kernel::group, Kernel::order>(
          x_, panel * width_, columns(panel), vectors(panel), reinterpret_cast<std::int8_t*>(out));
      packed[size() + panel] = finite ? 1.0f : 0.0f;
    } else {
      index_t const step = panel_step(request_.block);
      index_t const steps = ceil_div(x_.rows, step);
      index_t const k0 = steps * part / parts * step;
      index_t const k1 = part + 1 < parts ? steps * (part + 1) / parts * step : x_.rows;
      pack_panel<A>(x_, k0, k1, panel * width_, columns(panel), stride(panel), request_.block, out);
    }
  }
  /// After a panel is packed; false where the kernel cannot multiply it.
  bool look_at(float* packed, index_t panel) const noexcept {
    if constexpr (stores_zeros<operand_type> && !rounds) {
      bool const finite = w_.keeps_all() || all_finite<A>(data(packed, panel), rows_ * stride(panel));
      packed[size() + panel] = finite ? 1.0f : 0.0f;
    }
    return !rounds || packed[size() + panel] != 0.0f;
  }

  /// Rows [r0, r1) of panels [p0, p1).
  void multiply(float const* packed, index_t r0, index_t r1, index_t p0, index_t p1) const {
    multiply(packed, r0, r1, p0, p1, [](index_t) {});
  }
  /// All of it; each panel is packed just before it is multiplied, while it is near.
  void pack_and_multiply(float* packed) const {
    multiply(packed, 0, y_.rows, 0, panels(), [&](index_t p) {
      if (packs()) pack(packed, p, 0, 1);
      look_at(packed, p);
    });
  }

 private:
  /// before(p) comes before the first product with panel p.
  template <class Before>
  void multiply(float const* packed, index_t r0, index_t r1, index_t p0, index_t p1, Before const& before) const {
    for (index_t first = r0; first < r1; first += rows_for_all_) {
      index_t const last = r1 - first < rows_for_all_ ? r1 : first + rows_for_all_;
      for (index_t p = p0; p < p1; ++p) {
        if (first == r0) before(p);
        for (index_t r = first; r < last; r += rows_at_once_) {
          index_t const end = last - r < rows_at_once_ ? last : r + rows_at_once_;
          if constexpr (stores_zeros<operand_type> && !rounds) {
            if (packed[size() + p] == 0.0f) {
              multiply_panel<generic_spmm<operand_type>>(packed, p, r, end);
              continue;
            }
          }
          multiply_panel<Kernel>(packed, p, r, end);
        }
      }
    }
  }

  [[nodiscard]] bool can_read_in_place() const noexcept {
    if (looks_at_x || !request_.any_stride || x_.col_stride != 1) return false;
    index_t const last = panels() - 1;
    bool const whole_registers = columns(last) == vectors(last) * lanes && x_.row_stride % lanes == 0 &&
                                 reinterpret_cast<std::uintptr_t>(x_.data) % (lanes * sizeof(float)) == 0;
    return whole_registers && x_.row_stride >= x_.cols &&
           x_.rows * x_.row_stride * static_cast<index_t>(sizeof(float)) <= in_place_bytes;
  }
  [[nodiscard]] float const* data(float const* packed, index_t panel) const noexcept {
    return in_place_ ? x_.data + panel * width_ : packed + panel * width_ * rows_;
  }
  [[nodiscard]] float* room() const { return scratch<A>(0, size() + (looks_at_x ? panels() : 0)); }
  /// Floats of all panels that are packed.
  [[nodiscard]] index_t size() const noexcept {
    if (in_place_) return 0;
    index_t const last = panels() - 1;
    return rows_ * (last * width_ + stride(last));
  }
  /// From row to row of a packed panel.
  [[nodiscard]] index_t stride(index_t panel) const noexcept {
    return request_.same_stride ? width_ : vectors(panel) * lanes;
  }
  [[nodiscard]] index_t columns(index_t panel) const noexcept {
    index_t const left = y_.cols - panel * width_;
    return left < width_ ? left : width_;
  }
  [[nodiscard]] index_t vectors(index_t panel) const noexcept {
    index_t const needed = ceil_div(columns(panel), lanes);
    return needed <= 4 ? needed : round_up(needed, 2);
  }
  /// Where Y cannot take whole registers (token-major, last columns) through a tile.
  template <class K>
  void multiply_panel(float const* packed, index_t panel, index_t r0, index_t r1) const {
    auto const x = [&] {
      float const* const in = data(packed, panel);
      if constexpr (rounds) {
        return int8_panel{reinterpret_cast<std::int8_t const*>(in), vectors(panel), columns(panel), panel * width_};
      } else {
        return x_panel{in, in_place_ ? x_.row_stride : stride(panel), vectors(panel), panel * width_};
      }
    }();
    index_t const width = x.vectors * lanes;
    bool const direct = y_.col_stride == 1 && columns(panel) == width;
    y_tile const y{y_.data + x.first_column, y_.row_stride, 0};
    y_tile tile{};
    if (!direct || request_.needs_sums) tile = {scratch<A>(2, (r1 - r0) * width), width, r0};
    K::template run<A>(w_, x, tile.data, direct ? y : tile, e_, r0, r1);
    if (!direct) unpack_tile<A>(tile.data, width, columns(panel), y_.row_range(r0, r1 - r0), x.first_column);
  }

  operand_type const& w_;
  matrix_span<float const> x_;
  matrix_span<float> y_;
  E const& e_;
  panel_request request_;
  bool in_place_ = false;
  index_t width_;
  index_t rows_;
  index_t rows_at_once_;
  index_t rows_for_all_;
};

/// Kernels that need not run on every architecture say so.
template <class Kernel, class A>
inline constexpr bool runs_kernel = true;
template <class Kernel, class A>
  requires requires { Kernel::template runs_on<A>; }
inline constexpr bool runs_kernel<Kernel, A> = Kernel::template runs_on<A>;

/// The multiplication with one kernel, nothing checked.
template <class Kernel, class A, epilogue E, class Exec>
void multiply_with(typename Kernel::operand const& w, matrix_span<float const> x, matrix_span<float> y, E const& e,
                   Exec& exec) {
  index_t const rows = w.shape().rows;
  index_t const cols = w.shape().cols;
  if (rows == 0 || y.cols == 0) return;

  index_t const threads = w.nnz() * y.cols < detail::parallel_threshold ? 1 : exec.concurrency();
  constexpr index_t most_parts = 256;
  index_t ends[most_parts + 1];
  // Four runs a thread even out what the weights do not show.
  index_t const wanted = threads == 1 ? 1 : threads * 4;
  index_t const parts = detail::split_rows<A>(w, wanted < most_parts ? wanted : most_parts, ends);
  auto const share = [&](index_t n, auto const& body) {
    if (threads == 1) {
      for (index_t i = 0; i < n; ++i) body(i);
    } else {
      exec.parallel(n, body);
    }
  };

  if constexpr (gemv_kernel<Kernel>) {
    float const* const vector = detail::pack_vector<A>(x, detail::scratch<A>(1, cols));
    bool only_stored = false;
    if constexpr (detail::stores_zeros<typename Kernel::operand>)
      only_stored = !w.keeps_all() && !all_finite<A>(vector, cols);
    share(parts, [&](index_t part) {
      if constexpr (detail::stores_zeros<typename Kernel::operand>) {
        using every_one = generic_gemv<typename Kernel::operand>;
        if (only_stored)
          return every_one::template run<A>(w, vector, y.data, y.row_stride, e, ends[part], ends[part + 1]);
      }
      Kernel::template run<A>(w, vector, y.data, y.row_stride, e, ends[part], ends[part + 1]);
    });
  } else if constexpr (few_columns_kernel<Kernel>) {
    if constexpr (detail::stores_zeros<typename Kernel::operand>) {
      bool finite = true;  // known before anything is stored, because epilogues may read y
      for (index_t first = 0; first < y.cols && !w.keeps_all(); first += detail::most_columns)
        finite = finite && detail::pack_columns<A>(x, first).finite;
      if (!finite) return multiply_with<generic_spmm<typename Kernel::operand>, A>(w, x, y, e, exec);
    }
    for (index_t first = 0; first < y.cols; first += detail::most_columns) {
      x_columns const columns = detail::pack_columns<A>(x, first);
      share(parts, [&](index_t part) { Kernel::template run<A>(w, columns, y, e, ends[part], ends[part + 1]); });
    }
  } else if constexpr (int8_kernel<Kernel>) {
    if constexpr (Kernel::template runs_on<A>) {
      constexpr index_t group = Kernel::group;
      int8_columns columns;
      float* const memory = detail::scratch<A>(1, detail::int8_floats<group>(cols, x.cols));
      if (detail::quantise_columns<A, group>(x, memory, columns))
        return share(parts,
                     [&](index_t part) { Kernel::template run<A>(w, columns, y, e, ends[part], ends[part + 1]); });
    }
    multiply_with<generic_spmm<typename Kernel::operand>, A>(w, x, y, e, exec);
  } else if constexpr (!runs_kernel<Kernel, A>) {
    multiply_with<generic_spmm<typename Kernel::operand>, A>(w, x, y, e, exec);
  } else {
    detail::panel_product<Kernel, A, E> const product(w, x, y, e);
    if constexpr (!int8_spmm_kernel<Kernel>)  // those look at all of X before they multiply
      if (threads == 1) return product.pack_and_multiply(product.reserve());
    index_t const panels = product.panels();
    std::uint64_t const call = threads > 1 && product.packs_alone() ? detail::next_call<A>() : 0;
    float* const packed = call == 0 ? product.reserve() : nullptr;  // nowhere either where X is read in place
    if (call == 0) {
      index_t const cuts = threads == 1 ? 1 : product.packing_parts(ceil_div(wanted, panels));
      if (product.packs()) share(panels * cuts, [&](index_t i) { product.pack(packed, i / cuts, i % cuts, cuts); });
      bool multiplies = true;
      for (index_t p = 0; p < panels; ++p) multiplies = product.look_at(packed, p) && multiplies;
      if (!multiplies) {
        if constexpr (int8_spmm_kernel<Kernel>)
          multiply_with<generic_spmm<typename Kernel::operand>, A>(w, x, y, e, exec);
        return;
      }
    }
    // Few blocks of rows: the panels are shared out as well.
    index_t const groups = parts >= wanted ? 1 : (panels < wanted ? panels : wanted);
    share(parts * groups, [&](index_t i) {
      index_t const part = i / groups;
      index_t const group = i % groups;
      product.multiply(call == 0 ? packed : product.packed_here(call), ends[part], ends[part + 1],
                       panels * group / groups, panels * (group + 1) / groups);
    });
  }
}

/// What the operand has a kernel for. One for many columns that does not run on A counts only where there is no other.
template <class Operand>
inline constexpr bool has_few_kernel = requires {
  typename kernels_of<Operand>::few;
};
template <class Operand, class A>
inline constexpr bool has_spmm_kernel = false;
template <class Operand, class A>
  requires requires { typename kernels_of<Operand>::spmm; }
inline constexpr bool has_spmm_kernel<Operand, A> =
    runs_kernel<typename kernels_of<Operand>::spmm, A> || !has_few_kernel<Operand>;

/// The multiplication with the operand's kernel for so many columns, nothing checked.
template <class A, operand O, epilogue E, class Exec>
void multiply(O const& w, matrix_span<float const> x, matrix_span<float> y, E const& e, Exec& exec) {
  if constexpr (requires { typename kernels_of<O>::gemv; }) {
    if (x.cols == 1) return multiply_with<typename kernels_of<O>::gemv, A>(w, x, y, e, exec);
  }
  constexpr bool has_spmm = has_spmm_kernel<O, A>;
  if constexpr (has_few_kernel<O>) {
    if (!has_spmm || x.cols <= most_columns) return multiply_with<typename kernels_of<O>::few, A>(w, x, y, e, exec);
  }
  if constexpr (has_spmm) {
    multiply_with<typename kernels_of<O>::spmm, A>(w, x, y, e, exec);
  } else if constexpr (requires { typename kernels_of<O>::gemv; }) {
    for (index_t n = 0; n < x.cols; ++n)
      multiply_with<typename kernels_of<O>::gemv, A>(w, x.col_range(n, 1), y.col_range(n, 1), at_column<E>{e, n}, exec);
  }
}

inline void expect_shapes(extents w, extents x, extents y) {
  PARE_EXPECTS(x.rows == w.cols,
               "matmul: x must have one row per input of W (pass token-major activations as .transposed())");
  PARE_EXPECTS(y.rows == w.rows, "matmul: y must have one row per output of W");
  PARE_EXPECTS(x.cols == y.cols, "matmul: x and y must have equally many columns");
}

}  // namespace detail

/// The multiplication with one given kernel: y = e(W x). See `matmul` for shapes and errors.
template <class Kernel, class A = simd::default_arch, epilogue E = identity, execution X = sequential>
void matmul_with(typename Kernel::operand const& w, matrix_span<float const> x, matrix_span<float> y, E const& e = {},
                 X&& exec = X{}) {
  detail::expect_shapes(w.shape(), x.shape(), y.shape());
  if constexpr (gemv_kernel<Kernel>) PARE_EXPECTS(y.cols == 1, "matmul: a GEMV kernel takes one column");
  detail::multiply_with<Kernel, A>(w, x, y, e, exec);
}

/// y = e(W x) with the operand's kernels: the one for a single column, for up to eight, or for many; where an operand
/// has none for so many columns, with another of its kernels, some columns at a time.
///
/// Shapes:     W (M, K); x (K, N), any strides (token-major activations (N, K) as `x.transposed()`); y (M, N), any
///             strides, must not overlap x.
/// Pre:        extents agree (contract).
/// Complexity: 2 nnz N flops; the first call of a size on a thread allocates K N floats of scratch, and where y is not
///             feature-major, N no multiple of a register or W wide, those of a tile of y; later ones nothing.
/// Numerics:   float accumulation in an order that the operand fixes; only stored elements are multiplied, so Inf or
///             NaN in x reaches only the outputs that a stored weight connects. Bitwise equal for any execution and
///             any layout of x and y.
///             Operands of 8-bit codes (int8_dense, ...) round x to 8 bits by group of inputs with the scale
///             s = max|x| / 127: y is W times the rounded x, and |y - W x| <= sum over groups of (s / 2) sum |w|, up to
///             float rounding, where no product of a weight's scale and s overflows or falls below 2^-126. With Inf or
///             NaN anywhere in x nothing is rounded.
/// Threads:    rows are shared out by stored elements; small products run on the calling thread.
///             Two threads are 1.8 to 1.95 times as fast as one (768 x 768 to 4096 x 4096, 128 columns; 1.78 for the
///             first at 90 % sparsity).
/// A:          the architecture that W was laid out for; where none is named, W is for machine_for<Operand>().
template <class A = simd::best_arch, class Operand, matrix_view X, matrix_view Y, epilogue E = identity,
          execution Exec = sequential>
  requires operand<Operand>
void matmul(Operand const& w, X const& x, Y&& y, E const& e = {}, Exec&& exec = Exec{}) {
  static_assert(std::is_same_v<element_t<X>, float> && std::is_same_v<element_t<Y>, float>,
                "pare::matmul: activations are float; weights may be float or bf16");
  auto const in = as_span(x);
  auto const out = as_mutable_span(y);
  detail::expect_shapes(w.shape(), in.shape(), out.shape());
  if constexpr (detail::is_dispatched<A, Operand>) {
    detail::multiply_dispatched(w, in, out, e, exec);
  } else {
    detail::multiply<detail::compiled_arch<A>>(w, in, out, e, exec);
  }
}

}  // namespace pare::inline PARE_ABI
