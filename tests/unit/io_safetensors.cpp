// SPDX-License-Identifier: Apache-2.0
// safetensors: the verdict on every hostile file, memory within the file's size, and a writer that the reader accepts.
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <pare/core/random.hpp>
#include <pare/io/safetensors.hpp>

#include "io_scratch.hpp"
#include "io_sha256.hpp"
#include "support/catch.hpp"
#include "support/data.hpp"
#include "support/memory.hpp"

using pare::dtype_code;
using pare::errc;
using pare::index_t;
using pare::safetensors;
using pare::tensor_source;
using pare::test::content;
using pare::test::scratch_folder;

namespace {

/// A file of a header and some data.
std::vector<std::byte> file_of(std::string_view header, std::size_t data_size) {
  std::vector<std::byte> out(8);
  pare::store_little(std::uint64_t{header.size()}, out.data());
  for (char c : header) out.push_back(static_cast<std::byte>(c));
  out.resize(out.size() + data_size);
  return out;
}

std::vector<index_t> shape_of(nlohmann::json const& list) {
  std::vector<index_t> out;
  for (auto const& d : list) out.push_back(d.get<index_t>());
  return out;
}

}  // namespace

TEST_CASE("io/safetensors: every file of the hostile corpus gets its verdict, within memory bounded by its size") {
  auto const folder = pare::test::data("tiny/hostile");
  if (!folder) return;
  auto const expected = pare::parse_json(content(*folder / "expected.json"), "expected.json");
  REQUIRE(expected);
  int accepted = 0;
  int rejected = 0;
  if (!pare::test::reset_peak_memory() || pare::test::memory_field("VmHWM") == 0)
    WARN("skipped: the peak memory is not told here");
  for (auto const& item : (*expected)["files"].items()) {
    nlohmann::json const& want = item.value();
    auto const path = *folder / item.key();
    INFO(item.key() << ": " << want["reason"].get<std::string>());
    bool const measured = pare::test::reset_peak_memory();
    std::size_t const before = pare::test::memory_field("VmRSS");
    auto const file = safetensors::open(path);
    std::size_t const peak = pare::test::memory_field("VmHWM");
    if (measured && before != 0) {
      // eight times the file (names, shapes and their allocator's blocks) and what the process needs anyway
      std::size_t const bound = before + 8 * std::filesystem::file_size(path) + (std::size_t{16} << 20);
      CHECK(peak <= bound);
    }
    auto const parsed = safetensors::parse(*pare::read_file(path));
    CHECK(parsed.has_value() == file.has_value());

    bool const accept = want["expect"] == "accept";
    REQUIRE(file.has_value() == accept);
    if (!accept) {
      ++rejected;
      CHECK(file.error().code == errc::malformed);
      CHECK(file.error().where.starts_with(path.string()));
      CHECK_FALSE(file.error().what.empty());
      continue;
    }
    ++accepted;
    auto const tensors = want["tensors"];
    CHECK(file->tensors().size() == tensors.size());
    for (auto const& t : tensors.items()) {
      pare::tensor_info const* const info = file->find(t.key());
      REQUIRE(info != nullptr);
      CHECK(pare::name(info->dtype) == t.value()["dtype"].get<std::string>());
      CHECK(info->shape == shape_of(t.value()["shape"]));
      CHECK(pare::test::sha256(file->bytes(*info)) == t.value()["sha256"].get<std::string>());
      CHECK(pare::test::sha256(parsed->bytes(*parsed->find(t.key()))) == t.value()["sha256"].get<std::string>());
    }
    if (want.contains("metadata")) CHECK(nlohmann::json(file->metadata()) == want["metadata"]);
  }
  CHECK(accepted == 9);
  CHECK(rejected == 50);
}

