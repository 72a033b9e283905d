// SPDX-License-Identifier: Apache-2.0
// The sparse-bitmask form of compressed-tensors checkpoints: a pruned weight NAME, with X = NAME without ".weight",
//   X.shape       I64 [rank]                the true dimensions; rows = the first, columns = the others flattened
//   X.compressed  dtype [kept]              kept values in row-major order
//   X.bitmask     U8 [rows, ceil(cols/8)]   column c is bit c % 8 of byte c / 8; the bits after the last are 0
//   X.row_offsets I64 [rows]                kept values before each row (no total at the end)
// Older files keep ".weight" in X, and 2:4 files have a two-dimensional X.compressed and no offsets; both are read.
#pragma once

#include <pare/core/index.hpp>
#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>
#include <pare/io/bytes.hpp>
#include <pare/io/dtype.hpp>
#include <pare/io/json.hpp>
#include <pare/io/safetensors.hpp>
#include <pare/mask/mask.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pare::inline PARE_ABI {

/// A weight as a network takes it.
struct weight_tensor {
  matrix<float> values;  // 0 where keep is 0
  pare::mask keep;       // all ones for a tensor that was stored dense
  dtype_code stored{};
};

/// Rows = first dimension, columns = the others multiplied; a vector is a column, a scalar 1 x 1.
/// Where a first dimension of 0 hides an overflow of the others, columns are the largest index.
[[nodiscard]] inline extents flattened(std::span<index_t const> shape) noexcept {
  if (shape.empty()) return {1, 1};
  std::uint64_t cols = 0;
  if (!element_count(shape.subspan(1), cols)) return {shape[0], INT64_MAX};
  return {shape[0], static_cast<index_t>(cols)};
}

namespace detail {

[[nodiscard]] inline error not_finite_error(std::string_view tensor, index_t row, index_t col) {
  return {errc::not_finite, tensor_place(tensor),
          "element (" + std::to_string(row) + ", " + std::to_string(col) + ") is not a finite 32-bit number"};
}

}  // namespace detail

/// The tensors of one compressed weight, as found in a file. `row_offsets` may be absent.
struct sparse_bitmask_parts {
  tensor_info const* compressed = nullptr;
  tensor_info const* bitmask = nullptr;
  tensor_info const* shape = nullptr;
  tensor_info const* row_offsets = nullptr;
};

/// The true dimensions of a compressed weight; all sizes of the parts are checked against each other, so that a
/// matrix of these dimensions is at most 8 times as many elements as the bitmask has bytes. O(rank).
[[nodiscard]] inline result<std::vector<index_t>> sparse_bitmask_shape(safetensors const& file,
                                                                       sparse_bitmask_parts const& parts) {
  auto const fail = [](tensor_info const& t, std::string const& expected) {
    return error{errc::malformed, detail::tensor_place(t.name),
                 "expected " + expected + ", found " + std::string(name(t.dtype)) + " " + to_string(t.shape)};
  };
  tensor_info const& s = *parts.shape;
  bool const list = s.shape.size() == 1 || (s.shape.size() == 2 && s.shape[1] == 1);
  if (s.dtype != dtype_code::i64 || !list || s.shape[0] < 2 || s.shape[0] > 8)
    return fail(s, "I64 [rank] with a rank of 2 to 8");
  std::vector<index_t> shape;
  auto const bytes = file.bytes(s);
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    shape.push_back(static_cast<index_t>(load_little<std::uint64_t>(bytes.data() + i)));
    if (shape.back() < 1)
      return error{
          errc::malformed, detail::tensor_place(s.name),
          "dimension " + std::to_string(i / 8) + " is " + std::to_string(shape.back()) + "; expected 1 or more"};
  }
  std::uint64_t count = 0;
  if (!element_count(shape, count) || count > static_cast<std::uint64_t>(INT64_MAX) - 7)
    return error{errc::malformed, detail::tensor_place(s.name), "the dimensions overflow 64 bits"};
  auto const [rows, cols] = flattened(shape);
  if (tensor_info const& b = *parts.bitmask;
      b.dtype != dtype_code::u8 || b.shape != std::vector<index_t>{rows, ceil_div(cols, 8)})
    return fail(b, "U8 " + to_string(std::vector<index_t>{rows, ceil_div(cols, 8)}));
  if (tensor_info const& c = *parts.compressed; !is_weight_dtype(c.dtype) || c.shape.empty() || c.shape.size() > 2)
    return fail(c, "a list of F16, BF16, F32 or F64 values");
  if (tensor_info const* o = parts.row_offsets;
      o != nullptr && (o->dtype != dtype_code::i64 || o->shape != std::vector<index_t>{rows}))
    return fail(*o, "I64 [" + std::to_string(rows) + "]");
  return shape;
}

