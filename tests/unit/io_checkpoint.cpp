// SPDX-License-Identifier: Apache-2.0
// Checkpoints: which files are taken, what is converted, and the sparse-bitmask form with all its checks.
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <pare/core/random.hpp>
#include <pare/io/checkpoint.hpp>

#include "io_scratch.hpp"
#include "support/catch.hpp"
#include "support/data.hpp"

using pare::checkpoint;
using pare::dtype_code;
using pare::errc;
using pare::extents;
using pare::index_t;
using pare::tensor_source;
using pare::test::scratch_folder;

namespace {

using bytes = std::vector<std::byte>;

bytes stored(dtype_code dtype, std::vector<float> const& values) {
  bytes out(values.size() * pare::size_in_bytes(dtype));
  for (std::size_t i = 0; i < values.size(); ++i)
    pare::store_float(dtype, values[i], out.data() + i * pare::size_in_bytes(dtype));
  return out;
}

bytes int64s(std::vector<std::int64_t> const& values) {
  bytes out(values.size() * 8);
  for (std::size_t i = 0; i < values.size(); ++i)
    pare::store_little(static_cast<std::uint64_t>(values[i]), out.data() + 8 * i);
  return out;
}

bytes octets(std::vector<int> const& values) {
  bytes out;
  for (int v : values) out.push_back(static_cast<std::byte>(v));
  return out;
}

/// Writes a file with one F32 vector of one element.
void write_one(std::filesystem::path const& path, std::string const& name, float value) {
  bytes const data = stored(dtype_code::f32, {value});
  std::vector<tensor_source> const tensors = {{name, dtype_code::f32, {1}, data}};
  REQUIRE(pare::write_safetensors(path, tensors));
}

/// The parts of a compressed 2 x 10 weight; row 0 keeps columns 1, 3, 4, 7 and row 1 keeps 2 and 9.
struct compressed_weight {
  std::vector<std::int64_t> shape = {2, 10};
  std::vector<float> values = {1, 2, 3, 4, 5, 6};
  std::vector<int> bitmask = {154, 0, 4, 2};
  std::vector<std::int64_t> row_offsets = {0, 4};
  std::vector<index_t> bitmask_shape = {2, 2};
  std::vector<index_t> compressed_shape = {6};
  std::vector<index_t> shape_shape = {2};
  dtype_code dtype = dtype_code::f32;
  dtype_code shape_dtype = dtype_code::i64;
  bool with_offsets = true;
  std::string prefix = "layer";

  pare::result<checkpoint> open() const {
    scratch_folder const folder;
    bytes const s = int64s(shape);
    bytes const c = stored(dtype, values);
    bytes const b = octets(bitmask);
    bytes const o = int64s(row_offsets);
    std::vector<tensor_source> tensors = {{prefix + ".shape", shape_dtype, shape_shape, s},
                                          {prefix + ".compressed", dtype, compressed_shape, c},
                                          {prefix + ".bitmask", dtype_code::u8, bitmask_shape, b}};
    if (with_offsets)
      tensors.push_back({prefix + ".row_offsets", dtype_code::i64, {static_cast<index_t>(row_offsets.size())}, o});
    REQUIRE(pare::write_safetensors(folder / "m.safetensors", tensors));
    return checkpoint::open(folder.path());
  }
};

}  // namespace

TEST_CASE("io/checkpoint: real networks open, whether by file or by folder") {
  if (auto const path = pare::test::data("stories260K")) {
    auto const model = checkpoint::open(*path);
    REQUIRE(model);
    CHECK(model->names().size() == 47);
    CHECK(*pare::get_positive(model->config(), "hidden_size") == 64);
    auto const w = model->read_weight("model.layers.0.mlp.up_proj.weight", {172, 64});
    REQUIRE(w);
    CHECK(w->keep.keeps_all());
    CHECK(w->stored == dtype_code::f32);
    CHECK(model->read_vector("model.norm.weight", 64));
    auto const by_file = checkpoint::open(*path / "model.safetensors");
    REQUIRE(by_file);
    CHECK(by_file->config() == model->config());
  }
  if (auto const path = pare::test::data("cifar/resnet20.safetensors")) {
    auto const model = checkpoint::open(*path);
    REQUIRE(model);
    CHECK(model->config().is_null());
    CHECK(*model->shape("layer2.0.conv1.weight") == std::vector<index_t>{32, 16, 3, 3});
    CHECK(model->read_weight("layer2.0.conv1.weight", {32, 144}));
    auto const counter = model->read_vector("bn1.num_batches_tracked", 1);
    REQUIRE_FALSE(counter);
  }
}

