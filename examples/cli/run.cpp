// SPDX-License-Identifier: Apache-2.0
#include "cli/run.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <iterator>

#include "support/terminal.hpp"

namespace pare::cli {

result<std::optional<program::data_set>> read_data(run_options const& o, program::model const& m) {
  using data = std::optional<program::data_set>;
  if (!o.text.empty() && !o.data.empty())
    return error{errc::mismatch, "options", "--text is for language models and --data for classifiers: give one"};
  data out;
  if (!o.text.empty()) {
    PARE_TRY(out, program::read_text(o.text, o.limit));
  } else if (!o.data.empty()) {
    PARE_TRY(out, program::read_images(o.data, program::split::test, o.limit));
  }
  if (out) PARE_TRY_VOID(program::check_data(m, *out));
  return out;
}

namespace {
constexpr std::int64_t calibration_bytes = 100'000;  // where no limit is given
constexpr std::int64_t calibration_images = 1'000;
constexpr std::int64_t search_bytes = 20'000;
constexpr std::int64_t search_images = 200;
}  // namespace

result<program::data_set> read_calibration(std::string const& source, std::int64_t limit, program::model const& m) {
  std::string const name = source.empty() && m.task == "glyphs" ? "glyphs" : source;
  if (name.empty())
    return error{
        errc::missing, "calibration",
        std::string("a method of those asked for needs data: pass --calib ") + (m.is_language_model() ? "TEXT_FILE" : "IMAGES")};
  if (m.is_language_model()) {
    PARE_TRY(auto text, program::read_text(name, limit > 0 ? limit : calibration_bytes));
    return program::data_set(std::move(text));
  }
  PARE_TRY(auto images, program::read_images(name, program::split::train, limit > 0 ? limit : calibration_images));
  return program::data_set(std::move(images));
}

result<corpora> read_corpora(program::calibration_need needs, std::string const& source, std::string const& general,
                             std::int64_t limit, program::model const& m) {
  corpora out;
  if (needs != program::calibration_need::nothing) {
    PARE_TRY(out.data, read_calibration(source, limit, m));
  }
  if (needs == program::calibration_need::both_corpora) {
    if (general.empty())
      return error{
          errc::missing, "general data",
          "the method tells the domain from what is general: pass --calib for the domain, --general for the rest"};
    PARE_TRY(out.general, read_calibration(general, limit, m));
  }
  return out;
}

program::prune_request request_of(recipe_options const& recipe, std::string const& method, pattern_spec const& what) {
  program::prune_request out{method, what, recipe.allocation, recipe.seed};
  out.permute = recipe.permute;
  out.generations = static_cast<int>(recipe.generations);
  return out;
}

result<std::optional<program::data_set>> read_search_data(recipe_options const& recipe, std::string const& source,
                                                          std::int64_t limit, program::model const& m) {
  using data = std::optional<program::data_set>;
  if (recipe.allocation != "evopress") {
    if (!recipe.search_text.empty() || recipe.search_limit > 0)
      return error{errc::mismatch, "options", "--search-text and --search-limit are of --allocation evopress"};
    return data();
  }
  if (!m.is_language_model()) {
    if (!recipe.search_text.empty())
      return error{errc::mismatch, "options",
                   "--search-text is for language models: a classifier is searched on its calibration images"};
    std::int64_t const wanted = recipe.search_limit > 0 ? recipe.search_limit : search_images;
    PARE_TRY(auto images, read_calibration(source, limit > 0 ? std::min(limit, wanted) : wanted, m));
    return data(std::move(images));
  }
  std::int64_t const wanted = recipe.search_limit > 0 ? recipe.search_limit : search_bytes;
  if (!recipe.search_text.empty()) {
    PARE_TRY(auto text, program::read_text(recipe.search_text, wanted));
    return data(std::move(text));
  }
  if (source.empty())
    return error{errc::missing, "options",
                 "evopress compares networks on a text: pass --search-text FILE, or --calib FILE and it takes what "
                 "follows the part that calibrates"};
  std::int64_t const first = limit > 0 ? limit : calibration_bytes;
  PARE_TRY(auto text, program::read_text(source, wanted < INT64_MAX - first ? first + wanted : 0));
  if (std::ssize(text) <= first)
    return error{errc::missing, source,
                 "calibration takes all of it, which leaves evopress no text to compare networks on: pass "
                 "--search-text FILE, or a smaller --calib-limit"};
  return data(text.substr(static_cast<std::size_t>(first)));
}

void set_up(any_network& net, run_options const& o, thread_pool& pool) {
  std::visit(
      [&](auto& n) {
        // Text goes through in windows of up to some hundred tokens; a convolution multiplies by a column per pixel.
        if (o.operands != "dense") prepare(n, {.columns = 128, .may_be_dense = o.operands == "auto"});
        if (o.threads > 1) run_on(n, pool);
      },
      net);
}

std::map<std::string, int> operands(any_network const& net) {
  std::map<std::string, int> count;
  for (linear const* l : layers(net)) ++count[l->operand_name()];
  return count;
}

namespace {
weight_count weights_of(any_network const& net) {
  return std::visit([](auto const& n) { return count_weights(n); }, net);
}
}  // namespace

nlohmann::json as_json(program::evaluation const& e, any_network const& net) {
  weight_count const count = weights_of(net);
  nlohmann::json out{{"network", kind(net)},
                     {"seconds", e.seconds},
                     {"weight_bytes", count.bytes},
                     {"sparsity", count.sparsity()},
                     {"operands", operands(net)}};
  if (e.is_perplexity) {
    out["perplexity"] = e.value;
    out["tokens"] = e.count;
    out["windows"] = e.windows;
  } else {
    out["accuracy"] = e.value;
    out["images"] = e.count;
  }
  return out;
}

std::string as_text(program::evaluation const& e, any_network const& net) {
  weight_count const count = weights_of(net);
  std::array<char, 256> line{};
  if (e.is_perplexity) {
    std::snprintf(line.data(), line.size(), "perplexity %.4f on %td tokens in %td windows, %.2f s", e.value, e.count,
                  e.windows, e.seconds);
  } else {
    std::snprintf(line.data(), line.size(), "accuracy %.2f %% on %td images, %.2f s", 100.0 * e.value, e.count,
                  e.seconds);
  }
  std::string text = line.data();
  std::snprintf(line.data(), line.size(), "; %.1f %% of the weights pruned, %s; operands:", 100.0 * count.sparsity(),
                program::human_bytes(static_cast<double>(count.bytes)).c_str());
  text += line.data();
  for (auto const& [operand, layers] : operands(net)) text += " " + std::to_string(layers) + " " + operand;
  return text;
}

}  // namespace pare::cli
