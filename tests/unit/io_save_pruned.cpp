// SPDX-License-Identifier: Apache-2.0
// Saving a pruned model: what comes back, what is copied, and that nothing is left behind on an error.
#include <algorithm>
#include <cmath>
#include <csignal>
#include <string>
#include <vector>

#include <sys/resource.h>

#include <pare/core/random.hpp>
#include <pare/io/save_pruned.hpp>

#include "io_scratch.hpp"
#include "support/catch.hpp"
#include "support/data.hpp"

using pare::checkpoint;
using pare::errc;
using pare::extents;
using pare::index_t;
using pare::pruned_weight;
using pare::save_form;
using pare::test::content;
using pare::test::scratch_folder;

namespace {

/// A model folder with a BF16 matrix, an F32 convolution, a bias, and files beside it.
std::filesystem::path make_model(scratch_folder const& folder) {
  auto const path = folder / "model";
  std::filesystem::create_directory(path);
  std::vector<std::byte> data(2 * 4 * 3 * 4);
  for (std::size_t i = 0; i < data.size() / 4; ++i)
    pare::store_float(pare::dtype_code::f32, static_cast<float>(i + 1), data.data() + 4 * i);
  std::vector<std::byte> half(6 * 2);
  for (std::size_t i = 0; i < 6; ++i)
    pare::store_float(pare::dtype_code::bf16, static_cast<float>(i + 1), half.data() + 2 * i);
  std::span<std::byte const> const all = data;
  std::vector<pare::tensor_source> const tensors = {{"conv.weight", pare::dtype_code::f32, {2, 4, 3, 1}, all},
                                                    {"conv.bias", pare::dtype_code::f32, {2}, all.first(8)},
                                                    {"fc.weight", pare::dtype_code::bf16, {2, 3}, half},
                                                    {"steps", pare::dtype_code::i64, {}, all.first(8)}};
  REQUIRE(pare::write_safetensors(path / "model.safetensors", tensors));
  REQUIRE(pare::write_file_atomically(path / "config.json", pare::as_bytes(R"({"model_type":"x","n":1})")));
  REQUIRE(pare::write_file_atomically(path / "tokenizer.bin", pare::as_bytes("tok")));
  REQUIRE(pare::write_file_atomically(path / "vocab.txt", pare::as_bytes("v")));
  REQUIRE(pare::write_file_atomically(path / "pytorch_model.bin", pare::as_bytes("other weights")));
  REQUIRE(pare::write_file_atomically(path / "other.safetensors", pare::as_bytes("other weights")));
  std::filesystem::create_directory(path / "sub");
  return path;
}

struct pruned {
  pare::matrix<float> conv{2, 12};
  pare::mask conv_keep{extents{2, 12}};
  pare::matrix<float> fc{2, 3};
  pare::mask fc_keep{extents{2, 3}, true};

  pruned() {
    for (index_t i = 0; i < 24; ++i) conv.data()[i] = static_cast<float>(100 + i);
    for (index_t r = 0; r < 2; ++r)
      for (index_t c = r; c < 12; c += 2) conv_keep.set(r, c);
    for (index_t i = 0; i < 6; ++i) fc.data()[i] = static_cast<float>(i) + 0.5f;
    fc_keep.set(1, 2, false);
  }
  std::vector<pruned_weight> weights() const {
    return {{"conv.weight", conv.span(), &conv_keep}, {"fc.weight", fc.span(), &fc_keep}};
  }
};

bool same_bytes(checkpoint const& a, checkpoint const& b, std::string const& name) {
  auto const x = a.stored_tensors(name);
  auto const y = b.stored_tensors(name);
  return x.size() == 1 && y.size() == 1 && x[0].dtype == y[0].dtype && x[0].shape == y[0].shape &&
         std::equal(x[0].bytes.begin(), x[0].bytes.end(), y[0].bytes.begin(), y[0].bytes.end());
}

}  // namespace

TEST_CASE("io/save_pruned: both forms give back values, masks, shapes and every other tensor") {
  scratch_folder const folder;
  auto const source = make_model(folder);
  pruned const p;
  for (save_form form : {save_form::sparse_bitmask, save_form::dense}) {
    auto const out = folder / (form == save_form::dense ? "dense" : "sparse");
    REQUIRE(pare::save_pruned(source, out, p.weights(), form, nullptr, {"2:4", false}));
    auto const from = *checkpoint::open(source / "model.safetensors");
    auto const model = checkpoint::open(out);
    REQUIRE(model);
    CHECK(model->names() == from.names());
    CHECK(same_bytes(from, *model, "conv.bias"));
    CHECK(same_bytes(from, *model, "steps"));
    CHECK(*model->shape("conv.weight") == std::vector<index_t>{2, 4, 3, 1});
    CHECK(model->dtype("fc.weight") == pare::dtype_code::bf16);
    for (auto const& w : p.weights()) {
      auto const back = model->read_weight(w.name, w.values.shape());
      REQUIRE(back);
      pare::matrix<float> expected(w.values);
      pare::apply(*w.keep, expected);
      CHECK(std::equal(expected.data(), expected.data() + expected.size(), back->values.data()));
      CHECK((form == save_form::dense ? back->keep.keeps_all() : back->keep == *w.keep));
    }
    CHECK(*pare::get_string(model->config(), "model_type") == "x");
    CHECK(content(out / "tokenizer.bin") == "tok");
    CHECK(content(out / "vocab.txt") == "v");
    CHECK_FALSE(std::filesystem::exists(out / "pytorch_model.bin"));
    CHECK_FALSE(std::filesystem::exists(out / "other.safetensors"));
    CHECK_FALSE(std::filesystem::exists(out / "sub"));
    CHECK(model->config().contains("quantization_config") == (form == save_form::sparse_bitmask));
  }
  auto const sparsity = checkpoint::open(folder / "sparse")->config()["quantization_config"]["sparsity_config"];
  CHECK(sparsity["format"] == "sparse-bitmask");
  CHECK(sparsity["sparsity_structure"] == "2:4");
  CHECK(sparsity["global_sparsity"] == 13.0 / 30.0);
  CHECK(sparsity["targets"] == nlohmann::json({"conv", "fc"}));
}

