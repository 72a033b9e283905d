// SPDX-License-Identifier: Apache-2.0
// The pare program: inspect, prune, compare, diagnose, eval, generate and bench.
//
// Exit status: 0 done, 2 an error (one sentence on stderr, or {"error": ...} on stdout with --json), 130 interrupted.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <pare/io/utf8.hpp>

#include "cli/commands.hpp"
#include "support/prune_model.hpp"
#include "support/terminal.hpp"

namespace {

using namespace pare::cli;

int fail(pare::error const& e, bool json) {
  if (json) {
    nlohmann::json const out{{"error", {{"code", pare::name(e.code)}, {"where", e.where}, {"message", e.what}}}};
    std::cout << out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  } else {
    std::fprintf(stderr, "pare: %s\n", e.message().c_str());
  }
  return e.code == pare::errc::cancelled && pare::program::interrupted() ? 130 : 2;
}

/// What CLI11 would read as another number (too large, negative for unsigned) or refuse without saying why.
CLI::Validator const whole_number(
    [](std::string& text) {
      std::int64_t value = 0;
      char const* const end = text.data() + text.size();
      auto const read = std::from_chars(text.data(), end, value);
      if (read.ec == std::errc{} && read.ptr == end && value >= 0) return std::string();
      return "expected a whole number from 0 to 9223372036854775807, found " + pare::in_quotes(text);
    },
    "", "whole number");

/// CLI::Range takes NaN.
CLI::Validator number_in(double low, double high) {
  char range[64];
  std::snprintf(range, sizeof range, "from %g to %g", low, high);
  return CLI::Validator(
      [low, high, rule = std::string("expected a number ") + range](std::string& text) {
        double value = 0.0;
        if (CLI::detail::lexical_cast(text, value) && low <= value && value <= high) return std::string();
        return rule + ", found " + pare::in_quotes(text);
      },
      range, "number");
}

void add_run_options(CLI::App& c, run_options& o) {
  c.add_option("--text", o.text, "Evaluate a language model on this text file (UTF-8)");
  c.add_option("--data", o.data,
               "Evaluate a classifier on these images: a folder with MNIST's files, a file or folder of CIFAR-10 "
               "records, or glyphs[:N]");
  c.add_option("--chunk", o.chunk,
               "Cut texts into chunks of this many bytes, each encoded on its own and started by BOS")
      ->check(whole_number)
      ->type_name("BYTES");
  c.add_option("--limit", o.limit, "Use only the first N bytes of the text, or N images")
      ->check(whole_number)
      ->type_name("N");
  c.add_option("--batch", o.batch, "Images at once")->check(CLI::Range(1, 65536))->capture_default_str();
  c.add_option("--threads", o.threads, "Threads that multiply")->check(CLI::Range(1, 1024))->capture_default_str();
  c.add_option("--operands", o.operands, "auto: the cost model chooses per layer; sparse, dense: always")
      ->check(CLI::IsMember({"auto", "sparse", "dense"}))
      ->capture_default_str();
}

void add_recipe_options(CLI::App& c, recipe_options& o) {
  std::vector<std::string> const allocations(std::begin(pare::program::allocation_names),
                                             std::end(pare::program::allocation_names));
  c.add_option("--allocation", o.allocation,
               "How layers share the budget; global, lamp, owl and flap compare scores on the dense network, evopress "
               "searches: it solves every layer at up to 17 sparsities and tries combinations")
      ->check(CLI::IsMember(allocations))
      ->capture_default_str();
  c.add_flag("--permute", o.permute,
             "Reorder channels first, so that an N:M pattern keeps more; Llama networks, needs --calib");
  c.add_option("--search-text", o.search_text,
               "evopress compares networks with the dense one on this text; default: what follows in the --calib text "
               "after the bytes that calibrate (classifiers: the first calibration images)");
  c.add_option("--search-limit", o.search_limit,
               "Use only this many bytes (default 20000) or images (default 200) of it")
      ->check(whole_number)
      ->type_name("N");
  c.add_option("--generations", o.generations, "Of evopress, each of up to 20 trials")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  c.add_option("--seed", o.seed, "Of the random method, --permute and evopress")
      ->check(whole_number)
      ->capture_default_str();
}

}  // namespace