TEST_CASE("io/safetensors: errors name the tensor and the rule") {
  auto const message = [](std::string_view header, std::size_t data) {
    auto const parsed = safetensors::parse(file_of(header, data));
    return parsed ? std::string("accepted") : parsed.error().message();
  };
  CHECK(message(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4) ==
        "tensor \"w\": data_offsets [0, 4] hold 4 bytes, but shape [2] of F32 needs 8");
  CHECK(message(R"({"w":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1) ==
        "tensor \"w\": shape [3] of F4 does not fill whole bytes");
  CHECK(message(R"({"w":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}})", 2) == "accepted");
  CHECK(message(R"({"w":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}})", 1) ==
        "header: tensor \"w\": has the key \"dtype\" twice");
  CHECK(message(R"({"__metadata__":{},"__metadata__":{}})", 0) == "header: has the key \"__metadata__\" twice");
  CHECK(message(R"({"__metadata__":{"a":"1","a":"2"}})", 0) == "header: __metadata__ has the key \"a\" twice");
  CHECK(message(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1) ==
        "header: tensor \"w\": data_offsets must hold two numbers, found 1");
  CHECK(message(R"({"w":{"dtype":"U8","shape":"1","data_offsets":[0,1]}})", 1) ==
        "header: tensor \"w\": shape must be a list, found the string \"1\"");
  CHECK(message(R"({"w":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", 1) ==
        "header: tensor \"w\": shape must hold integers from 0 to 2^63 - 1, found a list");
  CHECK(message(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1e0]}})", 1) ==
        "header: tensor \"w\": data_offsets must hold integers from 0 to 2^63 - 1, found the number \"1e0\"");
  CHECK(message(R"({"w":3})", 0) == "header: tensor \"w\": the entry must be an object, found a number");
  CHECK(message("3", 0) == "header: the header must be a JSON object, found a number");
  CHECK(message(std::string_view("{}\0 junk", 8), 0) == "header: is not valid JSON at byte 2: a NUL byte");
  // a dimension of 0 does not hide an overflow before it
  CHECK(message(R"({"w":{"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}})", 0) ==
        "tensor \"w\": shape [4294967296, 4294967296, 0] overflows 64 bits");
}