TEST_CASE("io/save_pruned: a pruned model is itself a source, its untouched weights stay compressed") {
  scratch_folder const folder;
  auto const source = make_model(folder);
  pruned const p;
  REQUIRE(pare::save_pruned(source, folder / "1", p.weights(), save_form::sparse_bitmask));
  REQUIRE(pare::save_pruned(folder / "1", folder / "2", p.weights(), save_form::sparse_bitmask));
  CHECK(content(folder / "1" / "model.safetensors") == content(folder / "2" / "model.safetensors"));
  CHECK(content(folder / "1" / "config.json") == content(folder / "2" / "config.json"));
  auto const only_conv = std::vector<pruned_weight>{p.weights().front()};
  REQUIRE(pare::save_pruned(folder / "1", folder / "3", only_conv, save_form::dense));
  auto const third = checkpoint::open(folder / "3");
  REQUIRE(third);
  CHECK(third->is_compressed("fc.weight"));
  CHECK_FALSE(third->is_compressed("conv.weight"));
  CHECK(third->config()["quantization_config"]["sparsity_config"]["targets"] == nlohmann::json({"fc"}));
}

TEST_CASE("io/save_pruned: errors leave nothing behind") {
  scratch_folder const folder;
  auto const source = make_model(folder);
  pruned p;
  auto const before = folder.list();
  auto const refused = [&](std::vector<pruned_weight> const& weights, errc code) {
    auto const saved = pare::save_pruned(source, folder / "out", weights, save_form::sparse_bitmask);
    return !saved && saved.error().code == code && folder.list() == before;
  };
  CHECK(refused({{"absent", p.fc.span(), &p.fc_keep}}, errc::missing));
  CHECK(refused({{"conv.weight", p.fc.span(), &p.fc_keep}}, errc::mismatch));
  CHECK(refused({{"fc.weight", p.fc.span(), &p.conv_keep}}, errc::mismatch));
  CHECK(refused({{"fc.weight", p.fc.span(), &p.fc_keep}, {"fc.weight", p.fc.span(), &p.fc_keep}}, errc::mismatch));
  p.fc(0, 1) = HUGE_VALF;
  CHECK(refused(p.weights(), errc::not_finite));
  p.fc(0, 1) = 3.4e38f;  // rounds up, out of bfloat16's range
  CHECK(refused({{"fc.weight", p.fc.span(), &p.fc_keep}}, errc::out_of_range));
  CHECK(refused({{"fc.weight", p.fc.span(), nullptr}}, errc::out_of_range));
  CHECK_FALSE(pare::save_pruned(folder / "no", folder / "out", {}, save_form::dense));
  CHECK_FALSE(pare::save_pruned(source, folder / "a" / "b", {}, save_form::dense));
  CHECK(folder.list() == before);
}