TEST_CASE("io/checkpoint: half, bfloat and double weights become the same floats") {
  scratch_folder const folder;
  std::vector<float> const values = {0.5f, -2.0f, 0.0f, 1024.0f, -0.125f, 3.0f};
  std::vector<bytes> data;
  std::vector<tensor_source> tensors;
  for (dtype_code d : {dtype_code::f16, dtype_code::bf16, dtype_code::f32, dtype_code::f64})
    data.push_back(stored(d, values));
  tensors = {{"f16", dtype_code::f16, {2, 3}, data[0]},
             {"bf16", dtype_code::bf16, {2, 3}, data[1]},
             {"f32", dtype_code::f32, {2, 3, 1}, data[2]},
             {"f64", dtype_code::f64, {2, 1, 3}, data[3]}};
  REQUIRE(pare::write_safetensors(folder / "model.safetensors", tensors));
  auto const model = checkpoint::open(folder.path());
  REQUIRE(model);
  for (tensor_source const& t : tensors) {
    auto const w = model->read_weight(t.name, {2, 3});
    REQUIRE(w);
    CHECK(w->stored == t.dtype);
    CHECK(std::vector<float>(w->values.data(), w->values.data() + 6) == values);
  }
}

TEST_CASE("io/checkpoint: missing tensors, wrong shapes, wrong types and NaN are named") {
  scratch_folder const folder;
  bytes const bad = stored(dtype_code::f32, {1, 2, 3, std::numeric_limits<float>::quiet_NaN(), 5, 6});
  bytes const huge = [] {
    bytes b(8);
    pare::store_little(std::bit_cast<std::uint64_t>(1e300), b.data());
    return b;
  }();
  std::vector<tensor_source> const tensors = {{"nan", dtype_code::f32, {2, 3}, bad},
                                              {"vector", dtype_code::f32, {6}, bad},
                                              {"huge", dtype_code::f64, {1}, huge},
                                              {"ints", dtype_code::i32, {2, 3}, bad},
                                              {"empty", dtype_code::f32, {0, index_t{1} << 40, index_t{1} << 40}, {}}};
  REQUIRE(pare::write_safetensors(folder / "model.safetensors", tensors));
  auto const model = *checkpoint::open(folder.path());
  auto const weight = [&](char const* name, extents e) { return model.read_weight(name, e).error(); };
  CHECK(weight("nan", {2, 3}).message() == "tensor \"nan\": element (1, 0) is not a finite 32-bit number");
  CHECK(weight("nan", {2, 3}).code == errc::not_finite);
  CHECK(weight("nan", {3, 2}).message() == "tensor \"nan\": expected shape [3, 2] (flattened), found [2, 3]");
  CHECK(weight("none", {3, 2}).code == errc::missing);
  CHECK(weight("ints", {2, 3}).code == errc::unsupported);
  CHECK(weight("empty", {0, 1}).code == errc::mismatch);
  CHECK(model.read_vector("vector", 6).error().message() ==
        "tensor \"vector\": element 3 is not a finite 32-bit number");
  CHECK(model.read_vector("vector", 5).error().code == errc::mismatch);
  CHECK(model.read_vector("nan", 6).error().code == errc::mismatch);
  CHECK(model.read_vector("huge", 1).error().code == errc::not_finite);
  CHECK_FALSE(model.shape("none"));
}

