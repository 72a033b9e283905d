// SPDX-License-Identifier: Apache-2.0
// The tokenizer against its reference cases, against the rule carried out word by word, and on hostile input.
#include <bit>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <pare/core/random.hpp>
#include <pare/io/json.hpp>
#include <pare/io/npy.hpp>
#include <pare/io/tokenizer.hpp>

#include "io_scratch.hpp"
#include "support/catch.hpp"
#include "support/data.hpp"

using pare::errc;
using pare::tokenizer;
using pare::test::content;

namespace {

struct entry {
  float score;
  std::string piece;
};

std::vector<std::byte> file_of(std::vector<entry> const& entries, std::uint32_t longest = 16) {
  std::vector<std::byte> out(4);
  pare::store_little(longest, out.data());
  for (auto const& [score, piece] : entries) {
    std::byte head[8];
    pare::store_little(std::bit_cast<std::uint32_t>(score), head);
    pare::store_little(static_cast<std::uint32_t>(piece.size()), head + 4);
    out.insert(out.end(), head, head + 8);
    auto const bytes = pare::as_bytes(piece);
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  return out;
}

std::vector<entry> with_bytes(std::vector<entry> const& pieces) {
  std::vector<entry> out = {{0, "<unk>"}, {0, "<s>"}, {0, "</s>"}};
  for (unsigned b = 0; b < 256; ++b)
    out.push_back({0, std::string("<0x") + "0123456789ABCDEF"[b / 16] + "0123456789ABCDEF"[b % 16] + ">"});
  out.insert(out.end(), pieces.begin(), pieces.end());
  return out;
}

/// The merging rule in its own words: quadratic, and plainly right. `ids` are code points already.
std::vector<int> merge_by_rule(std::vector<int> ids, std::vector<entry> const& vocabulary) {
  for (;;) {
    int best = -1;
    std::size_t where = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      std::string const both =
          vocabulary[static_cast<std::size_t>(ids[i])].piece + vocabulary[static_cast<std::size_t>(ids[i + 1])].piece;
      for (std::size_t v = 0; v < vocabulary.size(); ++v)
        if (vocabulary[v].piece == both &&
            (best < 0 || vocabulary[v].score > vocabulary[static_cast<std::size_t>(best)].score)) {
          best = static_cast<int>(v);
          where = i;
        }
    }
    if (best < 0) return ids;
    ids[where] = best;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
}

}  // namespace

TEST_CASE("io/tokenizer: the reference cases and the greedy text are reproduced") {
  auto const folder = pare::test::data("stories260K");
  if (!folder) return;
  auto const t = tokenizer::open(*folder / "tokenizer.bin", 512);
  REQUIRE(t);
  auto const reference = pare::parse_json(content(*folder / "reference.json"), "reference.json");
  REQUIRE(reference);
  CHECK((*reference)["tokenizer_cases"].size() == 9);
  for (auto const& item : (*reference)["tokenizer_cases"]) {
    auto const text = item["text"].get<std::string>();
    auto const tokens = t->encode(text);
    REQUIRE(tokens);
    CHECK(*tokens == item["tokens"].get<std::vector<int>>());
    CHECK(t->decode(*tokens) == text);
  }
  auto const greedy = pare::read_npy_ints(*folder / "ref_greedy64_tokens.npy");
  REQUIRE(greedy);
  CHECK(t->decode(*greedy) == (*reference)["greedy_64_text"].get<std::string>());
}

TEST_CASE("io/tokenizer: the first 20,000 tokens of TinyStories in chunks of 600 bytes") {
  auto const folder = pare::test::data("stories260K");
  auto const stories = pare::test::data("text/tinystories_val.txt");
  if (!folder || !stories) return;
  auto const t = *tokenizer::open(*folder / "tokenizer.bin", 512);
  auto const expected = *pare::read_npy_ints(*folder / "ref_tokens_tinystories_20000.npy");
  std::string const text = content(*stories);
  std::vector<int> tokens;
  for (std::size_t at = 0; tokens.size() < expected.size(); at += 600) {
    auto const chunk = t.encode(std::string_view(text).substr(at, 600));
    REQUIRE(chunk);
    tokens.insert(tokens.end(), chunk->begin(), chunk->end());
  }
  tokens.resize(expected.size());
  CHECK(tokens == expected);
}

TEST_CASE("io/tokenizer: a megabyte is not quadratic, and comes back from decode") {
  auto const folder = pare::test::data("stories260K");
  auto const stories = pare::test::data("text/tinystories_val.txt");
  if (!folder || !stories) return;
  auto const t = *tokenizer::open(*folder / "tokenizer.bin", 512);
  for (std::string text : {content(*stories), std::string(1 << 20, 'e'), std::string(1 << 20, '\xff')}) {
    text.resize(1 << 20, ' ');
    auto const start = std::chrono::steady_clock::now();
    auto const tokens = t.encode(text);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));  // quadratic: hours
    REQUIRE(tokens);
    CHECK(t.decode(*tokens) == text);
  }
}

