// SPDX-License-Identifier: Apache-2.0
// smtx, the sparsity patterns of the Deep Learning Matrix Collection.
#include <filesystem>
#include <fstream>
#include <string>

#include <pare/io/smtx.hpp>

#include "io_scratch.hpp"
#include "support/catch.hpp"
#include "support/data.hpp"

using pare::errc;
using pare::extents;
using pare::index_t;
using pare::test::scratch_folder;

namespace {

/// The sentence of the error; empty where the text was read.
std::string refusal(std::string const& text) {
  auto const keep = pare::parse_smtx(text);
  return keep ? std::string() : keep.error().message();
}

bool says(std::string const& message, std::string const& place, std::string const& rule) {
  return message.starts_with(place) && message.find(rule) != std::string::npos;
}

}  // namespace

TEST_CASE("io/smtx: a pattern is read, with empty rows and with none kept") {
  auto const keep = pare::parse_smtx("3, 5, 4\n0 2 2 4\n0 4 1 2\n");
  REQUIRE(keep);
  CHECK(keep->shape() == extents{3, 5});
  CHECK(keep->count() == 4);
  CHECK(((*keep)(0, 0) && (*keep)(0, 4) && (*keep)(2, 1) && (*keep)(2, 2)));
  CHECK(keep->row_count(1) == 0);
  CHECK(*pare::parse_smtx("3,5,4\r\n0 2 2 4 \r\n 0 4 1 2") == *keep);
  CHECK(pare::parse_smtx("2, 3, 0\n0 0 0\n\n")->count() == 0);
  CHECK(pare::parse_smtx("2, 3, 0\n0 0 0")->shape() == extents{2, 3});
  CHECK(pare::parse_smtx("0, 7, 0\n0\n")->shape() == extents{0, 7});
  CHECK(pare::parse_smtx("2, 0, 0\n0 0 0\n")->shape() == extents{2, 0});
}

TEST_CASE("io/smtx: a broken file is refused by line and rule") {
  CHECK(says(refusal(""), "line 1", "number of rows"));
  CHECK(says(refusal("3, 5"), "line 1", "number of kept elements"));
  CHECK(says(refusal("3, 5, 4, 1\n0 2 2 4\n0 4 1 2"), "line 1", "more numbers"));
  CHECK(says(refusal("3, -5, 4\n0 2 2 4\n0 4 1 2"), "line 1", "must be an integer"));
  CHECK(says(refusal("3, 5.0, 4\n0 2 2 4\n0 4 1 2"), "line 1", "\"5.0\""));
  CHECK(says(refusal("3, 5, 99999999999999999999\n0 2 2 4\n0 4 1 2"), "line 1", "2^63"));
  CHECK(says(refusal("3, 5, 4\n1 2 2 4\n0 4 1 2"), "line 2", "first row offset must be 0, found 1"));
  CHECK(says(refusal("3, 5, 4\n0 2 1 4\n0 4 1 2"), "line 2", "must ascend: row 1 begins at 2 and ends at 1"));
  CHECK(says(refusal("3, 5, 4\n0 2 2 3\n0 4 1"), "line 2", "last row offset"));
  CHECK(says(refusal("3, 5, 4\n0 2 2 5\n0 4 1 2 3"), "line 2", "last row offset"));
  CHECK(says(refusal("3, 5, 4\n0 2 4\n0 4 1 2"), "line 2", "ends where a row offset"));
  CHECK(says(refusal("3, 5, 4\n0 2 2 4 4\n0 4 1 2"), "line 2", "more numbers follow the 4 row offsets"));
  CHECK(says(refusal("3, 5, 4\n0 2 x 4\n0 4 1 2"), "line 2", "\"x\""));
  CHECK(says(refusal("3, 5, 4\n0 2 2 4\n0 5 1 2"), "line 3", "row 0 has column 5"));
  CHECK(says(refusal("3, 5, 4\n0 2 2 4\n4 0 1 2"), "line 3", "must ascend: row 0 has 0 after 4"));
  CHECK(says(refusal("3, 5, 4\n0 2 2 4\n0 4 2 2"), "line 3", "must ascend: row 2 has 2 after 2"));
  CHECK(says(refusal("3, 5, 4\n0 2 2 4\n0 4 1"), "line 3", "ends where a column index"));
  CHECK(says(refusal("3, 5, 4\n0 2 2 4\n0 4 1 2 3"), "line 3", "more numbers follow the 4 column indices"));
  CHECK(says(refusal("3, 5, 4\n0 2 2 4\n0 4 -1 2"), "line 3", "\"-1\""));
  CHECK(says(refusal("3, 5, 4\n0 2 2 4\n0 4 1 2\n7\n"), "line 4", "three lines"));
  CHECK(says(refusal(std::string("3, 5, 4\n0 2 2 4\n0 4 \0 2", 23)), "line 3", "must be an integer"));
}

