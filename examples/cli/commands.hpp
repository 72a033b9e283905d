// SPDX-License-Identifier: Apache-2.0
// The commands of the pare program: what each is told, and what it does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <pare/core/result.hpp>

namespace pare::cli {

struct inspect_options {
  std::string path;
  bool json = false;
};

/// How an evaluated network runs; shared by eval and prune.
struct run_options {
  std::string text;         // a file; for language models
  std::string data;         // images; for classifiers
  std::int64_t chunk = 0;   // bytes; 0: the whole text at once
  std::int64_t limit = 0;   // bytes of text or images; 0: all
  std::int64_t batch = 64;  // images at once
  int threads = 1;
  std::string operands = "auto";  // auto, sparse, dense
};

struct eval_options {
  std::string model;
  run_options run;
  std::string tokens;  // .npy of token ids, to compare logits on; for language models
  std::string logits;  // .npy of reference logits
  bool json = false;
};

/// The recipes that go beyond a method: what prune and compare share.
struct recipe_options {
  std::string allocation = "uniform";
  bool permute = false;
  std::string search_text;        // a file; empty: what calibration leaves of its own
  std::int64_t search_limit = 0;  // bytes or images; 0: 20,000 bytes or 200 images
  std::int64_t generations = 50;
  std::uint64_t seed = 0;
};

struct prune_options {
  std::string model;
  std::string out;
  std::string method = "magnitude";
  std::string pattern;
  recipe_options recipe;
  std::string search_state;  // the file of a search's state
  std::string calibration;
  std::string general;                 // data of the general corpus, for methods that tell two apart
  std::int64_t calibration_limit = 0;  // bytes or images; 0: 100,000 bytes or 1,000 images
  std::string stream = "pruned";       // pruned, dense
  std::vector<std::string> skip;
  bool all_layers = false;
  std::string save = "bitmask";  // bitmask, dense
  bool replace = false;
  run_options run;  // evaluate before saving where it names data
  bool json = false;
};

struct compare_options {
  std::string model;
  std::vector<std::string> methods{"all"};
  std::vector<double> sparsities{0.3, 0.5, 0.7};
  std::vector<std::string> patterns{"unstructured", "2:4"};
  std::string calibration;
  std::string general;
  std::int64_t calibration_limit = 0;  // as for prune
  recipe_options recipe;
  std::vector<std::string> skip;
  std::string report;  // an HTML file to write; empty: none
  run_options run;
  bool json = false;
};

struct diagnose_options {
  std::string model;
  std::vector<std::string> methods{"magnitude"};
  std::string pattern = "unstructured:0.5";
  std::string allocation = "uniform";
  std::string calibration;
  std::string general;
  std::int64_t calibration_limit = 0;  // as for prune
  std::vector<std::string> skip;
  double tolerance = 0.01;  // of an accuracy, or of a perplexity's logarithm
  run_options run;          // where it names data, the knee is looked for
  bool json = false;
};

struct generate_options {
  std::string model;
  std::string prompt;
  std::int64_t tokens = 128;
  double temperature = 0.0;
  std::int64_t top_k = 0;
  double top_p = 1.0;
  std::uint64_t seed = 0;
  int threads = 1;
  bool json = false;
};

struct bench_options {
  std::vector<std::string> shapes{"768x768", "3072x768", "4096x4096"};  // MxK
  std::vector<std::int64_t> columns{1, 32, 128};
  std::vector<double> sparsities{0.2, 0.5, 0.7, 0.8, 0.9, 0.95};
  std::string dtype = "f32";  // f32, bf16, int8 (in groups of 128)
  std::string tune;           // a tuning table's file
  bool json = false;
};

/// Each prints its result on stdout (as one JSON object where asked) and its progress on stderr.
[[nodiscard]] result<void> inspect(inspect_options const& o);
[[nodiscard]] result<void> eval(eval_options const& o);
[[nodiscard]] result<void> prune(prune_options const& o);
[[nodiscard]] result<void> compare(compare_options const& o);
[[nodiscard]] result<void> diagnose(diagnose_options const& o);
[[nodiscard]] result<void> generate(generate_options const& o);
[[nodiscard]] result<void> bench(bench_options const& o);

}  // namespace pare::cli