/// The weight; `logical` is its name in messages. Errors: errc::malformed where bitmask, values and offsets
/// disagree, errc::not_finite. O(rows * cols).
[[nodiscard]] inline result<weight_tensor> decode_sparse_bitmask(safetensors const& file,
                                                                 sparse_bitmask_parts const& parts,
                                                                 std::string_view logical) {
  PARE_TRY(auto const shape, sparse_bitmask_shape(file, parts));
  auto const [rows, cols] = flattened(shape);
  index_t const row_bytes = ceil_div(cols, 8);
  std::byte const* const bits_of = file.bytes(*parts.bitmask).data();
  auto const stored = file.bytes(*parts.compressed);
  dtype_code const dtype = parts.compressed->dtype;
  auto const kept = static_cast<index_t>(stored.size() / size_in_bytes(dtype));

  weight_tensor out{matrix<float>(rows, cols), mask(extents{rows, cols}), dtype};
  index_t total = 0;
  for (index_t r = 0; r < rows; ++r) {
    if (parts.row_offsets != nullptr) {
      auto const offset = static_cast<index_t>(
          load_little<std::uint64_t>(file.bytes(*parts.row_offsets).data() + static_cast<std::size_t>(r) * 8));
      if (offset != total)
        return error{errc::malformed, detail::tensor_place(parts.row_offsets->name),
                     "row " + std::to_string(r) + " starts at " + std::to_string(offset) + ", but the bitmask has " +
                         std::to_string(total) + " values before it"};
    }
    mask::word* const words = out.keep.row_words(r);
    for (index_t i = 0; i < row_bytes; ++i) {
      auto const byte = static_cast<unsigned>(bits_of[r * row_bytes + i]);
      if (i + 1 == row_bytes && cols % 8 != 0 && (byte >> (cols % 8)) != 0)
        return error{errc::malformed, detail::tensor_place(parts.bitmask->name),
                     "row " + std::to_string(r) + " has bits set after column " + std::to_string(cols - 1)};
      words[i / 8] |= mask::word{byte} << (8 * (i % 8));
      total += std::popcount(byte);
    }
  }
  if (total != kept)
    return error{errc::malformed, detail::tensor_place(parts.bitmask->name),
                 "has " + std::to_string(total) + " bits set, but " + detail::tensor_place(parts.compressed->name) +
                     " has " + std::to_string(kept) + " values"};

  std::vector<float> values(static_cast<std::size_t>(kept));
  to_floats(dtype, stored, values);
  float const* next = values.data();
  for (index_t r = 0; r < rows; ++r) {
    index_t bad = -1;
    out.keep.for_each_in_row(r, [&](index_t c) {
      if (!std::isfinite(*next) && bad < 0) bad = c;
      out.values(r, c) = *next++;
    });
    if (bad >= 0) return detail::not_finite_error(logical, r, bad);
  }
  return out;
}

/// The four tensors of one weight, owned.
class encoded_sparse_bitmask {
 public:
  /// Views for write_safetensors; valid as long as this object.
  [[nodiscard]] std::vector<tensor_source> tensors() const {
    auto const kept = static_cast<index_t>(compressed_.size() / size_in_bytes(dtype_));
    return {{prefix_ + ".shape", dtype_code::i64, {static_cast<index_t>(shape_.size() / 8)}, shape_},
            {prefix_ + ".compressed", dtype_, {kept}, compressed_},
            {prefix_ + ".bitmask", dtype_code::u8, {rows_, row_bytes_}, bitmask_},
            {prefix_ + ".row_offsets", dtype_code::i64, {rows_}, row_offsets_}};
  }