TEST_CASE("io/tokenizer: merging agrees with the rule on random vocabularies full of ties") {
  pare::random_source random(11);
  auto const word = [&](pare::index_t length) {
    std::string w;
    for (pare::index_t i = 0; i < length; ++i) w += static_cast<char>('a' + random.below(3));
    return w;
  };
  for (int round = 0; round < 300; ++round) {
    std::vector<entry> vocabulary = {{0, "<unk>"}, {0, "<s>"}, {0, "</s>"}, {0, " "}, {0, "a"}, {0, "b"}, {0, "c"}};
    for (pare::index_t n = random.below(25); n > 0; --n)
      vocabulary.push_back(
          {static_cast<float>(random.below(4)), (random.below(4) == 0 ? " " : "") + word(2 + random.below(3))});
    auto const t = tokenizer::parse(file_of(vocabulary), static_cast<pare::index_t>(vocabulary.size()));
    REQUIRE(t);
    std::string const text = word(1 + random.below(30));
    std::vector<int> code_points = {3};
    for (char c : text) code_points.push_back(4 + (c - 'a'));
    auto const tokens = t->encode(text, false);
    REQUIRE(tokens);
    // equal pieces may carry different scores: the first one counts, so duplicates are taken out for the rule
    std::vector<entry> distinct = vocabulary;
    for (std::size_t i = 0; i < distinct.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        if (vocabulary[i].piece == vocabulary[j].piece) distinct[i].piece = "?";
    REQUIRE(*tokens == merge_by_rule(code_points, distinct));
  }
}

TEST_CASE("io/tokenizer: bytes that are not UTF-8 become byte tokens, and text without any token is an error") {
  auto const v = with_bytes({{1, " "}, {1, "x"}, {1, "\xc3\xa9"}});
  auto const t = *tokenizer::parse(file_of(v), 262);
  CHECK(*t.encode("x\xff\xc3") == std::vector<int>{1, 259, 260, 3 + 0xff, 3 + 0xc3});
  CHECK(*t.encode("\xc3\xa9\xed\xa0\x80", false) == std::vector<int>{259, 261, 3 + 0xed, 3 + 0xa0, 3 + 0x80});
  CHECK(*t.encode(std::string_view("\0", 1), false) == std::vector<int>{259, 3});
  CHECK(t.encode("")->size() == 1);
  CHECK(t.encode("", false)->empty());

  auto const bare = *tokenizer::parse(file_of({{0, "<unk>"}, {0, "<s>"}, {0, "</s>"}, {0, " "}, {0, "x"}}), 5);
  CHECK(bare.encode("xx"));
  auto const unknown = bare.encode("xxy");
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == errc::unsupported);
  CHECK(unknown.error().message() == "byte 2: the vocabulary has neither a piece nor byte tokens for \"y\"");
}

TEST_CASE("io/tokenizer: decoding takes one space after BOS and shows neither BOS nor EOS") {
  auto const t = *tokenizer::parse(file_of(with_bytes({{1, " "}, {1, " x"}})), 261);
  CHECK(t.decode(std::vector<int>{1, 260, 260, 2}) == "x x");
  CHECK(t.decode(std::vector<int>{260}) == " x");
  CHECK(t.decode(std::vector<int>{1, 3 + ' ', 3 + 'a'}) == " a");
  CHECK_THROWS_AS(t.decode(std::vector<int>{261}), pare::contract_violation);
}

TEST_CASE("io/tokenizer: hostile files are refused") {
  std::vector<entry> const good = {{0, "<unk>"}, {0, "<s>"}, {0, "</s>"}, {0, " "}};
  auto const whole = file_of(good);
  REQUIRE(tokenizer::parse(whole, 4));
  CHECK_FALSE(tokenizer::parse(whole, 3));
  CHECK_FALSE(tokenizer::parse(whole, 5));
  CHECK_FALSE(tokenizer::parse(whole, -1));
  CHECK_FALSE(tokenizer::parse(file_of(good, 4), 4));  // a piece longer than the longest
  for (std::size_t n = 0; n < whole.size(); ++n) CHECK_FALSE(tokenizer::parse(std::span(whole).first(n), 4));
  auto damaged = whole;
  pare::store_little(std::uint32_t{0xffffffff}, damaged.data());      // longest
  pare::store_little(std::uint32_t{0xffffffff}, damaged.data() + 8);  // the first length
  CHECK_FALSE(tokenizer::parse(damaged, 4));
  CHECK_FALSE(tokenizer::parse(file_of({{0, "a"}, {0, "b"}, {std::bit_cast<float>(0x7fc00000u), "c"}}), 3));
}