TEST_CASE("io/safetensors: unknown keys of an entry are skipped, but not without a bound") {
  auto const with = [](std::string const& extra) {
    return safetensors::parse(
        file_of("{\"w\":{\"x\":" + extra + ",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1));
  };
  CHECK(with("[1,{\"dtype\":2,\"y\":[[]]},null,-1,0.5,\"s\"]"));
  CHECK(with("{\"shape\":[9],\"a\":{}}"));
  CHECK_FALSE(with(std::string(10'000, '[') + std::string(10'000, ']')));
}

TEST_CASE("io/safetensors: dimensions and metadata keys, small in a header and large in memory, are bounded") {
  auto const of_rank = [](int rank) {
    std::string shape = "1";
    for (int i = 1; i < rank; ++i) shape += ",1";
    return safetensors::parse(
        file_of("{\"w\":{\"dtype\":\"U8\",\"shape\":[" + shape + "],\"data_offsets\":[0,1]}}", 1));
  };
  CHECK(of_rank(64));
  CHECK(of_rank(65).error().message() == "header: tensor \"w\": shape has more than 64 dimensions");
  auto const with_keys = [](int count) {
    std::string keys;
    for (int i = 0; i < count; ++i) keys += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":\"\"";
    return safetensors::parse(file_of("{\"__metadata__\":{" + keys + "}}", 0));
  };
  CHECK(with_keys(100'000));
  CHECK(with_keys(100'001).error().message() == "header: __metadata__ has more than 100000 keys");
}

TEST_CASE("io/safetensors: a file cut at any byte is refused") {
  auto const whole = file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  REQUIRE(safetensors::parse(whole));
  for (std::size_t n = 0; n < whole.size(); ++n) {
    INFO(n);
    CHECK_FALSE(safetensors::parse({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)}));
  }
}

TEST_CASE("io/safetensors: damaged headers are refused or still obey every rule") {
  std::string const header = R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                             R"("b":{"dtype":"U8","shape":[4],"data_offsets":[8,12]}})";
  pare::random_source random(7);
  std::string_view const alphabet = "{}[]\",:0123456789-.eE abFU_\\u\xff";
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string damaged = header;
    for (index_t n = 1 + random.below(3); n > 0; --n)
      damaged[static_cast<std::size_t>(random.below(static_cast<index_t>(damaged.size())))] =
          alphabet[static_cast<std::size_t>(random.below(static_cast<index_t>(alphabet.size())))];
    auto const parsed = safetensors::parse(file_of(damaged, 12));
    if (!parsed) continue;
    ++accepted;
    std::size_t end = 0;
    for (auto const& t : parsed->tensors()) {
      REQUIRE(t.begin == end);
      end = t.end;
      std::uint64_t count = 0;
      REQUIRE(pare::element_count(t.shape, count));
      REQUIRE(count * static_cast<unsigned>(pare::bits(t.dtype)) == (t.end - t.begin) * 8);
      REQUIRE(parsed->find(t.name) == &t);
    }
    REQUIRE(end == 12);
  }
  CHECK(accepted > 100);  // letters of names and metadata may change
}

TEST_CASE("io/safetensors: what is written is read back, in the documented order, the same bytes on every rewrite") {
  scratch_folder const folder;
  std::vector<std::byte> const data = file_of("0123456789", 30);
  std::span<std::byte const> const bytes = data;
  std::vector<tensor_source> tensors = {
      {"b", dtype_code::f32, {2, 1}, bytes.first(8)},       {"a", dtype_code::u8, {3}, bytes.subspan(1, 3)},
      {"\"q\"\n\xc3\xa9", dtype_code::f32, {0, 5}, {}},     {"s", dtype_code::i64, {}, bytes.subspan(5, 8)},
      {"z", dtype_code::boolean, {1}, bytes.subspan(9, 1)}, {"half", dtype_code::bf16, {3}, bytes.first(6)}};
  std::map<std::string, std::string> const metadata = {{"format", "pt"}, {"\xc3\xa9", "\"\\"}};
  REQUIRE(pare::write_safetensors(folder / "1", tensors, metadata));
  auto const read = safetensors::open(folder / "1");
  REQUIRE(read);
  CHECK(read->metadata() == metadata);
  std::vector<std::string> order;
  for (auto const& t : read->tensors()) order.push_back(t.name);
  CHECK(order == std::vector<std::string>{"s", "\"q\"\n\xc3\xa9", "b", "half", "a", "z"});
  for (tensor_source const& t : tensors) {
    auto const* const info = read->find(t.name);
    REQUIRE(info != nullptr);
    CHECK(info->dtype == t.dtype);
    CHECK(info->shape == t.shape);
    auto const got = read->bytes(*info);
    CHECK(std::equal(got.begin(), got.end(), t.bytes.begin(), t.bytes.end()));
  }
  CHECK(pare::load_little<std::uint64_t>(pare::as_bytes(content(folder / "1")).data()) % 8 == 0);
  CHECK(content(folder / "1")[8] == '{');

  std::vector<tensor_source> again;
  for (auto const& t : read->tensors()) again.push_back({t.name, t.dtype, t.shape, read->bytes(t)});
  REQUIRE(pare::write_safetensors(folder / "2", again, read->metadata()));
  CHECK(content(folder / "2") == content(folder / "1"));
  std::swap(tensors[0], tensors[5]);
  REQUIRE(pare::write_safetensors(folder / "2", tensors, metadata));
  CHECK(content(folder / "2") == content(folder / "1"));
}

TEST_CASE("io/safetensors: every tensor of a real network survives the writer") {
  auto const path = pare::test::data("stories260K/model.safetensors");
  if (!path) return;
  scratch_folder const folder;
  auto const from = safetensors::open(*path);
  REQUIRE(from);
  std::vector<tensor_source> tensors;
  for (auto const& t : from->tensors()) tensors.push_back({t.name, t.dtype, t.shape, from->bytes(t)});
  REQUIRE(pare::write_safetensors(folder / "m", tensors, from->metadata()));
  auto const to = safetensors::open(folder / "m");
  REQUIRE(to);
  CHECK(to->tensors().size() == 47);
  for (auto const& t : from->tensors()) {
    auto const a = from->bytes(t);
    auto const b = to->bytes(*to->find(t.name));
    CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
}

TEST_CASE("io/safetensors: the writer refuses what a reader would, and leaves no file") {
  scratch_folder const folder;
  std::vector<std::byte> const data(8);
  auto const refused = [&](std::vector<tensor_source> const& tensors) {
    auto const written = pare::write_safetensors(folder / "f", tensors);
    return !written && written.error().code == errc::malformed && folder.list().empty();
  };
  std::span<std::byte const> const bytes = data;
  CHECK(refused({{std::string("a\0b", 3), dtype_code::u8, {8}, bytes}}));
  CHECK(refused({{"\xff", dtype_code::u8, {8}, bytes}}));
  CHECK(refused({{"__metadata__", dtype_code::u8, {8}, bytes}}));
  CHECK(refused({{"a", dtype_code::u8, {7}, bytes}}));
  CHECK(refused({{"a", dtype_code::f32, {-2}, bytes}}));
  CHECK(refused({{"a", dtype_code::f32, {index_t{1} << 62, 4}, {}}}));
  CHECK(refused({{"a", dtype_code::u8, {8}, bytes}, {"a", dtype_code::f32, {2}, bytes}}));
  CHECK(pare::write_safetensors(folder / "f", {}));
  CHECK(safetensors::open(folder / "f"));
}
