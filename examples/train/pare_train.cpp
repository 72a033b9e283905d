// SPDX-License-Identifier: Apache-2.0
// pare_train: trains the networks that the demo prunes, so that anyone can make them again.
//
//   pare_train --task glyphs --bf16 -o glyphs             the network that comes with pare; draws its own data
//   pare_train --task mnist --data mnist -o lenet         LeNet-300-100 on the MNIST files
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <unistd.h>

#include <pare/core/dtype.hpp>
#include <pare/core/random.hpp>
#include <pare/io/dtype.hpp>
#include <pare/io/file.hpp>
#include <pare/io/json.hpp>
#include <pare/io/safetensors.hpp>

#include "train/mlp_trainer.hpp"
#include "train/task.hpp"

namespace {

using pare::index_t;
using pare::result;
namespace demo = pare::demo;
namespace fs = std::filesystem;

struct settings {
  std::string task = "glyphs";
  fs::path data;
  fs::path output;
  std::vector<index_t> hidden;
  index_t samples = 60000;  // glyphs drawn for each epoch
  bool bf16 = false;
  demo::training_options training;
};

/// The network with every value rounded to what bf16 holds.
demo::mlp_weights rounded(demo::mlp_weights net) {
  auto const round = [](float& v) { v = pare::to_float(pare::bf16(v)); };
  for (auto& w : net.weights) std::for_each(w.data(), w.data() + w.size(), round);
  for (auto& b : net.biases) std::for_each(b.begin(), b.end(), round);
  return net;
}

result<void> save_tensors(fs::path const& file, demo::mlp_weights const& net, pare::dtype_code dtype) {
  std::vector<pare::tensor_source> tensors;
  std::vector<std::vector<std::byte>> stored;  // what the sources point to; moving an element keeps its bytes
  auto const add = [&](std::string name, std::vector<index_t> shape, std::span<float const> values) {
    std::size_t const step = pare::size_in_bytes(dtype);
    auto& bytes = stored.emplace_back(values.size() * step);
    for (std::size_t i = 0; i < values.size(); ++i) pare::store_float(dtype, values[i], bytes.data() + i * step);
    tensors.push_back({std::move(name), dtype, std::move(shape), bytes});
  };
  for (std::size_t i = 0; i < net.weights.size(); ++i) {
    std::string const layer = "fc" + std::to_string(i + 1);
    auto const& w = net.weights[i];
    add(layer + ".weight", {w.rows(), w.cols()}, {w.data(), static_cast<std::size_t>(w.size())});
    add(layer + ".bias", {w.rows()}, net.biases[i]);
  }
  return pare::write_safetensors(file, tensors);
}

result<void> save_config(fs::path const& file, settings const& s, demo::task const& t, std::span<index_t const> sizes,
                         double accuracy) {
  nlohmann::ordered_json config{
      {"model_type", "mlp"},
      {"architectures", {"MLP"}},
      {"layer_sizes", std::vector<index_t>(sizes.begin(), sizes.end())},
      {"activation", "relu"},
      {"input_scale", t.input.scale},
      {"input_mean", t.input.mean},
      {"input_std", t.input.deviation},
      {"task", s.task},
      {"classes", t.classes},
      {"torch_dtype", s.bf16 ? "bfloat16" : "float32"},
      {"training",
       {{"epochs", s.training.epochs},
        {"learning_rate", s.training.learning_rate},
        {"weight_decay", s.training.weight_decay},
        {"dropout", s.training.dropout},
        {"seed", s.training.seed},
        {"test_accuracy", accuracy}}},
  };
  std::string const text = config.dump(2) + "\n";
  return pare::write_file_atomically(file, std::as_bytes(std::span(text)));
}

result<void> run(settings const& s) {
  std::error_code failed;
  fs::create_directories(s.output, failed);
  if (failed) return pare::error{pare::errc::io, s.output.string(), "cannot be created: " + failed.message()};
  bool const redrawn = s.task == "glyphs";  // new characters in each epoch
  result<demo::task> loaded =
      redrawn ? result<demo::task>(demo::glyph_task(s.samples, s.training.seed)) : demo::mnist_task(s.data);
  PARE_TRY(demo::task t, std::move(loaded));

  std::vector<index_t> sizes{t.train.images.cols()};
  sizes.insert(sizes.end(), s.hidden.begin(), s.hidden.end());
  sizes.push_back(static_cast<index_t>(t.classes.size()));
  demo::mlp_trainer trainer(sizes, s.training);
  bool const terminal = ::isatty(STDERR_FILENO) != 0;
  auto const start = std::chrono::steady_clock::now();
  for (index_t e = 1; e <= s.training.epochs; ++e) {
    if (redrawn && e > 1) {
      t.train =
          demo::draw_samples(s.samples, pare::random_source(s.training.seed + static_cast<std::uint64_t>(e)).bits());
      t.input.apply(t.train.images);
    }
    auto const summary = trainer.epoch(t.train.images, t.train.labels);
    std::chrono::duration<double> const time = std::chrono::steady_clock::now() - start;
    std::fprintf(stderr, "%sepoch %td/%td  loss %.4f  train %.2f %%  test %.2f %%  %.0f s%s", terminal ? "\r" : "", e,
                 s.training.epochs, summary.loss, 100 * summary.accuracy,
                 100 * demo::accuracy(trainer.network(), t.test.images, t.test.labels), time.count(),
                 terminal && e < s.training.epochs ? "   " : "\n");
  }

  auto const net = s.bf16 ? rounded(trainer.network()) : trainer.network();
  double const accuracy = demo::accuracy(net, t.test.images, t.test.labels);
  PARE_TRY_VOID(
      save_tensors(s.output / "model.safetensors", net, s.bf16 ? pare::dtype_code::bf16 : pare::dtype_code::f32));
  PARE_TRY_VOID(save_config(s.output / "config.json", s, t, sizes, accuracy));
  std::printf("%s: test accuracy %.2f %%\n", s.output.string().c_str(), 100 * accuracy);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Trains a multilayer perceptron and writes it as model.safetensors and config.json.");
  app.add_option("--task", s.task, "what to learn: characters that are drawn here, or the MNIST digits")
      ->check(CLI::IsMember({"glyphs", "mnist"}))
      ->capture_default_str();
  app.add_option("--data", s.data, "folder of the MNIST files, plain or .gz")->check(CLI::ExistingDirectory);
  app.add_option("-o,--output", s.output, "folder to write to")->required();
  app.add_option("--hidden", s.hidden, "widths of the hidden layers (default 512,256; mnist 300,100)")
      ->delimiter(',')
      ->check(CLI::Range(1, 65536));
  app.add_option("--samples", s.samples, "glyphs drawn for each epoch")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  auto const* epochs =
      app.add_option("--epochs", s.training.epochs, "default 20; mnist 12")->check(CLI::Range(1, 100000));
  app.add_option("--batch", s.training.batch)->check(CLI::Range(1, 65536))->capture_default_str();
  app.add_option("--learning-rate", s.training.learning_rate)->check(CLI::Range(1e-6, 1.0))->capture_default_str();
  app.add_option("--weight-decay", s.training.weight_decay)->check(CLI::Range(0.0, 10.0))->capture_default_str();
  app.add_option("--dropout", s.training.dropout)->check(CLI::Range(0.0, 0.9))->capture_default_str();
  app.add_option("--seed", s.training.seed)->capture_default_str();
  app.add_flag("--bf16", s.bf16, "store the weights as bf16, half the size");
  try {
    app.parse(argc, argv);
    if (s.task == "mnist" && s.data.empty()) throw CLI::RequiredError("--task mnist: --data");
  } catch (CLI::ParseError const& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (s.task == "mnist" && epochs->count() == 0) s.training.epochs = 12;
  if (s.hidden.empty()) s.hidden = s.task == "mnist" ? std::vector<index_t>{300, 100} : std::vector<index_t>{512, 256};

  if (auto const done = run(s); !done) {
    std::fprintf(stderr, "pare_train: %s\n", done.error().message().c_str());
    return 2;
  }
  return 0;
}
