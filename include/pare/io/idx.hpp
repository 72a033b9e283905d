// SPDX-License-Identifier: Apache-2.0
// idx, the format of MNIST: big-endian 32-bit magic (2051 images, 2049 labels), count, rows, columns, then bytes.
// Plain or gzip-compressed; the size is checked against the header before anything of that size is allocated.
#pragma once

#include <pare/core/index.hpp>
#include <pare/core/result.hpp>
#include <pare/io/bytes.hpp>
#include <pare/io/file.hpp>
#include <pare/io/gzip.hpp>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace pare::inline PARE_ABI {

/// Grey images, one after another, each row-major.
struct idx_images {
  index_t count = 0;
  index_t rows = 0;
  index_t cols = 0;
  std::vector<std::uint8_t> pixels;
};

namespace detail {

/// The content of an idx file: its dimensions and its bytes.
struct idx_content {
  std::vector<index_t> shape;
  std::vector<std::uint8_t> data;
};

[[nodiscard]] inline result<idx_content> parse_idx(std::span<std::byte const> file, std::uint32_t magic) {
  auto const malformed = [](std::string what) { return error{errc::malformed, "", std::move(what)}; };
  std::size_t const rank = magic & 0xffu;
  std::size_t const header = 4 + 4 * rank;
  std::vector<std::byte> unpacked;
  auto const content = [&](std::size_t limit) -> result<std::span<std::byte const>> {
    if (!is_gzip(file)) return file;
    PARE_TRY(unpacked, gunzip(file, limit));
    return std::span<std::byte const>(unpacked);
  };
  PARE_TRY(auto bytes, content(header));
  if (bytes.size() < header) return malformed("ends inside the idx header");
  if (auto const found = load_big<std::uint32_t>(bytes.data()); found != magic)
    return malformed("expected the idx magic " + std::to_string(magic) + ", found " + std::to_string(found));
  idx_content out;
  std::uint64_t size = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    auto const d = load_big<std::uint32_t>(bytes.data() + 4 + 4 * i);
    out.shape.push_back(static_cast<index_t>(d));
    if (!checked_multiply(size, d, size)) return malformed("the idx dimensions overflow 64 bits");
  }
  // deflate shrinks at most about 1032 times: a larger claim is a lie
  if (size > std::uint64_t{1040} * file.size())
    return malformed("claims " + std::to_string(size) + " bytes of data, more than the file can hold");
  PARE_TRY(bytes, content(header + static_cast<std::size_t>(size) + 1));
  if (bytes.size() - header != size)
    return malformed("claims " + std::to_string(size) + " bytes of data, found " +
                     (bytes.size() - header > size ? std::string("more") : std::to_string(bytes.size() - header)));
  out.data.resize(static_cast<std::size_t>(size));
  std::transform(bytes.begin() + static_cast<std::ptrdiff_t>(header), bytes.end(), out.data.begin(),
                 [](std::byte b) { return static_cast<std::uint8_t>(b); });
  return out;
}

[[nodiscard]] inline result<idx_content> read_idx(std::filesystem::path const& path, std::uint32_t magic) {
  PARE_TRY(auto const file, read_file(path));
  auto content = parse_idx(file, magic);
  if (!content) return in(path.string(), std::move(content.error()));
  return content;
}

}  // namespace detail

/// An idx3-ubyte file, or its .gz. Errors: errc::io, errc::malformed, errc::unsupported (.gz without zlib).
[[nodiscard]] inline result<idx_images> read_idx_images(std::filesystem::path const& path) {
  PARE_TRY(auto content, detail::read_idx(path, 2051));
  return idx_images{content.shape[0], content.shape[1], content.shape[2], std::move(content.data)};
}

/// An idx1-ubyte file, or its .gz.
[[nodiscard]] inline result<std::vector<std::uint8_t>> read_idx_labels(std::filesystem::path const& path) {
  PARE_TRY(auto content, detail::read_idx(path, 2049));
  return std::move(content.data);
}

}  // namespace pare::inline PARE_ABI
