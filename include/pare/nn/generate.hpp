// SPDX-License-Identifier: Apache-2.0
// Text generation: token after token until the network ends the text, the limit, or the end of its context.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>
#include <pare/nn/llama.hpp>
#include <pare/nn/sample.hpp>

namespace pare::inline PARE_ABI {

/// Why generation stopped.
enum class stop_reason {
  end_of_text,   // the network produced an end token (it is not part of the output)
  token_limit,   // as many tokens as were asked for
  context_full,  // no position left that the network was trained on
  callback,      // on_token returned false
};

/// The stable name of a stop reason.
[[nodiscard]] constexpr std::string_view name(stop_reason reason) noexcept {
  switch (reason) {
    case stop_reason::end_of_text:
      return "end_of_text";
    case stop_reason::token_limit:
      return "token_limit";
    case stop_reason::context_full:
      return "context_full";
    case stop_reason::callback:
      return "callback";
  }
  return "unknown";
}

struct generation {
  std::vector<int> tokens;  // the new ones, without the prompt
  stop_reason reason{};
};

/// Continues a prompt by at most max_new_tokens. `sample`: result<int>(std::span<float const> logits);
/// `on_token`: bool(int token), called for every new token, false stops. Pre: max_new_tokens >= 0.
/// Errors: an empty prompt or one longer than the context; token ids outside the vocabulary; logits not finite.
template <class Sample, class OnToken>
[[nodiscard]] result<generation> generate(llama const& net, std::span<int const> prompt, index_t max_new_tokens,
                                          Sample&& sample, OnToken&& on_token) {
  index_t const context = net.config().max_positions;
  index_t const given = std::ssize(prompt);
  PARE_EXPECTS(max_new_tokens >= 0, "generate: max_new_tokens must not be negative");
  if (given == 0) return error{errc::missing, "prompt", "expected at least one token, found none"};
  if (given > context)
    return error{errc::out_of_range, "prompt",
                 "expected at most " + std::to_string(context) + " tokens, found " + std::to_string(given)};

  llama_session session(net, given + std::min(max_new_tokens, context - given));
  matrix<float> logits(1, net.config().vocab_size);
  std::span<float const> const row(logits.data(), static_cast<std::size_t>(logits.cols()));
  generation out;
  std::span<int const> next = prompt;
  int token = 0;
  while (std::ssize(out.tokens) < max_new_tokens) {
    if (session.position() + std::ssize(next) > context) {
      out.reason = stop_reason::context_full;
      return out;
    }
    PARE_TRY_VOID(session.forward(next, logits.span()));
    PARE_TRY(token, sample(row));
    if (net.config().ends_text(token)) {
      out.reason = stop_reason::end_of_text;
      return out;
    }
    out.tokens.push_back(token);
    if (!on_token(token)) {
      out.reason = stop_reason::callback;
      return out;
    }
    next = std::span<int const>(&token, 1);
  }
  out.reason = stop_reason::token_limit;
  return out;
}

}  // namespace pare::inline PARE_ABI
