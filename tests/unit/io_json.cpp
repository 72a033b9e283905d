// SPDX-License-Identifier: Apache-2.0
// JSON parsing is strict and total; the getters name the key.
#include <string>

#include <pare/io/json.hpp>

#include "support/catch.hpp"

using pare::errc;
using pare::parse_json;

TEST_CASE("io/json: a document comes back as nlohmann-json itself reads it") {
  std::string const text = R"({"a":[1,-2,2.5,{"b":[]},[[],{}]],"c":{"d":null,"e":true},"f":"\u00e9\n"})";
  auto const parsed = parse_json(text, "f.json");
  REQUIRE(parsed);
  CHECK(*parsed == nlohmann::json::parse(text));
  CHECK(*parse_json(" 3 ", "x") == 3);
}

TEST_CASE("io/json: text that is not exactly one document is malformed") {
  for (std::string const& text :
       {std::string(), std::string("{"), std::string("{} {}"), std::string("{\"a\":1,}"), std::string("[1 2]"),
        std::string("nul"), std::string("{}\0", 3), std::string("\0", 1), std::string("{}\0garbage", 10),
        std::string("\xef\xbb\xbf{}"), std::string("\"\xff\""), std::string("\"\\ud800\""), std::string("1e999"),
        std::string("[NaN]"), std::string("// c\n{}")}) {
    INFO(text);
    auto const parsed = parse_json(text, "place");
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == errc::malformed);
    CHECK(parsed.error().where == "place");
    CHECK_FALSE(parsed.error().what.empty());
  }
}

TEST_CASE("io/json: a duplicate key is named, also when its first value was null") {
  for (std::string const text : {R"({"k":{"twin":1,"b":2,"twin":1}})", R"({"twin":null,"twin":1})"}) {
    auto const parsed = parse_json(text, "p");
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().what.find("\"twin\"") != std::string::npos);
  }
  CHECK(parse_json(R"({"a":{"x":1},"b":{"x":1}})", "p"));
}

TEST_CASE("io/json: depth is bounded") {
  auto const nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  CHECK(parse_json(nested(pare::json_depth_limit), "p"));
  CHECK_FALSE(parse_json(nested(pare::json_depth_limit + 1), "p"));
  CHECK_FALSE(parse_json(nested(1'000'000), "p"));
}

TEST_CASE("io/json: getters say the key, what was expected and what was found") {
  auto const config = *parse_json(
      R"({"n":3,"zero":0,"neg":-1,"half":0.5,"s":"x","t":true,"null":null,"big":18446744073709551615,
          "list":[1,2],"bad":[1,"x"],"words":["a","b"]})",
      "p");
  CHECK(*pare::get_positive(config, "n") == 3);
  CHECK(*pare::get_positive(config, "absent", 7) == 7);
  CHECK(*pare::get_positive(config, "null", 7) == 7);
  CHECK(*pare::get_integer(config, "neg", -5, 5) == -1);
  CHECK(*pare::get_number(config, "half") == 0.5);
  CHECK(*pare::get_number(config, "n") == 3.0);
  CHECK(*pare::get_bool(config, "t"));
  CHECK(*pare::get_string(config, "s") == "x");
  CHECK(*pare::get_positives(config, "list") == std::vector<pare::index_t>{1, 2});
  CHECK(*pare::get_strings(config, "words") == std::vector<std::string>{"a", "b"});

  CHECK(pare::get_positive(config, "absent").error().code == errc::missing);
  CHECK(pare::get_positive(nlohmann::json(), "absent").error().code == errc::missing);
  for (char const* key : {"zero", "neg", "half", "s", "t", "big", "list"}) {
    auto const got = pare::get_positive(config, key, 7);  // a wrong value is never replaced by the fallback
    REQUIRE_FALSE(got);
    CHECK(got.error().code == errc::malformed);
    CHECK(got.error().where == std::string("key \"") + key + "\"");
  }
  CHECK(pare::get_positive(config, "neg").error().what == "expected an integer from 1 to 2147483647, found -1");
  CHECK_FALSE(pare::get_number(config, "s"));
  CHECK_FALSE(pare::get_bool(config, "n"));
  CHECK_FALSE(pare::get_string(config, "n"));
  CHECK_FALSE(pare::get_positives(config, "bad"));
  CHECK_FALSE(pare::get_strings(config, "bad"));
}

TEST_CASE("io/json: hostile text in a message is valid UTF-8 and short") {
  CHECK(pare::printable("a\x1b[31m\xff") == "a\\x1b[31m\\xff");
  CHECK(pare::printable(std::string(1000, 'x')).size() == 1000);
  CHECK(pare::printable("abc", 2) == "ab...");
  CHECK(pare::in_quotes("a\x1b[31m\xff\xc3\xa9") == "\"a\\x1b[31m\\xff\xc3\xa9\"");
  CHECK(pare::in_quotes(std::string(1000, 'x')).size() < 100);
  std::string euros;
  for (int i = 0; i < 100; ++i) euros += "\xe2\x82\xac";
  CHECK(nlohmann::json(pare::in_quotes(euros)).dump().size() < 120);  // dump() throws on broken UTF-8
}
