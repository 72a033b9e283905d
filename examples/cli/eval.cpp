// SPDX-License-Identifier: Apache-2.0
// pare eval: perplexity of a language model on a text, accuracy of a classifier on images.
#include <cstdio>
#include <iostream>

#include "cli/commands.hpp"
#include "cli/run.hpp"
#include "support/terminal.hpp"

namespace pare::cli {

result<void> eval(eval_options const& o) {
  PARE_TRY(auto m, program::load_model(o.model));
  PARE_TRY(auto data, read_data(o.run));
  if (!data && m.task == "glyphs") {  // the task draws its own data
    PARE_TRY(auto drawn, program::read_images("glyphs", program::split::test, o.run.limit));
    data = std::move(drawn);
  }
  if (!data)
    return error{errc::missing, "options",
                 m.is_language_model() ? "a language model is evaluated on a text: pass --text FILE"
                                       : "a classifier is evaluated on images: pass --data SOURCE"};
  thread_pool pool(o.run.threads);
  set_up(m.network, o.run, pool);
  program::progress_line line(o.model);
  PARE_TRY(auto const e, program::evaluate(m, *data, o.run.chunk, o.run.batch, line.callback()));
  line.clear();
  if (o.json) {
    std::cout << as_json(e, m.network).dump(2) << '\n';
  } else {
    std::printf("%s\n", as_text(e, m.network).c_str());
  }
  return {};
}

}  // namespace pare::cli
