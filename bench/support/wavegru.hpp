// SPDX-License-Identifier: Apache-2.0
// The pruned layers of a trained network that is stored as 4x4 blocks: NAME.shape, .block_values, .block_row_ptr,
// .block_col_idx in a safetensors file.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pare/io/bytes.hpp>
#include <pare/io/safetensors.hpp>
#include <pare/mask/mask.hpp>

namespace pare::bench {

struct block_layer {
  std::string name;
  matrix<float> values;
  mask keep;
};

inline result<std::vector<block_layer>> read_block_layers(std::filesystem::path const& path) {
  PARE_TRY(safetensors const file, safetensors::open(path));
  constexpr std::string_view suffix = ".block_values";
  std::vector<block_layer> layers;
  for (tensor_info const& blocks : file.tensors()) {
    if (!std::string_view(blocks.name).ends_with(suffix)) continue;
    std::string const name = blocks.name.substr(0, blocks.name.size() - suffix.size());
    auto const broken = [&](char const* what) { return in(path.string(), error{errc::malformed, name, what}); };
    auto const ints = [&](char const* part) {
      std::vector<index_t> out;
      tensor_info const* const t = file.find(name + part);
      if (t == nullptr || t->dtype != dtype_code::i32) return out;
      auto const bytes = file.bytes(*t);
      for (std::size_t i = 0; i + 4 <= bytes.size(); i += 4)
        out.push_back(static_cast<std::int32_t>(load_little<std::uint32_t>(bytes.data() + i)));
      return out;
    };
    auto const shape = ints(".shape");
    auto const begin = ints(".block_row_ptr");
    auto const columns = ints(".block_col_idx");
    if (shape.size() != 2 || shape[0] < 4 || shape[1] < 4 || shape[0] > 1 << 16 || shape[1] > 1 << 16)
      return broken("the shape must be two numbers from 4 to 65536");
    if (static_cast<index_t>(begin.size()) != shape[0] / 4 + 1 || begin.front() != 0 ||
        !std::is_sorted(begin.begin(), begin.end()) || begin.back() != static_cast<index_t>(columns.size()) ||
        blocks.dtype != dtype_code::f32 || blocks.end - blocks.begin != columns.size() * 64)
      return broken("rows, columns and values of the blocks disagree");
    block_layer layer{name, matrix<float>(shape[0], shape[1]), mask(extents{shape[0], shape[1]})};
    auto const bytes = file.bytes(blocks);
    for (std::size_t row = 0; row + 1 < begin.size(); ++row) {
      for (index_t b = begin[row]; b < begin[row + 1]; ++b) {
        index_t const column = columns[static_cast<std::size_t>(b)];
        if (column < 0 || column * 4 + 4 > shape[1]) return broken("a block's column is not in the matrix");
        for (index_t i = 0; i < 16; ++i) {
          index_t const r = static_cast<index_t>(row) * 4 + i / 4;
          auto const bits = load_little<std::uint32_t>(bytes.data() + (b * 16 + i) * 4);
          layer.keep.set(r, column * 4 + i % 4);
          layer.values(r, column * 4 + i % 4) = std::bit_cast<float>(bits);
        }
      }
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

}  // namespace pare::bench