TEST_CASE("io/checkpoint: a folder without a clear choice lists what was found") {
  scratch_folder const folder;
  CHECK(checkpoint::open(folder.path()).error().what.ends_with("found an empty folder"));
  CHECK(checkpoint::open(folder / "absent").error().code == errc::io);
  write_one(folder / "x.safetensors", "x", 1);
  REQUIRE(checkpoint::open(folder.path()));
  write_one(folder / "y.safetensors", "y", 2);
  auto const two = checkpoint::open(folder.path());
  REQUIRE_FALSE(two);
  CHECK(two.error().code == errc::missing);
  CHECK(two.error().what.ends_with("found \"x.safetensors\", \"y.safetensors\""));
  write_one(folder / "model.safetensors", "z", 3);
  CHECK(checkpoint::open(folder.path())->contains("z"));
  folder.write("config.json", "[]");
  CHECK_FALSE(checkpoint::open(folder.path()));
  CHECK(checkpoint::open(folder / "x.safetensors"));  // that config is not this file's
}

TEST_CASE("io/checkpoint: shards are read through the index, and only by plain names in the folder") {
  scratch_folder const folder;
  write_one(folder / "a.safetensors", "x", 1);
  write_one(folder / "b.safetensors", "y", 2);
  std::filesystem::create_directory(folder / "sub");
  write_one(folder / "sub" / "c.safetensors", "z", 3);
  std::filesystem::create_symlink("nowhere", folder / "dangling.safetensors");
  std::filesystem::create_symlink("/dev/zero", folder / "device.safetensors");
  auto const with = [&](std::string const& map) {
    folder.write("model.safetensors.index.json", "{\"weight_map\":" + map + "}");
    return checkpoint::open(folder.path());
  };
  auto const model = with(R"({"x":"a.safetensors","y":"b.safetensors"})");
  REQUIRE(model);
  CHECK(model->names() == std::vector<std::string>{"x", "y"});
  CHECK(model->read_vector("y", 1)->front() == 2);
  for (std::string const hostile :
       {R"("../x.safetensors")", R"("sub/c.safetensors")", R"("/etc/passwd")", R"("sub\\c.safetensors")",
        R"("dangling.safetensors")", R"("device.safetensors")", R"("a.safetensors\u0000")", R"("..")", R"("")",
        R"("C:a.safetensors")", "3", R"("absent.safetensors")", R"("b.safetensors")"}) {
    INFO(hostile);
    CHECK_FALSE(with("{\"x\":" + hostile + "}"));
  }
  CHECK_FALSE(with("[]"));
  write_one(folder / "b.safetensors", "x", 2);
  CHECK_FALSE(with(R"({"x":"a.safetensors","y":"b.safetensors"})"));
}

TEST_CASE("io/checkpoint: shards may be links out of the folder, as in Hugging Face's cache") {
  scratch_folder const folder;
  auto const snapshot = folder / "snapshots" / "1";
  std::filesystem::create_directories(snapshot);
  std::filesystem::create_directory(folder / "blobs");
  write_one(folder / "blobs" / "0a", "x", 1);
  write_one(folder / "blobs" / "0b", "y", 2);
  folder.write("blobs/0c", R"({"weight_map":{"x":"a.safetensors","y":"b.safetensors"}})");
  std::filesystem::create_symlink("../../blobs/0a", snapshot / "a.safetensors");
  std::filesystem::create_symlink("../../blobs/0b", snapshot / "b.safetensors");
  std::filesystem::create_symlink("../../blobs/0c", snapshot / "model.safetensors.index.json");
  auto const model = checkpoint::open(snapshot);
  REQUIRE(model);
  CHECK(model->names() == std::vector<std::string>{"x", "y"});
  CHECK(model->read_vector("y", 1)->front() == 2);
}

