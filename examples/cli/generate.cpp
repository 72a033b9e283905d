// SPDX-License-Identifier: Apache-2.0
// pare generate: continues a text.
#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <pare/kernel/thread_pool.hpp>
#include <pare/nn/generate.hpp>
#include <pare/nn/sample.hpp>

#include "cli/commands.hpp"
#include "cli/run.hpp"
#include "support/model.hpp"
#include "support/terminal.hpp"

namespace pare::cli {

result<void> generate(generate_options const& o) {
  PARE_TRY(auto m, program::load_model(o.model));
  auto* const net = std::get_if<llama>(&m.network);
  if (net == nullptr) return error{errc::unsupported, o.model, "only language models generate text"};
  PARE_TRY(auto const prompt, m.words->encode(o.prompt));
  PARE_TRY(auto sample, sampler::make({static_cast<float>(o.temperature), o.top_k, static_cast<float>(o.top_p)},
                                      random_source(o.seed)));
  thread_pool pool(o.threads);
  prepare(*net, {.columns = 1});
  if (o.threads > 1) run_on(*net, pool);

  // The text of all tokens so far is decoded anew for each: a character may take several tokens.
  std::vector<int> all = prompt;
  std::size_t shown = 0;
  auto const show = [&] {
    std::string const text = m.words->decode(all);
    if (!o.json) {
      std::fwrite(text.data() + shown, 1, text.size() - shown, stdout);
      std::fflush(stdout);
    }
    shown = text.size();
  };
  show();
  auto const start = std::chrono::steady_clock::now();
  PARE_TRY(auto const done, pare::generate(*net, prompt, o.tokens, sample, [&](int token) {
             all.push_back(token);
             show();
             return !program::interrupted();
           }));
  if (program::interrupted()) {
    if (!o.json) std::printf("\n");
    return error{errc::cancelled, "generate", "interrupted after " + std::to_string(done.tokens.size()) + " tokens"};
  }
  double const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (o.json) {
    nlohmann::json const out{{"text", m.words->decode(all)},     {"prompt_tokens", prompt.size()},
                             {"new_tokens", done.tokens.size()}, {"tokens", done.tokens},
                             {"stopped", name(done.reason)},     {"seconds", seconds}};
    std::cout << out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  } else {
    std::printf("\n");
    std::fprintf(stderr, "(%zu tokens in %.2f s; stopped: %s)\n", done.tokens.size(), seconds,
                 std::string(name(done.reason)).c_str());
  }
  return {};
}

}  // namespace pare::cli
