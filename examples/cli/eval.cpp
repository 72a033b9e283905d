// SPDX-License-Identifier: Apache-2.0
// pare eval: perplexity of a language model on a text, accuracy of a classifier on images.
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <pare/io/npy.hpp>

#include "cli/commands.hpp"
#include "cli/run.hpp"
#include "support/terminal.hpp"

namespace pare::cli {

result<void> eval(eval_options const& o) {
  PARE_TRY(auto m, program::load_model(o.model));
  PARE_TRY(auto data, read_data(o.run, m));
  if (!data && m.task == "glyphs") {  // the task draws its own data
    PARE_TRY(auto drawn, program::read_images("glyphs", program::split::test, o.run.limit));
    data = std::move(drawn);
  }
  if (!data && !o.logits.empty() && m.is_language_model()) data = std::string();  // --tokens takes its place
  if (!data)
    return error{errc::missing, "options",
                 m.is_language_model() ? "a language model is evaluated on a text: pass --text FILE"
                                       : "a classifier is evaluated on images: pass --data SOURCE"};
  thread_pool pool(o.run.threads);
  set_up(m.network, o.run, pool);
  program::progress_line line(o.model);
  std::optional<double> difference;
  if (!o.logits.empty()) {
    PARE_TRY(auto const reference, read_npy_matrix(o.logits));
    std::vector<int> tokens;
    if (!o.tokens.empty()) {
      PARE_TRY(tokens, read_npy_ints(o.tokens));
    }
    PARE_TRY(difference, program::compare_logits(m, *data, tokens, reference.span()));
  }
  std::optional<program::evaluation> e;
  if (auto const* const text = std::get_if<std::string>(&*data); text == nullptr || !text->empty()) {
    PARE_TRY(e, program::evaluate(m, *data, o.run.chunk, o.run.batch, line.callback()));
  }
  line.clear();
  if (o.json) {
    nlohmann::json out = e ? as_json(*e, m.network) : nlohmann::json::object();
    if (difference) out["logits_max_abs_difference"] = *difference;
    std::cout << out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    return {};
  }
  if (difference) std::printf("logits: largest difference from the reference %.3g\n", *difference);
  if (e) std::printf("%s\n", as_text(*e, m.network).c_str());
  return {};
}

}  // namespace pare::cli