TEST_CASE("io/checkpoint: the same tensor in two shards is refused") {
  scratch_folder const folder;
  bytes const data = stored(dtype_code::f32, {1});
  std::vector<tensor_source> const both = {{"x", dtype_code::f32, {1}, data}, {"y", dtype_code::f32, {1}, data}};
  REQUIRE(pare::write_safetensors(folder / "a.safetensors", both));
  REQUIRE(pare::write_safetensors(folder / "b.safetensors", both));
  folder.write("model.safetensors.index.json", R"({"weight_map":{"x":"a.safetensors","y":"b.safetensors"}})");
  auto const model = checkpoint::open(folder.path());
  REQUIRE_FALSE(model);
  CHECK(model.error().code == errc::malformed);
}

TEST_CASE("io/sparse_bitmask: a compressed weight shows as the dense tensor that it stands for") {
  for (std::string const& prefix : {std::string("layer"), std::string("layer.weight")})
    for (bool offsets : {true, false}) {
      compressed_weight c;
      c.prefix = prefix;
      c.with_offsets = offsets;
      auto const model = c.open();
      REQUIRE(model);
      CHECK(model->names() == std::vector<std::string>{"layer.weight"});
      CHECK(*model->shape("layer.weight") == std::vector<index_t>{2, 10});
      auto const w = model->read_weight("layer.weight", {2, 10});
      REQUIRE(w);
      CHECK(std::vector<float>(w->values.data(), w->values.data() + 20) ==
            std::vector<float>{0, 1, 0, 2, 3, 0, 0, 4, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 6});
      CHECK(w->keep == pare::nonzeros(w->values));
      CHECK_FALSE(model->read_weight("layer.weight", {10, 2}));
    }
}

TEST_CASE("io/sparse_bitmask: stored zeros stay kept, and the 2:4 form with two-dimensional values is read") {
  compressed_weight c;
  c.shape = {2, 4};
  c.bitmask = {3, 12};
  c.bitmask_shape = {2, 1};
  c.values = {0, 7, 8, 0};
  c.compressed_shape = {2, 2};
  c.shape_shape = {2, 1};
  c.with_offsets = false;
  auto const model = c.open();
  REQUIRE(model);
  auto const w = model->read_weight("layer.weight", {2, 4});
  REQUIRE(w);
  CHECK(w->keep.count() == 4);
  CHECK(w->keep(0, 0));
  CHECK(w->values(0, 1) == 7);
  CHECK(w->values(1, 2) == 8);
}

TEST_CASE("io/sparse_bitmask: parts that disagree are refused, each with its reason") {
  using change = std::function<void(compressed_weight&)>;
  std::vector<std::pair<std::string, change>> const damages = {
      {"has 7 bits set", [](auto& c) { c.bitmask[0] |= 1; c.with_offsets = false; }},
      {"has 5 bits set", [](auto& c) { c.bitmask[0] &= 126; c.with_offsets = false; }},
      {"bits set after column 9", [](auto& c) { c.bitmask = {154, 0, 0, 6}; }},
      {"row 1 starts at 3", [](auto& c) { c.row_offsets = {0, 3}; }},
      {"row 0 starts at -1", [](auto& c) { c.row_offsets = {-1, 4}; }},
      {"expected I64 [2]", [](auto& c) { c.row_offsets = {0, 4, 6}; }},
      {"dimension 0 is -2", [](auto& c) { c.shape = {-2, -10}; }},
      {"dimension 1 is 0", [](auto& c) { c.shape = {2, 0}; }},
      {"overflow", [](auto& c) { c.shape = {std::int64_t{1} << 62, 4}; }},
      {"overflow", [](auto& c) { c.shape = {1, INT64_MAX}; }},
      {"expected U8 [1125899906842624, 1]", [](auto& c) { c.shape = {std::int64_t{1} << 50, 8}; }},
      {"expected U8 [2, 3]", [](auto& c) { c.shape = {2, 17}; }},
      {"expected I64 [rank]", [](auto& c) { c.shape = {20}; c.shape_shape = {1}; }},
      {"expected I64 [rank]", [](auto& c) { c.shape_dtype = dtype_code::u64; }},
      {"is not a finite", [](auto& c) { c.values[4] = HUGE_VALF; }},
  };
  for (auto const& [sentence, damage] : damages) {
    INFO(sentence);
    compressed_weight c;
    damage(c);
    auto const model = c.open();
    auto const found = !model ? model.error() : [&] {
      auto const w = model->read_weight("layer.weight", {2, 10});
      REQUIRE_FALSE(w);
      return w.error();
    }();
    CHECK(found.what.find(sentence) != std::string::npos);
    CHECK(found.where.find("\"layer.") != std::string::npos);
  }
}

