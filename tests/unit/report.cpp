// SPDX-License-Identifier: Apache-2.0
#include "demo/report.hpp"

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "support/catch.hpp"

namespace {

using pare::index_t;
namespace demo = pare::demo;

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

demo::report small_report() {
  demo::report r;
  r.title = "a network";
  r.dense = {"dense", "", 0, 0.95, 4000, 2.0, 1};
  for (double const s : {0.5, 0.8})
    for (auto const* method : {"magnitude", "random"})
      r.rows.push_back({method, "unstructured", s, 0.95 - 0.1 * s, 3000, 1.0, 2});
  return r;
}

/// The bytes of the first bitmap in a page.
std::vector<std::uint8_t> first_bitmap(std::string const& html) {
  constexpr std::string_view start = "data:image/bmp;base64,";
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<std::uint8_t> bytes;
  std::uint32_t bits = 0;
  int held = 0;
  for (std::size_t i = html.find(start) + start.size(); digits.find(html[i]) != digits.npos; ++i) {
    bits = bits << 6 | static_cast<std::uint32_t>(digits.find(html[i]));
    held += 6;
    if (held >= 8) bytes.push_back(static_cast<std::uint8_t>(bits >> (held -= 8) & 255));
  }
  return bytes;
}

std::uint32_t word(std::vector<std::uint8_t> const& b, std::size_t at) {
  return b.at(at) | static_cast<std::uint32_t>(b.at(at + 1)) << 8 | static_cast<std::uint32_t>(b.at(at + 2)) << 16 |
         static_cast<std::uint32_t>(b.at(at + 3)) << 24;
}

}  // namespace

TEST_CASE("report: every text is escaped") {
  auto r = small_report();
  std::string const evil = "<script>\"'&";
  r.title = r.environment = r.summary = r.rows[0].method = r.rows[0].pattern = evil;
  r.masks.push_back({evil, evil, 1, 1, {1}});
  auto const html = demo::to_html(r);
  CHECK(html.find("<script") == html.npos);
  CHECK(html.find("&lt;script&gt;&quot;&#39;&amp;") != html.npos);
}

TEST_CASE("report: the page refers to nothing outside itself") {
  auto r = small_report();
  r.masks.push_back({"m", "fc1.weight", 1, 1, {1}});
  auto const html = demo::to_html(r);
  CHECK(count(html, "src=") == count(html, "src=\"data:"));
  CHECK(count(html, "href=") == 0);
  CHECK(count(html, "url(") == 0);
  CHECK(count(html, "://") == 0);
}

TEST_CASE("report: the rows of a method and pattern are one line in each chart") {
  auto const html = demo::to_html(small_report());
  CHECK(count(html, "<polyline") == 4);  // two methods, two charts
  CHECK(count(html, "<title>magnitude, 80.0 % sparse: 87.00 %, 2.00\u00d7</title>") == 2);
}

TEST_CASE("report: what is not a number is a dash, and is left out of the charts") {
  auto r = small_report();
  for (double const v : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
    r.rows.push_back({"broken", "2:4", v, v, 0, v, v});
  r.dense.quality = r.dense.milliseconds = std::numeric_limits<double>::quiet_NaN();
  for (auto const m : {demo::quality_measure::accuracy, demo::quality_measure::perplexity}) {
    r.measure = m;
    auto const html = demo::to_html(r);
    CHECK(html.find("nan") == html.npos);
    CHECK(html.find("inf") == html.npos);
    CHECK(count(html, "<polyline") == 4);
    CHECK(html.find("<td>broken</td><td>2:4</td><td>\u2013</td>") != html.npos);
  }
}

TEST_CASE("report: a page without rows or masks is still a page") {
  auto const html = demo::to_html({});
  CHECK(count(html, "<polyline") == 0);
  CHECK(html.ends_with("</html>\n"));
}

TEST_CASE("report: points on one spot do not break the axes") {
  auto r = small_report();
  r.rows.assign(3, {"same", "unstructured", 0, 0.95, 1, 1, 1});
  CHECK(count(demo::to_html(r), "<polyline") == 2);
  r.measure = demo::quality_measure::perplexity;
  CHECK(count(demo::to_html(r), "<polyline") == 2);
}

TEST_CASE("report: a small mask is a bitmap of its weights") {
  auto r = small_report();
  r.masks.push_back({"m", "fc1.weight", 2, 10, {1, 0, 0, 0, 0, 0, 0, 1, 0, 1,  //
                                                0, 1, 0, 0, 0, 0, 0, 0, 1, 0}});
  auto const html = demo::to_html(r);
  auto const b = first_bitmap(html);
  REQUIRE(b.size() == 14 + 40 + 8 + 2 * 4);
  CHECK(word(b, 2) == b.size());
  CHECK(word(b, 10) == 62);
  CHECK(word(b, 18) == 10);
  CHECK(static_cast<std::int32_t>(word(b, 22)) == -2);  // top row first
  CHECK(word(b, 54) == 0);                              // removed: black
  CHECK(word(b, 58) == 0xffffff);                       // kept: white
  CHECK(b[62] == 0b10000001);
  CHECK(b[63] == 0b01000000);
  CHECK(b[66] == 0b01000000);
  CHECK(b[67] == 0b10000000);
  CHECK(html.find("2 \u00d7 10, 75.0 % removed") != html.npos);
}

TEST_CASE("report: a large mask is a map of densities") {
  auto r = small_report();
  demo::mask_picture m{"m", "wide", 2, 1025, std::vector<std::uint8_t>(2 * 1025)};
  for (std::size_t j = 0; j < 3; ++j) m.kept[j] = 1;  // the first square of 3 x 2 (one row is missing): half kept
  m.kept[1024] = m.kept[1025 + 1024] = 1;             // the last: 2 of 4
  r.masks.push_back(m);
  auto const html = demo::to_html(r);
  auto const b = first_bitmap(html);
  CHECK(word(b, 18) == 342);
  CHECK(static_cast<std::int32_t>(word(b, 22)) == -1);
  CHECK((b[28] | b[29] << 8) == 4);
  REQUIRE(b.size() == 14 + 40 + 64 + 172);
  CHECK(b[118] == 0x80);              // half of 15 levels, rounded up; then nothing
  CHECK((b[118 + 170] & 15) == 0x8);  // pixel 341
  CHECK(html.find("1 pixel = 3 \u00d7 3 weights") != html.npos);
}

TEST_CASE("report: a mask that does not have its shape's size is a broken contract") {
  auto r = small_report();
  r.masks.push_back({"m", "w", 2, 2, {1, 1, 1}});
  CHECK_THROWS_AS(demo::to_html(r), pare::contract_violation);
}

TEST_CASE("report: is written as a file, or says why not") {
  auto const folder = std::filesystem::temp_directory_path() / "pare_report_test";
  std::filesystem::create_directories(folder);
  auto const r = small_report();
  REQUIRE(demo::write_report(folder / "report.html", r));
  std::ifstream file(folder / "report.html", std::ios::binary);
  CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == demo::to_html(r));
  auto const failed = demo::write_report(folder / "absent" / "report.html", r);
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == pare::errc::io);
  std::filesystem::remove_all(folder);
}
