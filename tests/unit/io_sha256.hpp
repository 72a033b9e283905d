// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4), to compare bytes with the sums of the test data.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace pare::test {

inline std::string sha256(std::span<std::byte const> bytes) {
  using word = std::uint32_t;
  // the constants are the first 32 bits of the fractions of the roots of the first primes
  std::array<word, 64> k{};
  std::array<word, 8> h{};
  std::size_t found = 0;
  for (int p = 2; found < 64; ++p) {
    bool prime = true;
    for (int d = 2; d * d <= p; ++d) prime = prime && p % d != 0;
    if (!prime) continue;
    auto const fraction = [](long double x) { return static_cast<word>((x - std::floor(x)) * 0x1p32L); };
    if (found < 8) h[found] = fraction(std::sqrt(static_cast<long double>(p)));
    k[found++] = fraction(std::cbrt(static_cast<long double>(p)));
  }
  std::vector<std::byte> message(bytes.begin(), bytes.end());
  message.push_back(std::byte{0x80});
  while (message.size() % 64 != 56) message.push_back(std::byte{0});
  for (int shift = 56; shift >= 0; shift -= 8) message.push_back(static_cast<std::byte>((bytes.size() * 8) >> shift));
  for (std::size_t at = 0; at < message.size(); at += 64) {
    std::array<word, 64> w{};
    for (std::size_t i = 0; i < 64; ++i) {
      if (i < 16) {
        for (std::size_t b = 0; b < 4; ++b) w[i] = w[i] << 8 | static_cast<word>(message[at + 4 * i + b]);
      } else {
        word const a = w[i - 15];
        word const b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) +
               (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
      }
    }
    auto s = h;
    for (std::size_t i = 0; i < 64; ++i) {
      word const t1 = s[7] + (std::rotr(s[4], 6) ^ std::rotr(s[4], 11) ^ std::rotr(s[4], 25)) +
                      ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
      word const t2 = (std::rotr(s[0], 2) ^ std::rotr(s[0], 13) ^ std::rotr(s[0], 22)) +
                      ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
      s = {t1 + t2, s[0], s[1], s[2], s[3] + t1, s[4], s[5], s[6]};
    }
    for (std::size_t i = 0; i < 8; ++i) h[i] += s[i];
  }
  std::string out;
  for (word v : h)
    for (int shift = 28; shift >= 0; shift -= 4) out += "0123456789abcdef"[v >> shift & 15u];
  return out;
}

}  // namespace pare::test