 private:
  friend result<encoded_sparse_bitmask> encode_sparse_bitmask(std::string_view, std::span<index_t const>,
                                                              matrix_span<float const>, mask const&, dtype_code);
  std::string prefix_;
  dtype_code dtype_{};
  index_t rows_ = 0;
  index_t row_bytes_ = 0;
  std::vector<std::byte> shape_, compressed_, bitmask_, row_offsets_;
};

/// Encodes a weight of true dimensions `shape`, keeping what `keep` keeps (zeros included), stored as `dtype`.
/// Errors: errc::unsupported for a rank below 2, errc::not_finite, errc::out_of_range where a value exceeds dtype.
/// Pre: is_weight_dtype(dtype); values and keep have the flattened shape.
[[nodiscard]] inline result<encoded_sparse_bitmask> encode_sparse_bitmask(std::string_view name,
                                                                          std::span<index_t const> shape,
                                                                          matrix_span<float const> values,
                                                                          mask const& keep, dtype_code dtype) {
  PARE_EXPECTS(is_weight_dtype(dtype), "encode_sparse_bitmask: weights are stored as F16, BF16, F32 or F64");
  PARE_EXPECTS(values.shape() == flattened(shape) && keep.shape() == values.shape(),
               "encode_sparse_bitmask: values and mask must have the flattened shape");
  if (shape.size() < 2 || values.shape().size() == 0)
    return error{errc::unsupported, detail::tensor_place(name),
                 "only non-empty tensors of rank 2 and more have a sparse-bitmask form, found " + to_string(shape)};
  encoded_sparse_bitmask out;
  out.prefix_ = name.ends_with(".weight") ? name.substr(0, name.size() - 7) : name;
  out.dtype_ = dtype;
  out.rows_ = values.rows;
  out.row_bytes_ = ceil_div(values.cols, 8);
  out.shape_.resize(shape.size() * 8);
  for (std::size_t i = 0; i < shape.size(); ++i)
    store_little(static_cast<std::uint64_t>(shape[i]), out.shape_.data() + i * 8);
  std::size_t const step = size_in_bytes(dtype);
  out.compressed_.resize(static_cast<std::size_t>(keep.count()) * step);
  out.bitmask_.resize(static_cast<std::size_t>(out.rows_ * out.row_bytes_));
  out.row_offsets_.resize(static_cast<std::size_t>(out.rows_) * 8);
  std::size_t kept = 0;
  for (index_t r = 0; r < values.rows; ++r) {
    store_little(std::uint64_t{kept}, out.row_offsets_.data() + static_cast<std::size_t>(r) * 8);
    index_t bad = -1;
    keep.for_each_in_row(r, [&](index_t c) {
      if (!std::isfinite(stored_value(dtype, values(r, c))) && bad < 0) bad = c;
      store_float(dtype, values(r, c), out.compressed_.data() + kept++ * step);
    });
    if (bad >= 0 && !std::isfinite(values(r, bad))) return detail::not_finite_error(name, r, bad);
    if (bad >= 0)
      return error{errc::out_of_range, detail::tensor_place(name),
                   "element (" + std::to_string(r) + ", " + std::to_string(bad) + ") is too large for " +
                       std::string(pare::name(dtype))};
    for (index_t i = 0; i < out.row_bytes_; ++i)
      out.bitmask_[static_cast<std::size_t>(r * out.row_bytes_ + i)] =
          static_cast<std::byte>((keep.row_words(r)[i / 8] >> (8 * (i % 8))) & 0xffu);
  }
  return out;
}

/// The "sparsity_config" of a config.json: what a reader of the checkpoint must know.
[[nodiscard]] inline nlohmann::json sparse_bitmask_config(double global_sparsity, std::string const& structure,
                                                          std::vector<std::string> const& targets) {
  nlohmann::json config = nlohmann::json::object();
  config["format"] = "sparse-bitmask";
  config["global_sparsity"] = global_sparsity;
  config["sparsity_structure"] = structure;
  config["targets"] = targets;
  config["ignore"] = nullptr;
  return config;
}

}  // namespace pare::inline PARE_ABI