TEST_CASE("io/smtx: what a file merely claims is not allocated") {
  CHECK(says(refusal("9223372036854775807, 1, 0\n0"), "line 1", "rows"));
  CHECK(says(refusal("1000000000000, 1, 0\n0 0"), "line 1", "more than the file has offsets for"));
  CHECK(says(refusal("1, 5, 1000000000000\n0 1000000000000\n0"), "line 1", "more than the file has columns for"));
  auto const wide = pare::parse_smtx("1, 9223372036854775807, 0\n0 0\n");
  REQUIRE_FALSE(wide);
  CHECK(wide.error().code == errc::unsupported);
  CHECK(says(refusal("2, 1000000000, 0\n0 0 0\n"), "line 1", "too many"));
  // the offsets alone would cost 8 bytes each: 100 rows of 2^31 columns
  std::string zeros;
  for (int i = 0; i < 101; ++i) zeros += "0 ";
  CHECK(says(refusal("100, 2147483648, 0\n" + zeros + "\n"), "line 1", "too many"));
}

TEST_CASE("io/smtx: no beginning of a file is read as a whole one") {
  std::string const whole = "3, 12, 4\n0 2 2 4\n0 11 1 12\n";
  std::string const good = "3, 13, 4\n0 2 2 4\n0 11 1 12\n";
  CHECK(says(refusal(whole), "line 3", "column 12"));
  REQUIRE(pare::parse_smtx(good));
  // the last index, 12, can be cut to 1, which does not ascend; the last line's end may be missing
  for (std::size_t n = 0; n + 1 < good.size(); ++n) CHECK_FALSE(pare::parse_smtx(good.substr(0, n)));
}

TEST_CASE("io/smtx: an error names the file") {
  scratch_folder const folder;
  auto const keep = pare::read_smtx(folder.write("broken.smtx", "1, 1, 1\n0 1\n1\n"));
  REQUIRE_FALSE(keep);
  CHECK(keep.error().message().find("broken.smtx: line 3: ") != std::string::npos);
  CHECK(pare::read_smtx(folder / "absent.smtx").error().code == errc::io);
  CHECK(pare::read_smtx(folder.path()).error().code == errc::io);
}

TEST_CASE("io/smtx: the whole collection is read as its index says") {
  auto const folder = pare::test::data("dlmc");
  if (!folder) return;
  std::ifstream index(*folder / "index.csv");
  std::string line;
  REQUIRE(std::getline(index, line));
  int files = 0;
  while (std::getline(index, line)) {
    // path,family,method,nominal_sparsity,rows,cols,nnz,sparsity,max_row_nnz,min_row_nnz,empty_rows,bytes
    std::vector<std::string> field(1);
    for (char c : line) c == ',' ? field.emplace_back() : (field.back() += c, field.back());
    auto const keep = pare::read_smtx(*folder / field.at(0));
    REQUIRE(keep);
    CHECK(keep->shape() == extents{std::stol(field.at(4)), std::stol(field.at(5))});
    CHECK(keep->count() == std::stol(field.at(6)));
    index_t longest = 0;
    index_t empty = 0;
    for (index_t r = 0; r < keep->rows(); ++r) {
      longest = std::max(longest, keep->row_count(r));
      empty += keep->row_count(r) == 0;
    }
    CHECK(longest == std::stol(field.at(8)));
    CHECK(empty == std::stol(field.at(10)));
    ++files;
  }
  CHECK(files == 60);
}