TEST_CASE("io/save_pruned: a full disk leaves nothing behind") {
  scratch_folder const folder;
  auto const source = make_model(folder);
  auto const before = folder.list();
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  auto const handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit const limit{64, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  auto const saved = pare::save_pruned(source, folder / "out", {}, save_form::dense);
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  REQUIRE_FALSE(saved);
  CHECK(saved.error().code == errc::io);
  CHECK(saved.error().where == (folder / "out/model.safetensors").string());  // what the user asked for
  CHECK(folder.list() == before);
}

TEST_CASE("io/save_pruned: a target that cannot be is known before there is anything to write") {
  scratch_folder const folder;
  auto const source = make_model(folder);
#if defined(__linux__)
  CHECK_FALSE(pare::check_save_target(source, "/proc/out"));  // a folder that is there, in which nothing can be made
#endif
  CHECK(pare::check_save_target(source, folder / "out"));
  CHECK(pare::check_save_target(source / "model.safetensors", folder / "out" / ""));
  for (std::filesystem::path const& out : {std::filesystem::path(), folder / "a" / "b", source / "config.json" / "x",
                                           source, std::filesystem::path(".")}) {
    INFO(out.string());
    auto const checked = pare::check_save_target(source, out);
    REQUIRE_FALSE(checked);
    CHECK(checked.error().code == errc::io);
    CHECK_FALSE(checked.error().where.empty());
  }
}

TEST_CASE("io/save_pruned: files beside the weights are copied from the model, not from where a link leads") {
  scratch_folder const folder;
  auto const source = make_model(folder);
  folder.write("secret", "private");
  std::filesystem::create_symlink("vocab.txt", source / "vocab.link");
  REQUIRE(pare::save_pruned(source, folder / "inside", {}, save_form::dense));
  CHECK(content(folder / "inside" / "vocab.link") == "v");
  std::filesystem::create_symlink(folder / "secret", source / "README.md");
  auto const saved = pare::save_pruned(source, folder / "out", {}, save_form::dense);
  REQUIRE_FALSE(saved);
  CHECK(saved.error().where == (source / "README.md").string());
  CHECK_FALSE(std::filesystem::exists(folder / "out"));

  auto const snapshot = folder / "snapshots" / "1";  // as Hugging Face's cache keeps a model
  std::filesystem::create_directories(snapshot);
  std::filesystem::create_directory(folder / "blobs");
  for (std::string const name : {"model.safetensors", "config.json", "tokenizer.bin"}) {
    std::filesystem::copy(source / name, folder / "blobs" / name);
    std::filesystem::create_symlink("../../blobs/" + name, snapshot / name);
  }
  REQUIRE(pare::save_pruned(snapshot, folder / "cached", {}, save_form::dense));
  CHECK(content(folder / "cached" / "tokenizer.bin") == "tok");
}

TEST_CASE("io/save_pruned: an existing folder is replaced only on request, and only where it is a model") {
  scratch_folder const folder;
  auto const source = make_model(folder);
  pruned const p;
  auto const save = [&](std::filesystem::path const& out, bool replace) {
    return pare::save_pruned(source, out, p.weights(), save_form::dense, nullptr, {"unstructured", replace});
  };
  auto const out = folder / "out";
  REQUIRE(save(out, false));
  auto const first = content(out / "model.safetensors");
  folder.write("out/tokenizer.model", "left over");
  CHECK_FALSE(save(out, false));
  CHECK(std::filesystem::exists(out / "tokenizer.model"));
  folder.write("out/notes", "the user's own");
  auto const refused = save(out, true);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().what.find("\"notes\"") != std::string::npos);
  CHECK(std::filesystem::exists(out / "notes"));
  std::filesystem::remove(out / "notes");
  std::filesystem::create_directory(out / "vocab");
  CHECK_FALSE(save(out, true));
  std::filesystem::remove(out / "vocab");
  REQUIRE(save(out / "", true));
  CHECK_FALSE(std::filesystem::exists(out / "tokenizer.model"));
  CHECK(content(out / "model.safetensors") == first);

  CHECK_FALSE(save(source, true));
  CHECK_FALSE(save(source / ".", true));
  CHECK_FALSE(save(folder.path(), true));
  std::filesystem::create_directory(folder / "photos");
  folder.write("photos/p.jpg", "x");
  CHECK_FALSE(save(folder / "photos", true));
  CHECK_FALSE(save(folder.write("file", "x"), true));
  CHECK(folder.list() == std::vector<std::string>{"file", "model", "out", "photos"});
}

TEST_CASE("io/save_pruned: a real network pruned at random reads back exactly") {
  auto const path = pare::test::data("stories260K");
  if (!path) return;
  scratch_folder const folder;
  auto const from = *checkpoint::open(*path);
  std::vector<pare::weight_tensor> tensors;
  std::vector<std::string> names;
  pare::random_source random(1);
  for (auto const& n : from.names()) {
    auto const shape = *from.shape(n);
    if (shape.size() != 2) continue;
    auto w = from.read_weight(n, {shape[0], shape[1]});
    REQUIRE(w);
    for (index_t r = 0; r < w->values.rows(); ++r)
      for (index_t c = 0; c < w->values.cols(); ++c) w->keep.set(r, c, random.uniform() < 0.5f);
    pare::apply(w->keep, w->values);
    tensors.push_back(*std::move(w));
    names.push_back(n);
  }
  std::vector<pruned_weight> weights;
  for (std::size_t i = 0; i < names.size(); ++i)
    weights.push_back({names[i], tensors[i].values.span(), &tensors[i].keep});
  REQUIRE(pare::save_pruned(*path, folder / "out", weights, save_form::sparse_bitmask));
  auto const model = checkpoint::open(folder / "out");
  REQUIRE(model);
  CHECK(model->names() == from.names());
  for (std::size_t i = 0; i < names.size(); ++i) {
    auto const back = model->read_weight(names[i], tensors[i].values.shape());
    REQUIRE(back);
    CHECK(back->keep == tensors[i].keep);
    CHECK(std::equal(back->values.data(), back->values.data() + back->values.size(), tensors[i].values.data()));
  }
  CHECK(content(folder / "out" / "tokenizer.bin") == content(*path / "tokenizer.bin"));
  CHECK(std::filesystem::file_size(folder / "out" / "model.safetensors") <
        std::filesystem::file_size(*path / "model.safetensors") * 6 / 10);
}
