// SPDX-License-Identifier: Apache-2.0
// A row of the headline table: what was multiplied, what was measured, what was to be reached; as text and as JSON.
#pragma once

#include <cmath>
#include <cstdio>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <pare/core/index.hpp>
#include <pare/io/json.hpp>

namespace pare::bench {

/// What a row is to reach, and over what.
struct goal {
  enum class over { none, best_dense, own_dense, openblas } of = over::none;
  double must = 0.0;
  double aim = 0.0;
};

struct headline_row {
  // what
  std::string family;
  std::string name;  // unique
  std::string op = "spmm";
  std::string format;
  std::string dtype = "f32";
  extents shape{};
  index_t columns = 0;
  double sparsity = 0.0;
  std::string arch;
  bool token_major = false;
  index_t matrices = 1;  // more: a geometric mean
  goal ratio_goal{};
  goal read_goal{};
  // measured
  std::string operand;
  index_t nnz = 0;
  double bytes = 0.0;
  double us = 0.0;
  double us_best_dense = 0.0;
  std::string best_dense;
  double peak_fraction = 0.0;
  double read_fraction = 0.0;
  std::map<std::string, double> us_of{};  // every other contender, dense and sparse

  /// How many times faster than another contender; 0 where that did not take part.
  [[nodiscard]] double over(std::string const& other) const {
    auto const at = us_of.find(other);
    return at == us_of.end() ? 0.0 : at->second / us;
  }
  /// The ratio that the goal is about.
  [[nodiscard]] double reached() const {
    switch (ratio_goal.of) {
      case goal::over::own_dense:
        return over("own_dense");
      case goal::over::openblas:
        return over("openblas");
      case goal::over::best_dense:
      case goal::over::none:
        break;
    }
    return us_best_dense / us;
  }
};

/// "aim", "must", or how much of what must be reached was.
inline std::string verdict(double reached, goal const& g) {
  if (reached >= g.aim) return "aim";
  if (reached >= g.must) return "must";
  char text[16];
  std::snprintf(text, sizeof text, "%.0f %%", 100.0 * reached / g.must);
  return text;
}

/// What goals call the contenders that they are about.
inline constexpr char const* goal_names[] = {"", "best_dense", "own_dense", "openblas"};

inline nlohmann::json to_json(headline_row const& r) {
  auto const ratio = [&](char const* other) {
    double const v = r.over(other);
    return v > 0.0 ? nlohmann::json(v) : nlohmann::json();
  };
  nlohmann::json out{{"name", r.name},
                     {"op", r.op},
                     {"format", r.format},
                     {"dtype", r.dtype},
                     {"M", r.shape.rows},
                     {"K", r.shape.cols},
                     {"N", r.columns},
                     {"sparsity", r.sparsity},
                     {"arch", r.arch},
                     {"layout", r.token_major ? "token" : "feature"},
                     {"us", r.us},
                     {"us_best_dense", r.us_best_dense},
                     {"best_dense", r.best_dense},
                     {"vs_best_dense", r.us_best_dense / r.us},
                     {"vs_openblas", ratio("openblas")},
                     {"peak_fraction", r.peak_fraction},
                     {"read_fraction", r.read_fraction},
                     {"family", r.family},
                     {"operand", r.operand},
                     {"nnz", r.nnz},
                     {"operand_bytes", r.bytes},
                     {"matrices", r.matrices}};
  for (auto const& [other, us] : r.us_of) out["vs_" + other] = us / r.us;
  auto const add_goal = [&](char const* key, goal const& g, double reached) {
    if (g.of == goal::over::none) return;
    out[key] = {{"over", goal_names[static_cast<int>(g.of)]},
                {"must", g.must},
                {"aim", g.aim},
                {"reached", reached},
                {"verdict", verdict(reached, g)}};
  };
  add_goal("goal", r.ratio_goal, r.reached());
  add_goal("read_goal", r.read_goal, r.read_fraction);
  if (out.contains("read_goal")) out["read_goal"]["over"] = "read_limit";
  return out;
}

/// The row of which `json` was made, without its read goal. Throws nlohmann::json::exception where it was made of none.
inline headline_row row_from_json(nlohmann::json const& json) {
  headline_row r;
  json.at("name").get_to(r.name);
  json.at("op").get_to(r.op);
  json.at("format").get_to(r.format);
  json.at("dtype").get_to(r.dtype);
  r.shape = {json.at("M").get<index_t>(), json.at("K").get<index_t>()};
  json.at("N").get_to(r.columns);
  json.at("sparsity").get_to(r.sparsity);
  json.at("arch").get_to(r.arch);
  r.token_major = json.at("layout") == "token";
  json.at("us").get_to(r.us);
  json.at("us_best_dense").get_to(r.us_best_dense);
  json.at("best_dense").get_to(r.best_dense);
  json.at("peak_fraction").get_to(r.peak_fraction);
  json.at("read_fraction").get_to(r.read_fraction);
  json.at("family").get_to(r.family);
  json.at("operand").get_to(r.operand);
  json.at("nnz").get_to(r.nnz);
  json.at("operand_bytes").get_to(r.bytes);
  json.at("matrices").get_to(r.matrices);
  for (auto const& [key, ratio] : json.items())
    if (key.starts_with("vs_") && key != "vs_best_dense" && ratio.is_number())
      r.us_of[key.substr(3)] = ratio.get<double>() * r.us;
  if (json.contains("goal")) {
    nlohmann::json const& g = json["goal"];
    for (int of = 1; of < static_cast<int>(std::size(goal_names)); ++of)
      if (g.at("over") == goal_names[of]) r.ratio_goal.of = static_cast<goal::over>(of);
    g.at("must").get_to(r.ratio_goal.must);
    g.at("aim").get_to(r.ratio_goal.aim);
  }
  return r;
}

inline void print_header() {
  std::printf("%-20s %-23s %5s %9s  %-16s %6s  %-20s %6s %6s %5s %5s  %s\n", "family", "matrix", "zeros", "us",
              "best dense (us)", "faster", "goal", "x blas", "x own", "peak", "read", "fastest sparse peer");
}

inline void print(headline_row const& r, std::string const& matrix, std::vector<std::string> const& sparse_names) {
  char best[48];
  std::snprintf(best, sizeof best, "%.0f %s", r.us_best_dense, r.best_dense.c_str());
  char target[64] = "";
  if (r.ratio_goal.of != goal::over::none)
    std::snprintf(target, sizeof target, "%.4g/%.4g %s%s", r.ratio_goal.must, r.ratio_goal.aim,
                  verdict(r.reached(), r.ratio_goal).c_str(),
                  r.ratio_goal.of == goal::over::own_dense  ? " (own)"
                  : r.ratio_goal.of == goal::over::openblas ? " (blas)"
                                                            : "");
  std::string peer;
  double fastest = 0.0;
  for (std::string const& name : sparse_names)
    if (double const v = r.over(name); v > 0.0 && (fastest == 0.0 || v < fastest)) {
      fastest = v;
      char text[48];
      std::snprintf(text, sizeof text, "%.2f x %s", v, name.c_str());
      peer = text;
    }
  char over_openblas[16] = "-";
  if (double const v = r.over("openblas"); v > 0.0) std::snprintf(over_openblas, sizeof over_openblas, "%.2f", v);
  std::printf("%-20s %-23s %5.1f %9.1f  %-16s %6.2f  %-20s %6s %6.2f %5.2f %5.2f  %s\n", r.family.c_str(),
              matrix.c_str(), 100.0 * r.sparsity, r.us, best, r.us_best_dense / r.us, target, over_openblas,
              r.over("own_dense"), r.peak_fraction, r.read_fraction, peer.c_str());
  if (r.read_goal.of != goal::over::none)
    std::printf("%-20s %-23s %5s %9s  %-16s %6.2f  %.2f/%.2f %s\n", "", "  bytes read / limit", "", "", "",
                r.read_fraction, r.read_goal.must, r.read_goal.aim, verdict(r.read_fraction, r.read_goal).c_str());
  std::fflush(stdout);
}

/// The geometric mean of rows of one family, as a row.
inline headline_row geometric_mean(std::vector<headline_row> const& rows, std::string family, std::string name) {
  headline_row out = rows.front();
  out.family = std::move(family);
  out.name = std::move(name);
  out.shape = {};
  out.ratio_goal = out.read_goal = {};
  out.matrices = static_cast<index_t>(rows.size());
  auto const mean = [&](auto value) {
    double sum = 0.0;
    for (headline_row const& r : rows) sum += std::log(value(r));
    return std::exp(sum / static_cast<double>(rows.size()));
  };
  out.us = mean([](headline_row const& r) { return r.us; });
  out.us_best_dense = mean([](headline_row const& r) { return r.us_best_dense; });
  out.peak_fraction = mean([](headline_row const& r) { return r.peak_fraction; });
  out.read_fraction = mean([](headline_row const& r) { return r.read_fraction; });
  out.bytes = mean([](headline_row const& r) { return r.bytes; });
  out.us_of.clear();
  out.nnz = 0;
  double zeros = 0.0;
  for (headline_row const& r : rows) {
    out.nnz += r.nnz;
    zeros += r.sparsity;
    if (r.best_dense != out.best_dense) out.best_dense = "each its own";
    if (r.operand != out.operand) out.operand = "each its own";
  }
  out.sparsity = zeros / static_cast<double>(rows.size());
  for (auto const& [other, us] : rows.front().us_of) {
    bool everywhere = true;
    for (headline_row const& r : rows) everywhere = everywhere && r.us_of.contains(other);
    if (everywhere) out.us_of[other] = mean([&name = other](headline_row const& r) { return r.us_of.at(name); });
  }
  return out;
}

}  // namespace pare::bench
