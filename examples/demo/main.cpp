// SPDX-License-Identifier: Apache-2.0
// The main job: a trained network, pruned in several ways, each run beside the dense one; a table and an HTML report.
//
// Without arguments it takes the small network in examples/data/glyphs, which examples/train made.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include <CLI/CLI.hpp>

#include <pare/kernel/thread_pool.hpp>
#include <pare/nn/network.hpp>

#include "demo/report.hpp"
#include "support/prune_model.hpp"
#include "support/terminal.hpp"

namespace {

using namespace pare;
using program::model;

struct options {
  std::string model = PARE_EXAMPLE_DATA_DIR "/glyphs";
  std::string data;
  std::string text;
  std::string report = "pare_report.html";
  index_t limit = 0;
  index_t batch = 0;
  int threads = 1;
  bool quick = false;
};

struct variant {
  char const* method;
  char const* pattern;
  char const* allocation = "uniform";
};

std::vector<variant> const all_variants = {{"magnitude", "unstructured:0.5"},
                                           {"magnitude", "unstructured:0.7"},
                                           {"magnitude", "unstructured:0.8"},
                                           {"magnitude", "unstructured:0.9"},
                                           {"magnitude", "unstructured:0.95"},
                                           {"magnitude", "unstructured:0.9", "global"},
                                           {"magnitude", "unstructured:0.9", "erk"},
                                           {"wanda", "unstructured:0.5"},
                                           {"wanda", "unstructured:0.7"},
                                           {"wanda", "unstructured:0.8"},
                                           {"wanda", "unstructured:0.9"},
                                           {"wanda", "unstructured:0.95"},
                                           {"wanda", "2:4"},
                                           {"wanda", "1:4"},
                                           {"magnitude", "2:4"},
                                           {"magnitude", "block4x1:0.5"},
                                           {"magnitude", "block4x1:0.8"},
                                           {"wanda", "block4x1:0.8"},
                                           {"magnitude", "block4x4:0.8"},
                                           {"random", "unstructured:0.5"},
                                           {"random", "unstructured:0.7"},
                                           {"random", "unstructured:0.9"}};
std::vector<variant> const quick_variants = {{"magnitude", "unstructured:0.5"}, {"magnitude", "unstructured:0.9"},
                                             {"wanda", "unstructured:0.9"},     {"wanda", "2:4"},
                                             {"magnitude", "block4x1:0.8"},     {"random", "unstructured:0.9"}};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// One forward pass on a batch, again and again.
class forward_pass {
 public:
  forward_pass(model const& m, program::data_set const& data, index_t batch) : model_(&m) {
    if (auto const* const net = std::get_if<llama>(&m.network)) {
      tokens_ = m.words->encode(std::get<std::string>(data)).value();
      tokens_.resize(static_cast<std::size_t>(std::min({batch, std::ssize(tokens_), net->config().max_positions})));
      logits_ = matrix<float>(std::ssize(tokens_), net->config().vocab_size);
    } else {
      auto const& set = std::get<program::labelled_images>(data);
      images_ = matrix<float>(set.images.span().row_range(0, std::min(batch, set.images.rows())));
      logits_ = std::visit(
          [&](auto const& n) {
            if constexpr (requires { n.classes(); })
              return matrix<float>(images_.rows(), n.classes());
            else
              return matrix<float>();
          },
          m.network);
    }
  }
  void run(any_network const& net) {
    std::visit(
        [&](auto const& n) {
          if constexpr (requires { n.classes(); })
            n.forward(images_.span(), logits_.span());
          else
            n.forward(tokens_, logits_.span());
        },
        net);
  }
  [[nodiscard]] index_t size() const noexcept { return logits_.rows(); }