int main(int argc, char** argv) {
  bool const wants_json =
      std::any_of(argv + 1, argv + argc, [](char const* a) { return std::string_view(a) == "--json"; });
  CLI::App app("Prunes trained neural networks and runs what is left.", "pare");
  app.set_version_flag("--version", PARE_VERSION_STRING);
  app.require_subcommand(1);
  app.fallthrough(false);

  inspect_options inspect_o;
  CLI::App* const inspect_c = app.add_subcommand("inspect", "Show what is in a .safetensors file or a model folder");
  inspect_c->add_option("FILE", inspect_o.path, "A .safetensors file, or a model folder")->required();
  inspect_c->add_flag("--json", inspect_o.json, "Print one JSON object");

  eval_options eval_o;
  CLI::App* const eval_c =
      app.add_subcommand("eval", "Perplexity of a language model on a text, accuracy of a classifier on images");
  eval_c
      ->add_option("MODEL", eval_o.model, "A model folder, or the .safetensors file of a CIFAR ResNet or a perceptron")
      ->required();
  add_run_options(*eval_c, eval_o.run);
  eval_c->add_flag("--json", eval_o.json, "Print one JSON object");
  eval_c->add_option("--logits", eval_o.logits,
                     "Compare with these reference logits (.npy): of the first images of --data, or of --tokens");
  eval_c->add_option("--tokens", eval_o.tokens, "Token ids (.npy) that a language model's reference logits belong to");
  eval_c->footer(
      "Text longer than the network's context is cut into windows of that many tokens, each started by BOS.");

  prune_options prune_o;
  CLI::App* const prune_c = app.add_subcommand("prune", "Prune a model and write it as a model folder");
  prune_c->add_option("MODEL", prune_o.model, "As for eval")->required();
  prune_c->add_option("-o,--out", prune_o.out, "The model folder to write")->required();
  prune_c
      ->add_option("-p,--pattern", prune_o.pattern,
                   "unstructured:S, N:M (N of M stay), N:MxV (the same for V rows) or blockRxC:S; S is the "
                   "sparsity in [0, 1)")
      ->required();
  std::vector<std::string> methods;
  for (pare::program::method_entry const& m : pare::program::methods) methods.emplace_back(m.name);
  prune_c
      ->add_option("-m,--method", prune_o.method, "How weights are chosen; all but magnitude and random need --calib")
      ->check(CLI::IsMember(methods))
      ->capture_default_str();
  add_recipe_options(*prune_c, prune_o.recipe);
  prune_c->add_option("--search-state", prune_o.search_state,
                      "Keep the state of the evopress search in this file after each generation, and go on from it "
                      "where it is there (layers are solved anew)");
  prune_c->add_option("--calib", prune_o.calibration,
                      "Calibration data: a text file, or images as for --data (their training part)");
  prune_c->add_option("--general", prune_o.general,
                      "General data, for methods that tell it from --calib, the domain's: d-pruner, gaprune*");
  prune_c
      ->add_option("--calib-limit", prune_o.calibration_limit,
                   "Use only this many bytes (default 100000) or images (default 1000)")
      ->check(whole_number)
      ->type_name("N");
  prune_c
      ->add_option("--stream", prune_o.stream,
                   "Calibrate each block on what the pruned blocks before it leave, or on the dense network")
      ->check(CLI::IsMember({"pruned", "dense"}))
      ->capture_default_str();
  prune_c->add_option("--skip", prune_o.skip, "Leave layers of this name dense; * matches anything; may be repeated");
  prune_c->add_flag("--all-layers", prune_o.all_layers,
                    "Also prune what is kept dense otherwise: the first convolution and the output layer");
  prune_c
      ->add_option("--save", prune_o.save, "bitmask: small, as compressed-tensors' sparse-bitmask; dense: zeros stored")
      ->check(CLI::IsMember({"bitmask", "dense"}))
      ->capture_default_str();
  prune_c->add_flag("--replace", prune_o.replace, "Replace an existing model folder");
  add_run_options(*prune_c, prune_o.run);
  prune_c->add_flag("--json", prune_o.json, "Print one JSON object");

  compare_options compare_o;
  CLI::App* const compare_c =
      app.add_subcommand("compare", "Prune a model in many ways: one table of what each method costs");
  compare_c->add_option("MODEL", compare_o.model, "As for eval")->required();
  compare_c
      ->add_option("--methods", compare_o.methods,
                   "As prune takes them, with commas between them; or all that take the pattern and the allocation")
      ->delimiter(',')
      ->capture_default_str();
  compare_c->add_option("--sparsity", compare_o.sparsities, "Of the patterns that leave it free")
      ->delimiter(',')
      ->check(number_in(0.0, 0.999999))
      ->capture_default_str();
  compare_c->add_option("--pattern", compare_o.patterns, "unstructured, blockRxC, N:M or N:MxV")
      ->delimiter(',')
      ->capture_default_str();
  compare_c->add_option("--calib", compare_o.calibration, "Calibration data, as for prune");
  compare_c->add_option("--general", compare_o.general, "General data, as for prune");
  add_recipe_options(*compare_c, compare_o.recipe);
  compare_c->add_option("--calib-limit", compare_o.calibration_limit, "As for prune")
      ->check(whole_number)
      ->type_name("N");
  compare_c->add_option("--skip", compare_o.skip,
                        "Leave layers of this name dense; * matches anything; may be repeated");
  compare_c->add_option("--report", compare_o.report, "Also write the table and its charts to this HTML file");
  add_run_options(*compare_c, compare_o.run);
  compare_c->add_flag("--json", compare_o.json, "Print one JSON object");
  compare_c->footer(
      "All methods are calibrated on the same data and measured on the same data. Criteria that read gradients prune "
      "the dense network at once, all others each block behind the pruned ones before it.");

  diagnose_options diagnose_o;
  CLI::App* const diagnose_c = app.add_subcommand(
      "diagnose", "How far a model can be pruned, how its layers are conditioned, how far methods agree");
  diagnose_c->add_option("MODEL", diagnose_o.model, "As for eval")->required();
  diagnose_c->add_option("--methods", diagnose_o.methods, "As prune takes them, with commas between them")
      ->delimiter(',')
      ->capture_default_str();
  diagnose_c->add_option("-p,--pattern", diagnose_o.pattern, "As for prune")->capture_default_str();
  std::vector<std::string> not_searched(std::begin(pare::program::allocation_names),
                                        std::end(pare::program::allocation_names));
  std::erase(not_searched, "evopress");
  diagnose_c->add_option("--allocation", diagnose_o.allocation, "As for prune, without evopress")
      ->check(CLI::IsMember(not_searched))
      ->capture_default_str();
  diagnose_c->add_option("--calib", diagnose_o.calibration, "Calibration data, as for prune");
  diagnose_c->add_option("--general", diagnose_o.general, "General data, as for prune");
  diagnose_c->add_option("--calib-limit", diagnose_o.calibration_limit, "As for prune")
      ->check(whole_number)
      ->type_name("N");
  diagnose_c->add_option("--skip", diagnose_o.skip,
                         "Leave layers of this name dense; * matches anything; may be repeated");
  diagnose_c
      ->add_option("--tolerance", diagnose_o.tolerance,
                   "What counts as a fall: of the accuracy, in [0, 1], or of the logarithm of the perplexity")
      ->check(number_in(0.0, 10.0))
      ->capture_default_str();
  add_run_options(*diagnose_c, diagnose_o.run);
  diagnose_c->add_flag("--json", diagnose_o.json, "Print one JSON object");
  diagnose_c->footer(
      "With --text or --data: the highest sparsity, in steps of 5 %, before the network falls (essential sparsity), of "
      "each method. Always: the largest singular value of each layer over the smallest that is not 0, and, of two "
      "methods or more, the share of weights that both keep.");

  generate_options generate_o;
  CLI::App* const generate_c = app.add_subcommand("generate", "Continue a text");
  generate_c->add_option("MODEL", generate_o.model, "A language model's folder")->required();
  generate_c->add_option("--prompt", generate_o.prompt, "The text to continue")->capture_default_str();
  generate_c->add_option("-n,--tokens", generate_o.tokens, "At most this many new tokens")
      ->check(whole_number)
      ->capture_default_str();
  generate_c->add_option("--temperature", generate_o.temperature, "0 takes the most likely token")
      ->capture_default_str();
  generate_c->add_option("--top-k", generate_o.top_k, "Sample among the k most likely tokens; 0: all")
      ->check(whole_number)
      ->capture_default_str();
  generate_c->add_option("--top-p", generate_o.top_p, "Sample among the most likely tokens that reach this probability")
      ->capture_default_str();
  generate_c->add_option("--seed", generate_o.seed, "Of the sampling")->check(whole_number)->capture_default_str();
  generate_c->add_option("--threads", generate_o.threads, "Threads that multiply")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  generate_c->add_flag("--json", generate_o.json, "Print one JSON object");

  bench_options bench_o;
  CLI::App* const bench_c =
      app.add_subcommand("bench", "From which sparsity on does pruning pay on this machine? Random weights and masks");
  bench_c->add_option("--shape", bench_o.shapes, "Outputs x inputs of a layer, as in 3072x768; may be repeated")
      ->capture_default_str();
  bench_c->add_option("--columns", bench_o.columns, "Tokens or images at once; may be repeated")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  bench_c->add_option("--sparsity", bench_o.sparsities, "Fractions removed; may be repeated")
      ->check(number_in(0.0, 1.0))
      ->capture_default_str();
  bench_c->add_option("--dtype", bench_o.dtype, "Of the weights")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}))
      ->capture_default_str();
  bench_c->add_option("--tune", bench_o.tune,
                      "Add the fastest operand for each shape, columns and sparsity to the tuning table in this file, "
                      "for pare::prepare; what the table holds already stays");
  bench_c->add_flag("--json", bench_o.json, "Print one JSON object");

  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    if (!wants_json) app.exit(e);
    return wants_json ? fail({pare::errc::out_of_range, "command line", e.what()}, true) : 2;
  }
  pare::program::catch_interrupt();
  try {
    pare::result<void> const done = inspect_c->parsed()    ? inspect(inspect_o)
                                    : eval_c->parsed()     ? eval(eval_o)
                                    : prune_c->parsed()    ? prune(prune_o)
                                    : bench_c->parsed()    ? bench(bench_o)
                                    : compare_c->parsed()  ? compare(compare_o)
                                    : diagnose_c->parsed() ? diagnose(diagnose_o)
                                                           : generate(generate_o);
    if (!done) return fail(done.error(), wants_json);
  } catch (std::bad_alloc const&) {
    return fail({pare::errc::io, "memory", "there is not enough of it for this model and data"}, wants_json);
  } catch (std::exception const& e) {
    return fail({pare::errc::io, "internal", e.what()}, wants_json);
  }
  if (std::fflush(stdout) != 0 || !std::cout.flush())
    return fail({pare::errc::io, "standard output", "it cannot be written"}, false);
  return 0;
}
