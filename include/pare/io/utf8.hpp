// SPDX-License-Identifier: Apache-2.0
// UTF-8 (RFC 3629): where a code point ends, and how text from a file is shown in a message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <pare/core/version.hpp>

namespace pare::inline PARE_ABI {

/// Length in bytes (1..4) of the code point at the start of `text`; 0 where the bytes are not valid UTF-8
/// (overlong forms, surrogates and values above U+10FFFF are not) or the text is empty.
[[nodiscard]] constexpr std::size_t code_point_length(std::string_view text) noexcept {
  if (text.empty()) return 0;
  auto const byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  auto const continues = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  unsigned const lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return continues(1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    unsigned const low = lead == 0xe0 ? 0xa0 : 0x80;
    unsigned const high = lead == 0xed ? 0x9f : 0xbf;
    return continues(1, low, high) && continues(2) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    unsigned const low = lead == 0xf0 ? 0x90 : 0x80;
    unsigned const high = lead == 0xf4 ? 0x8f : 0xbf;
    return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

/// `text` for a person to read: always valid UTF-8, control characters and broken bytes as \xNN, at most about
/// `longest` bytes of it. Names in files are hostile: they may be long, binary, or terminal commands.
[[nodiscard]] inline std::string printable(std::string_view text, std::size_t longest = std::string_view::npos) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  std::size_t at = 0;
  while (at < text.size() && at < longest) {
    std::size_t const length = code_point_length(text.substr(at));
    auto const first = static_cast<unsigned char>(text[at]);
    // C0 and C1 control characters are escaped as well
    bool const control = first < 0x20 || first == 0x7f ||
                         (length == 2 && first == 0xc2 && static_cast<unsigned char>(text[at + 1]) < 0xa0);
    if (length == 0 || control) {
      out += "\\x";
      out += digits[first >> 4];
      out += digits[first & 15];
      ++at;
    } else {
      out += text.substr(at, length);
      at += length;
    }
  }
  if (at < text.size()) out += "...";
  return out;
}

/// The same in double quotes and cut, as messages have it.
[[nodiscard]] inline std::string in_quotes(std::string_view text) { return "\"" + printable(text, 80) + "\""; }

}  // namespace pare::inline PARE_ABI
