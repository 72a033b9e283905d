// SPDX-License-Identifier: Apache-2.0
// Sparse training in miniature: what the papers of lottery tickets, gradual pruning and dynamic sparsity claim, on a
// perceptron that trains in seconds.
//
//   pare_sparse_training                                  characters that are drawn here
//   pare_sparse_training --task mnist --data mnist        LeNet-300-100 on the MNIST files
//   pare_sparse_training --regimes                        instead, the grid of the three-regime model
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <pare/inspect/essential_sparsity.hpp>
#include <pare/inspect/linear_cka.hpp>
#include <pare/inspect/mask_agreement.hpp>
#include <pare/inspect/mode_connectivity.hpp>
#include <pare/inspect/spectrum.hpp>
#include <pare/prune/training_cost.hpp>

#include "sparse_training/methods.hpp"
#include "support/terminal.hpp"

namespace {

using pare::index_t;
using pare::result;
using pare::sparsity;
namespace demo = pare::demo;

struct options {
  std::string task = "glyphs";
  std::filesystem::path data;
  std::vector<index_t> hidden{300, 100};
  std::vector<double> sparsities{0.8, 0.9, 0.95, 0.98};
  index_t samples = 60000;  // glyphs to train on
  index_t test_samples = demo::glyph_test_count;
  index_t steps = 2000;
  index_t batch = 100;
  index_t every = 50;
  index_t rewind_step = 0;
  double learning_rate = 1.2e-3;
  std::string optimiser = "adamw";
  std::uint64_t seed = 1;
  index_t seeds = 3;
  std::vector<double> temperatures{1e-4, 3e-4, 1e-3, 3e-3, 1e-2};
  bool regimes = false;
  bool json = false;
};

/// One method at one sparsity: a value for each seed.
struct row {
  std::string method;
  double asked = 0;
  std::vector<double> accuracy, density, flops;
};

double mean(std::vector<double> const& v) {
  double sum = 0;
  for (double const x : v) sum += x;
  return sum / static_cast<double>(v.size());
}
/// Of a sample; 0 of a single value.
double deviation(std::vector<double> const& v) {
  double squares = 0;
  for (double const x : v) squares += (x - mean(v)) * (x - mean(v));
  return v.size() < 2 ? 0.0 : std::sqrt(squares / static_cast<double>(v.size() - 1));
}

/// The rows in the order in which they come first.
class table {
 public:
  void add(std::string const& method, double asked, demo::outcome const& o) {
    row* found = nullptr;
    for (row& r : rows_)
      if (r.method == method && r.asked == asked) found = &r;
    if (found == nullptr) found = &rows_.emplace_back(row{method, asked, {}, {}, {}});
    found->accuracy.push_back(o.accuracy);
    found->density.push_back(o.density);
    found->flops.push_back(o.flops);
  }
  [[nodiscard]] std::vector<row> const& rows() const noexcept { return rows_; }

