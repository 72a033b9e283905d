// SPDX-License-Identifier: Apache-2.0
// gzip (RFC 1952) through zlib, where the build has it: PARE_WITH_ZLIB defined to 1. Without it every call is a
// clear error. What comes out is bounded by the caller, never by what the file claims.
#pragma once

#include <pare/core/result.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#if defined(PARE_WITH_ZLIB) && PARE_WITH_ZLIB
#include <zlib.h>
#endif

namespace pare::inline PARE_ABI {

/// True where the bytes start like a gzip file.
[[nodiscard]] inline bool is_gzip(std::span<std::byte const> bytes) noexcept {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

/// At most the first `limit` bytes that a gzip file holds. Memory grows with what really comes out. Where the
/// content is shorter than `limit`, its check sum is verified and nothing may follow it.
/// Errors: errc::malformed; errc::unsupported in a build without zlib.
[[nodiscard]] inline result<std::vector<std::byte>> gunzip(std::span<std::byte const> compressed, std::size_t limit) {
#if defined(PARE_WITH_ZLIB) && PARE_WITH_ZLIB
  struct stream : z_stream {
    stream() : z_stream{} {}
    stream(stream const&) = delete;
    stream& operator=(stream const&) = delete;
    ~stream() { inflateEnd(this); }
  } z;
  constexpr int gzip_window = 15 + 16;  // largest window, gzip wrapper only
  if (inflateInit2(&z, gzip_window) != Z_OK) return error{errc::unsupported, "gzip", "zlib could not be set up"};
  constexpr std::size_t step = std::size_t{1} << 20;
  std::vector<std::byte> out;
  while (out.size() < limit) {
    std::size_t const before = out.size();
    out.resize(std::min(limit, before + std::max(step, before)));
    // zlib counts in 32 bits and takes its input as non-const, though it only reads
    constexpr std::size_t most = std::size_t{1} << 30;
    std::size_t const room = std::min(out.size() - before, most);
    std::size_t const given = std::min(compressed.size(), most);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(compressed.data()));
    z.avail_in = static_cast<uInt>(given);
    z.next_out = reinterpret_cast<Bytef*>(out.data() + before);
    z.avail_out = static_cast<uInt>(room);
    int const code = inflate(&z, Z_NO_FLUSH);
    std::size_t const produced = room - z.avail_out;
    compressed = compressed.subspan(given - z.avail_in);
    out.resize(before + produced);
    if (code == Z_STREAM_END) {
      if (!compressed.empty()) return error{errc::malformed, "gzip", "has bytes after its end"};
      return out;
    }
    if (code != Z_OK && code != Z_BUF_ERROR)
      return error{errc::malformed, "gzip", std::string("cannot be decompressed: ") + (z.msg ? z.msg : "damaged")};
    if (produced == 0 && compressed.empty()) return error{errc::malformed, "gzip", "ends early"};
  }
  return out;
#else
  static_cast<void>(compressed);
  static_cast<void>(limit);
  return error{errc::unsupported, "gzip",
               "this build cannot decompress; configure with PARE_WITH_ZLIB=ON, or decompress the file first"};
#endif
}

}  // namespace pare::inline PARE_ABI