 private:
  model const* model_;
  matrix<float> images_;
  std::vector<int> tokens_;
  matrix<float> logits_;
};

/// Median seconds of one pass of each network, in alternating rounds so that a drifting clock hits both alike.
std::array<double, 2> time_both(forward_pass& pass, any_network const& dense, any_network const& pruned) {
  auto const once = [&](any_network const& net, int repeats) {
    auto const start = std::chrono::steady_clock::now();
    for (int i = 0; i < repeats; ++i) pass.run(net);
    return seconds_since(start) / repeats;
  };
  int const repeats = std::max(1, static_cast<int>(0.01 / std::max(once(dense, 1), 1e-6)));
  std::array<std::vector<double>, 2> samples;
  for (int round = 0; round < 9; ++round) {
    samples[0].push_back(once(dense, repeats));
    samples[1].push_back(once(pruned, repeats));
  }
  for (auto& s : samples) std::nth_element(s.begin(), s.begin() + 4, s.end());
  return {samples[0][4], samples[1][4]};
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name"))
      if (auto const at = line.find(": "); at != std::string::npos) return line.substr(at + 2);
  return "unknown processor";
}

void print_row(demo::report_row const& r, bool perplexity, std::string const& operands) {
  std::array<char, 32> quality{};
  std::snprintf(quality.data(), quality.size(), perplexity ? "%.3f" : "%.2f %%",
                perplexity ? r.quality : 100.0 * r.quality);
  std::printf("%-18s %-13s %7.1f %%  %10s  %10s  %9.3f ms  %6.2fx   %s\n", r.method.c_str(), r.pattern.c_str(),
              100.0 * r.sparsity, quality.data(), program::human_bytes(static_cast<double>(r.bytes)).c_str(),
              r.milliseconds, r.speedup, operands.c_str());
  std::fflush(stdout);
}

/// "bitmap x2, dense x1"
std::string operand_names(any_network const& net) {
  std::vector<std::pair<std::string, int>> count;
  for (linear const* l : layers(net)) {
    auto const found =
        std::find_if(count.begin(), count.end(), [&](auto const& c) { return c.first == l->operand_name(); });
    if (found == count.end())
      count.emplace_back(l->operand_name(), 1);
    else
      ++found->second;
  }
  std::string text;
  for (auto const& [name, n] : count) text += (text.empty() ? "" : ", ") + name + " x" + std::to_string(n);
  return text;
}

void add_pictures(demo::report& report, std::string const& title, any_network const& net) {
  for (linear const* l : layers(net)) {
    if (l->weights().keeps_all() || report.masks.size() >= 24) continue;
    demo::mask_picture picture{title, l->name(), l->shape().rows, l->shape().cols, {}};
    picture.kept.assign(static_cast<std::size_t>(l->shape().size()), 0);
    for_each(l->weights(),
             [&](index_t r, index_t c, float) { picture.kept[static_cast<std::size_t>(r * picture.cols + c)] = 1; });
    report.masks.push_back(std::move(picture));
  }
}

result<program::data_set> read_data(options const& o, model const& m, program::split part) {
  if (m.is_language_model()) {
    if (o.text.empty())
      return error{errc::missing, o.model, "a language model is evaluated on a text: pass --text FILE"};
    PARE_TRY(auto text, program::read_text(o.text, o.limit > 0 ? o.limit : (o.quick ? 12'000 : 60'000)));
    return program::data_set(std::move(text));
  }
  std::string const source = o.data.empty() && m.task == "glyphs" ? "glyphs" : o.data;
  if (source.empty()) return error{errc::missing, o.model, "a classifier is evaluated on images: pass --data SOURCE"};
  index_t const most = part == program::split::train || o.quick ? 1'000 : 10'000;
  PARE_TRY(auto images, program::read_images(source, part, o.limit > 0 ? std::min(o.limit, most) : most));
  return program::data_set(std::move(images));
}

result<void> run(options const& o) {
  PARE_TRY(auto const dense, program::load_model(o.model));
  PARE_TRY(auto const data, read_data(o, dense, program::split::test));
  // A folder with test images only is calibrated on those; the labels play no part in it.
  auto calibration_data = read_data(o, dense, program::split::train);
  index_t const chunk = 600;
  bool const is_resnet = std::holds_alternative<resnet>(dense.network);
  index_t const batch = o.batch > 0 ? o.batch : (is_resnet ? 16 : 128);

  program::progress_line line("dense");
  thread_pool pool(o.threads);
  model base = dense;
  std::visit(
      [&](auto& n) {
        if (o.threads > 1) run_on(n, pool);
      },
      base.network);
  PARE_TRY(auto const dense_quality, program::evaluate(base, data, chunk, batch, line.callback()));
  forward_pass pass(base, data, batch);
  auto const dense_time = time_both(pass, base.network, base.network);
  line.clear();

  weight_count const count = std::visit([](auto const& n) { return count_weights(n); }, base.network);
  bool const perplexity = dense_quality.is_perplexity;
  demo::report report;
  report.title = "pare: " + std::string(kind(base.network)) + " pruned";
  report.environment = processor() + "; " + active_arch() + "; " + std::to_string(o.threads) +
                       " thread(s); batch of " + std::to_string(pass.size()) + (perplexity ? " tokens" : " images");
  report.summary =
      "Sparsity is that of the pruned layers; bytes are the linear layers in their canonical formats. Every time is "
      "the median of "
      "rounds that alternate with the dense network, and where sparse would not pay, the dense kernel runs.";
  report.measure = perplexity ? demo::quality_measure::perplexity : demo::quality_measure::accuracy;
  report.dense = {"dense", "", 0.0, dense_quality.value, static_cast<index_t>(count.bytes), 1e3 * dense_time[0], 1.0};

  std::printf("%s: %s, %td weights in %zu linear layers; %td %s\n%s\n\n", o.model.c_str(),
              std::string(kind(base.network)).c_str(), count.weights, layers(base.network).size(), dense_quality.count,
              perplexity ? "tokens" : "images", report.environment.c_str());
  std::printf("%-18s %-13s %9s  %10s  %10s  %12s  %7s   %s\n", "method", "pattern", "sparsity",
              perplexity ? "perplexity" : "accuracy", "bytes", "per batch", "speed", "runs as");
  print_row(report.dense, perplexity, operand_names(base.network));

  std::string left_out;
  for (variant const& v : o.quick ? quick_variants : all_variants) {
    std::string const label =
        std::string(v.method) + (std::string(v.allocation) == "uniform" ? "" : std::string(", ") + v.allocation);
    line.title(label + " " + v.pattern);
    PARE_TRY(auto const what, parse_pattern(v.pattern));
    model m = base;
    program::prune_request request{v.method, what, v.allocation, 1};
    request.stream = calibration_stream::dense;
    request.chunk = chunk;
    request.settings.progress = line.callback();
    auto done = program::prune(m, request, {calibration_data ? &*calibration_data : &data, nullptr});
    if (!done && done.error().code == errc::pattern_misfit) {
      left_out += std::string(left_out.empty() ? "" : ", ") + v.pattern;
      continue;
    }
    if (!done) return done.error();
    std::visit([&](auto& n) { prepare(n, {.columns = is_resnet ? 256 : batch}); }, m.network);
    PARE_TRY(auto const quality, program::evaluate(m, data, chunk, batch, line.callback()));
    auto const times = time_both(pass, base.network, m.network);
    if (program::interrupted()) return error{errc::cancelled, "", "interrupted"};
    line.clear();
    index_t kept = 0;
    index_t size = 0;
    for (pruned_layer const& p : done->layers) {
      kept += p.kept;
      size += p.shape.size();
    }
    weight_count const left = std::visit([](auto const& n) { return count_weights(n); }, m.network);
    report.rows.push_back({label, to_string(what.pattern), 1.0 - static_cast<double>(kept) / static_cast<double>(size),
                           quality.value, static_cast<index_t>(left.bytes), 1e3 * times[1], times[0] / times[1]});
    print_row(report.rows.back(), perplexity, operand_names(m.network));
    if (what.target.value >= 0.5 && what.target.value <= 0.8 && std::string(v.method) != "random")
      add_pictures(report, label + ", " + v.pattern, m.network);
  }
  if (!left_out.empty()) std::printf("\nleft out, since they do not tile every layer: %s\n", left_out.c_str());
  PARE_TRY_VOID(demo::write_report(o.report, report));
  std::printf("\nreport with mask maps and charts: %s\n", o.report.c_str());
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app("Prunes a trained network in several ways and runs each beside the dense one.", "pare_demo");
  app.add_option("MODEL", o.model, "A model folder, or a .safetensors file; default: the network that comes with pare");
  app.add_option("--data", o.data,
                 "Images for a classifier: a folder with MNIST's files, CIFAR-10 records, or glyphs[:N]");
  app.add_option("--text", o.text, "Text for a language model");
  app.add_option("--limit", o.limit, "Use at most this many images or bytes")->check(CLI::NonNegativeNumber);
  app.add_option("--batch", o.batch, "Images or tokens at once")->check(CLI::Range(1, 65536));
  app.add_option("--threads", o.threads, "Threads that multiply")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--report", o.report, "The HTML file to write")->capture_default_str()->take_last();
  app.add_flag("--quick", o.quick, "Fewer methods and less data");
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  program::catch_interrupt();
  try {
    if (auto const done = run(o); !done) {
      std::fprintf(stderr, "pare_demo: %s\n", done.error().message().c_str());
      return program::interrupted() ? 130 : 2;
    }
  } catch (std::exception const& e) {
    std::fprintf(stderr, "pare_demo: %s\n", e.what());
    return 2;
  }
  return 0;
}