TEST_CASE("io/sparse_bitmask: a missing part is named, and unrelated tensors of such names stay ordinary") {
  scratch_folder const folder;
  bytes const data = stored(dtype_code::f32, {1});
  auto const open = [&](std::vector<std::string> const& names) {
    std::vector<tensor_source> tensors;
    for (auto const& n : names) tensors.push_back({n, dtype_code::f32, {1}, data});
    REQUIRE(pare::write_safetensors(folder / "model.safetensors", tensors));
    return checkpoint::open(folder.path());
  };
  auto const missing = open({"x.compressed", "x.shape"});
  REQUIRE_FALSE(missing);
  CHECK(missing.error().message() == "model.safetensors: tensor \"x.compressed\" needs \"x.bitmask\"");
  auto const ordinary = open({"x.compressed", "y.shape", "z.bitmask"});
  REQUIRE(ordinary);
  CHECK(ordinary->names() == std::vector<std::string>{"x.compressed", "y.shape", "z.bitmask"});
}

TEST_CASE("io/sparse_bitmask: encoding and decoding give back values and mask for any width and type") {
  pare::random_source random(3);
  for (index_t cols : {1, 7, 8, 9, 63, 64, 65, 130})
    for (dtype_code dtype : {dtype_code::f32, dtype_code::bf16, dtype_code::f16, dtype_code::f64}) {
      index_t const rows = 5;
      pare::matrix<float> values(rows, cols);
      pare::mask keep(extents{rows, cols});
      for (index_t r = 0; r < rows; ++r)
        for (index_t c = 0; c < cols; ++c) {
          values(r, c) = pare::stored_value(dtype, random.normal());
          keep.set(r, c, r != 2 && random.uniform() < 0.4f);  // row 2 is empty
        }
      std::vector<index_t> const shape = {rows, cols, 1};
      auto const encoded = pare::encode_sparse_bitmask("l.weight", shape, values.span(), keep, dtype);
      REQUIRE(encoded);
      scratch_folder const folder;
      REQUIRE(pare::write_safetensors(folder / "model.safetensors", encoded->tensors()));
      auto const model = checkpoint::open(folder.path());
      REQUIRE(model);
      CHECK(*model->shape("l.weight") == shape);
      CHECK(model->is_compressed("l.weight"));
      auto const w = model->read_weight("l.weight", {rows, cols});
      REQUIRE(w);
      CHECK(w->keep == keep);
      CHECK(w->stored == dtype);
      pare::apply(keep, values);
      CHECK(std::equal(values.data(), values.data() + values.size(), w->values.data()));
    }
}

TEST_CASE("io/sparse_bitmask: values that the stored type cannot hold are refused") {
  pare::matrix<float> values(2, 2);
  values(1, 0) = 1e6f;
  pare::mask const keep(extents{2, 2}, true);
  std::vector<index_t> const shape = {2, 2};
  auto const half = pare::encode_sparse_bitmask("l.weight", shape, values.span(), keep, dtype_code::f16);
  REQUIRE_FALSE(half);
  CHECK(half.error().message() == "tensor \"l.weight\": element (1, 0) is too large for F16");
  values(1, 0) = std::nanf("");
  auto const nan = pare::encode_sparse_bitmask("l.weight", shape, values.span(), keep, dtype_code::f32);
  REQUIRE_FALSE(nan);
  CHECK(nan.error().code == errc::not_finite);
}