 private:
  std::vector<row> rows_;
};

/// The inputs of the output layer before ReLU, (N, K).
pare::matrix<float> last_hidden(demo::mlp_weights net, pare::matrix<float> const& images) {
  net.weights.pop_back();
  net.biases.pop_back();
  return demo::logits(net, images);
}

/// Linear CKA of two networks' last hidden layers on the test images.
result<double> similarity(demo::experiment const& e, demo::mlp_weights const& a, demo::mlp_weights const& b) {
  auto const x = last_hidden(a, e.data->test.images), y = last_hidden(b, e.data->test.images);
  pare::linear_cka cka(x.cols(), y.cols());
  cka.add(x.span().transposed(), y.span().transposed());
  return cka.value();
}

/// The test error on the line between two networks.
pare::loss_path errors_between(demo::experiment const& e, demo::mlp_weights const& a, demo::mlp_weights const& b,
                               index_t points) {
  demo::mlp_weights between = a;
  return pare::walk_line(
      [&](double alpha) {
        auto const mix = [&](auto const& from, auto const& to, auto& out, std::size_t n) {
          pare::interpolate({from.data(), n}, {to.data(), n}, alpha, {out.data(), n});
        };
        for (std::size_t l = 0; l < between.weights.size(); ++l) {
          mix(a.weights[l], b.weights[l], between.weights[l], static_cast<std::size_t>(between.weights[l].size()));
          mix(a.biases[l], b.biases[l], between.biases[l], between.biases[l].size());
        }
        return 1.0 - demo::accuracy(between, e.data->test.images, e.data->test.labels);
      },
      points);
}

/// A method's network of the first seed, beside the dense one.
struct relation {
  std::string method;
  demo::outcome sparse;
  double cka = 0;      // of the last hidden layers
  double barrier = 0;  // of the test error on the line between them, above the straight line of its ends
};

/// What the diagnostics say of the networks of the first seed.
struct diagnosis {
  pare::essential_sparsity knee;   // of the tickets, levels as points, one point of accuracy as tolerance
  double at = 0;                   // the sparsity of what follows
  pare::mask_agreement agreement;  // of the ticket and gradual pruning
  double condition_dense = 0, condition_pruned = 0, norm_dense = 0, norm_pruned = 0;  // of the first layer
  double barrier = 0;  // test error between two trainings of the ticket on data in another order
  std::vector<relation> relations;
};

/// sparse: the methods' networks at the sparsity `at`, the ticket and gradual pruning among them.
result<diagnosis> diagnose(demo::experiment e, std::vector<demo::outcome> const& tickets, std::vector<relation> sparse,
                           double at) {
  auto const named = [&](std::string_view method) -> demo::outcome const& {
    auto const found =
        std::find_if(sparse.begin(), sparse.end(), [&](relation const& r) { return r.method == method; });
    PARE_EXPECTS(found != sparse.end(), "diagnose: a method is missing");
    return found->sparse;
  };
  demo::outcome const &dense = tickets[0], &ticket = named("ticket"), &gmp = named("gradual (GMP)");
  diagnosis d;
  d.at = at;
  std::vector<pare::measured_sparsity> curve;
  for (auto const& t : tickets) curve.push_back({sparsity(1.0 - t.density), t.accuracy});
  d.knee = pare::find_essential_sparsity(curve, 0.01);
  d.agreement = pare::compare(ticket.masks, gmp.masks);

  PARE_TRY(auto const before, pare::singular_values(dense.network.weights[0]));
  PARE_TRY(auto const after, pare::singular_values(gmp.network.weights[0]));
  d.condition_dense = before.effective_condition();
  d.condition_pruned = after.effective_condition();
  d.norm_dense = before.norm();
  d.norm_pruned = after.norm();

  for (relation& r : sparse) {
    PARE_TRY(r.cka, similarity(e, dense.network, r.sparse.network));
    r.barrier = errors_between(e, dense.network, r.sparse.network, 5).barrier_above_line();
  }
  auto const first = demo::train_masked(e, ticket.masks);
  e.training.seed += 0x5eed;
  auto const second = demo::train_masked(e, ticket.masks);
  d.barrier = errors_between(e, first.network, second.network, 11).barrier();
  d.relations = std::move(sparse);
  return d;
}

/// A cell of the three-regime model (Zhou et al. 2023, arXiv 2305.18383): how hot the dense network was trained, how
/// much of it is left, and two trainings of what is left on data in another order.
struct regime {
  double temperature = 0;   // learning rate of the dense training
  double load = 0;          // density
  double error = 0;         // on the test images, mean of the two
  double connectivity = 0;  // of their test errors; negative: a barrier
  double cka = 0;           // of their last hidden layers
};

result<std::vector<regime>> regimes(options const& o, demo::experiment const& e, pare::program::progress_line& line) {
  std::vector<regime> grid;
  for (double const temperature : o.temperatures) {
    demo::experiment hot = e;
    hot.training.learning_rate = temperature;
    line("dense", std::ssize(grid), std::ssize(o.temperatures) * std::ssize(o.sparsities));
    auto const dense = demo::train_dense(hot);
    for (double const s : o.sparsities) {
      line("retrain", std::ssize(grid), std::ssize(o.temperatures) * std::ssize(o.sparsities));
      demo::experiment again = e;
      again.training.seed += 1;
      auto const first = demo::train_again(again, dense, sparsity(s));
      again.training.seed += 1;
      auto const second = demo::train_again(again, dense, sparsity(s));
      PARE_TRY(double const cka, similarity(e, first.network, second.network));
      grid.push_back({temperature, first.density, 1.0 - 0.5 * (first.accuracy + second.accuracy),
                      errors_between(e, first.network, second.network, 5).connectivity(), cka});
    }
  }
  return grid;
}

void print(options const& o, std::vector<regime> const& grid) {
  if (o.json) {
    nlohmann::ordered_json out{{"task", o.task}, {"regimes", nlohmann::ordered_json::array()}};
    for (regime const& r : grid)
      out["regimes"].push_back({{"learning_rate", r.temperature},
                                {"density", r.load},
                                {"error", r.error},
                                {"connectivity", r.connectivity},
                                {"linear_cka", r.cka}});
    std::printf("%s\n", out.dump(2).c_str());
    return;
  }
  std::printf(
      "dense training, magnitude pruning at once, and two trainings of what is left, by the learning rate of the\n"
      "first (rows) and the density (columns): test error, connectivity of the two, their linear CKA\n\n%-10s",
      "");
  for (std::size_t i = 0; i < o.sparsities.size(); ++i) std::printf("  %18.1f %%", 100 * grid[i].load);
  for (std::size_t i = 0; i < grid.size(); ++i) {
    if (i % o.sparsities.size() == 0) std::printf("\n%-10g", grid[i].temperature);
    std::printf("  %6.2f %7.2f %5.2f", 100 * grid[i].error, 100 * grid[i].connectivity, grid[i].cka);
  }
  std::printf("\n");
}

void print(options const& o, table const& t, diagnosis const& d) {
  std::printf("%s, hidden layers of", o.task.c_str());
  for (index_t const h : o.hidden) std::printf(" %td", h);
  std::printf("; %td steps of %td images, %s; mean of %td seed%s\n\n", o.steps, o.batch, o.optimiser.c_str(), o.seeds,
              o.seeds == 1 ? "" : "s");
  std::printf("%-24s %8s %9s  %16s  %14s\n", "method", "sparsity", "density", "accuracy", "training FLOPs");
  double last = -1;
  for (row const& r : t.rows()) {
    if (r.asked != last && last >= 0) std::printf("\n");
    last = r.asked;
    std::printf("%-24s %8.2f %7.2f %%  %7.2f +- %4.2f %%  %12.2f x\n", r.method.c_str(), r.asked, 100 * mean(r.density),
                100 * mean(r.accuracy), 100 * deviation(r.accuracy), mean(r.flops));
  }
  std::printf("\nof the first seed, at a sparsity of %.2f:\n", d.at);
  std::printf("  tickets lose a point of accuracy beyond a sparsity of       %.3f\n", d.knee.last_within.value);
  std::printf("  ticket and gradual pruning keep in common (IoU)              %.3f (by chance %.3f)\n",
              d.agreement.kept_iou, (1 - d.at) / (1 + d.at));
  std::printf("  first layer's condition (norm), dense and gradual            %.3g (%.3g), %.3g (%.3g)\n",
              d.condition_dense, d.norm_dense, d.condition_pruned, d.norm_pruned);
  std::printf("  error barrier between two trainings of the ticket            %.2f %%\n", 100 * d.barrier);
  std::printf("  beside the dense network:   CKA of the last hidden layer, error barrier on the line to it\n");
  for (relation const& r : d.relations)
    std::printf("    %-24s  %.3f  %6.2f %%\n", r.method.c_str(), r.cka, 100 * r.barrier);
}

void print_json(options const& o, table const& t, diagnosis const& d) {
  nlohmann::ordered_json out{{"task", o.task},
                             {"hidden", o.hidden},
                             {"steps", o.steps},
                             {"batch", o.batch},
                             {"optimiser", o.optimiser},
                             {"seeds", o.seeds},
                             {"rows", nlohmann::ordered_json::array()}};
  for (row const& r : t.rows())
    out["rows"].push_back({{"method", r.method},
                           {"sparsity", r.asked},
                           {"density", mean(r.density)},
                           {"accuracy", mean(r.accuracy)},
                           {"accuracy_deviation", deviation(r.accuracy)},
                           {"training_flops", mean(r.flops)}});
  out["diagnostics"] = {{"sparsity", d.at},
                        {"essential_sparsity", d.knee.last_within.value},
                        {"kept_iou", d.agreement.kept_iou},
                        {"removed_in_common", d.agreement.removed_in_common},
                        {"condition_dense", d.condition_dense},
                        {"condition_pruned", d.condition_pruned},
                        {"norm_dense", d.norm_dense},
                        {"norm_pruned", d.norm_pruned},
                        {"error_barrier", d.barrier}};
  for (relation const& r : d.relations)
    out["diagnostics"]["beside_dense"][r.method] = {{"linear_cka", r.cka}, {"error_barrier", r.barrier}};
  std::printf("%s\n", out.dump(2).c_str());
}

result<void> run(options const& o) {
  PARE_TRY(demo::task const data, o.task == "mnist" ? demo::mnist_task(o.data)
                                                    : result<demo::task>(demo::glyph_task(
                                                          o.samples, demo::glyph_test_seed + 1, o.test_samples)));
  std::vector<index_t> sizes{data.train.images.cols()};
  sizes.insert(sizes.end(), o.hidden.begin(), o.hidden.end());
  sizes.push_back(std::ssize(data.classes));

  table t;
  diagnosis d;
  pare::program::progress_line line;
  for (index_t n = 0; n < o.seeds; ++n) {
    std::uint64_t const seed = pare::random_source(o.seed + static_cast<std::uint64_t>(n)).bits();
    pare::random_source random(seed);
    demo::experiment const e{
        .data = &data,
        .start = demo::draw_mlp(sizes, random),
        .training = {.steps = o.steps,
                     .batch = o.batch,
                     .learning_rate = o.learning_rate,
                     .rule = o.optimiser == "sgd" ? demo::update_rule::sgd : demo::update_rule::adamw,
                     .seed = seed},
        .every = o.every,
        .rewind_step = o.rewind_step};
    if (o.regimes) {
      PARE_TRY(auto const grid, regimes(o, e, line));
      line.clear();
      print(o, grid);
      return {};
    }
    line.title("seed " + std::to_string(n + 1) + " of " + std::to_string(o.seeds));
    index_t done = 0;
    index_t const total = 2 + 8 * std::ssize(o.sparsities);
    double const middle = o.sparsities[o.sparsities.size() / 2];
    std::vector<relation> sparse;
    auto const add = [&](std::string const& method, double s, auto&& train) {
      line(method, done++, total);
      demo::outcome const result = train();
      t.add(method, s, result);
      if (n == 0 && s == middle) sparse.push_back({method, result});
    };
    pare::iterative_pruning const levels{.train_steps = o.steps, .rewind_step = o.rewind_step};
    line("lottery tickets", done++, total);
    auto const tickets = demo::train_tickets(e, levels.levels_to(sparsity(o.sparsities.back())));
    t.add("dense", 0.0, tickets[0]);
    add("SPDF", 0.75, [&] { return demo::train_spdf(e, sparsity(0.75)); });
    for (double const value : o.sparsities) {
      sparsity const s(value);
      auto const& ticket = tickets[static_cast<std::size_t>(levels.levels_to(s))];
      add("ticket", value, [&] { return ticket; });
      add("ticket, reinitialised", value, [&] { return demo::train_reinitialised(e, ticket.masks, seed + 1); });
      add("ticket, reshuffled", value, [&] { return demo::train_reshuffled(e, ticket.masks, seed + 2); });
      add("gradual (GMP)", value, [&] { return demo::train_gmp(e, s); });
      add("GraNet", value, [&] { return demo::train_granet(e, s); });
      add("RigL", value, [&] { return demo::train_rigl(e, s); });
      add("SET", value, [&] { return demo::train_set(e, s); });
      add("static random, ERK", value, [&] { return demo::train_static(e, pare::erk{}, s); });
      add("static random, uniform", value, [&] { return demo::train_static(e, pare::uniform{}, s); });
      if (n == 0 && value == middle) {
        PARE_TRY(d, diagnose(e, tickets, std::move(sparse), value));
      }
    }
  }
  line.clear();
  o.json ? print_json(o, t, d) : print(o, t, d);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  bool quick = false;
  CLI::App app("Trains sparse networks in the ways of several papers, and compares them.", "pare_sparse_training");
  app.add_option("--task", o.task, "What to learn: characters that are drawn here, or the MNIST digits")
      ->check(CLI::IsMember({"glyphs", "mnist"}))
      ->capture_default_str();
  app.add_option("--data", o.data, "Folder of the MNIST files, plain or .gz")->check(CLI::ExistingDirectory);
  app.add_option("--samples", o.samples, "Characters to train on")
      ->check(CLI::Range(100, 1000000))
      ->capture_default_str();
  app.add_option("--hidden", o.hidden, "Widths of the hidden layers")
      ->delimiter(',')
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  auto* const sparsities = app.add_option("--sparsity", o.sparsities,
                                          "Sparsities, ascending; tickets take the first level that reaches each")
                               ->delimiter(',')
                               ->check(CLI::Range(0.01, 0.999))
                               ->capture_default_str();
  auto* const steps =
      app.add_option("--steps", o.steps, "Steps of each training, default 2000")->check(CLI::Range(10, 10000000));
  app.add_option("--batch", o.batch, "Images in a step")->check(CLI::Range(1, 65536))->capture_default_str();
  app.add_option("--every", o.every, "Steps between updates of a mask")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--rewind", o.rewind_step, "Step that tickets go back to")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--learning-rate", o.learning_rate, "At its peak")
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  app.add_option("--optimiser", o.optimiser, "AdamW, or gradient descent with momentum")
      ->check(CLI::IsMember({"adamw", "sgd"}))
      ->capture_default_str();
  app.add_option("--seed", o.seed, "The first seed")->capture_default_str();
  app.add_option("--seeds", o.seeds, "How many")->check(CLI::Range(1, 1000))->capture_default_str();
  auto* const grid = app.add_flag("--regimes", o.regimes,
                                  "Instead: train dense networks at several temperatures, prune them to several loads, "
                                  "train each twice again, and print how far the two agree");
  app.add_option("--temperature", o.temperatures, "Learning rates of the dense trainings of --regimes")
      ->delimiter(',')
      ->check(CLI::Range(1e-6, 1.0))
      ->needs(grid)
      ->capture_default_str();
  app.add_flag("--json", o.json, "The same as JSON");
  app.add_flag("--quick", quick, "A small network, few characters, one seed: seconds, and no claim");
  try {
    app.parse(argc, argv);
    if (o.task == "mnist" && o.data.empty()) throw CLI::RequiredError("--task mnist: --data");
    if (!std::is_sorted(o.sparsities.begin(), o.sparsities.end()))
      throw CLI::ValidationError("--sparsity", "must ascend");
    if (quick) {
      o.hidden = {64, 32};
      if (sparsities->count() == 0) o.sparsities = {0.8, 0.95};
      o.samples = 10000;
      o.test_samples = 2000;
      if (steps->count() == 0) o.steps = 600;
      o.every = 20;
      o.seeds = 1;
    }
    if (o.rewind_step >= o.steps) throw CLI::ValidationError("--rewind", "must lie before the end of the training");
  } catch (CLI::ParseError const& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (auto const done = run(o); !done) {
    std::fprintf(stderr, "pare_sparse_training: %s\n", done.error().message().c_str());
    return 2;
  }
  return 0;
}
