// SPDX-License-Identifier: Apache-2.0
// Choosing the next token from logits: greedy, temperature, top-k, top-p (nucleus; Holtzman et al. 2020).
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include <pare/core/index.hpp>
#include <pare/core/random.hpp>
#include <pare/core/result.hpp>
#include <pare/core/reduce.hpp>

namespace pare::inline PARE_ABI {

/// How to sample. The steps apply in the order of the members.
struct sampling {
  float temperature = 0.0f;  // logits are divided by it; 0 takes the most likely token (greedy)
  index_t top_k = 0;         // only the k most likely tokens; 0 = all
  float top_p = 1.0f;        // only the most likely tokens that together reach this probability
};

/// Draws tokens. Deterministic for a seed; equal logits count as ordered by token id.
class sampler {
 public:
  /// Errors: a value outside its range.
  [[nodiscard]] static result<sampler> make(sampling how, random_source random = random_source{}) {
    if (!(how.temperature >= 0.0f) || !std::isfinite(how.temperature))
      return error{errc::out_of_range, "temperature",
                   "expected a finite number >= 0, found " + std::to_string(how.temperature)};
    if (how.top_k < 0)
      return error{errc::out_of_range, "top_k", "expected a number >= 0, found " + std::to_string(how.top_k)};
    if (!(how.top_p > 0.0f && how.top_p <= 1.0f))
      return error{errc::out_of_range, "top_p", "expected a number in (0, 1], found " + std::to_string(how.top_p)};
    return sampler(how, random);
  }

  /// The next token. Pre: logits not empty. O(V) greedy, O(V log V) otherwise; allocates in the first call only.
  /// Errors: logits that are not finite.
  [[nodiscard]] result<int> operator()(std::span<float const> logits) {
    auto const count = std::ssize(logits);
    PARE_EXPECTS(count > 0, "sampler: there must be at least one logit");
    if (!all_finite(logits.data(), count))
      return error{errc::not_finite, "logits", "expected finite logits to sample from, found NaN or Inf"};
    if (how_.temperature == 0.0f) return static_cast<int>(argmax(logits.data(), count));
    index_t const kept = keep_most_likely(logits);
    return draw(kept);
  }

 private:
  struct candidate {
    float weight = 0.0f;  // logit, then probability times a constant
    int token = 0;
  };

  sampler(sampling how, random_source random) : how_(how), random_(random) {}

  /// Sorts the candidates by falling probability, cuts them by top-k and top-p; how many are left.
  index_t keep_most_likely(std::span<float const> logits) {
    candidates_.resize(logits.size());
    for (std::size_t i = 0; i < logits.size(); ++i) candidates_[i] = {logits[i], static_cast<int>(i)};
    index_t kept = std::ssize(logits);
    if (how_.top_k > 0) kept = std::min(kept, how_.top_k);
    std::partial_sort(candidates_.begin(), candidates_.begin() + kept, candidates_.end(), [](candidate a, candidate b) {
      return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
    });
    float const top = candidates_[0].weight;
    double total = 0;
    for (index_t i = 0; i < kept; ++i) {
      float& weight = candidates_[static_cast<std::size_t>(i)].weight;
      weight = std::exp((weight - top) / how_.temperature);
      total += static_cast<double>(weight);
    }
    double const enough = static_cast<double>(how_.top_p) * total;
    double reached = 0;
    for (index_t i = 0; i < kept; ++i) {
      reached += static_cast<double>(candidates_[static_cast<std::size_t>(i)].weight);
      if (reached >= enough) return i + 1;
    }
    return kept;
  }

  /// One of the first `count` candidates, in proportion to its weight.
  int draw(index_t count) {
    double total = 0;
    for (index_t i = 0; i < count; ++i) total += static_cast<double>(candidates_[static_cast<std::size_t>(i)].weight);
    double left = static_cast<double>(random_.uniform()) * total;
    for (index_t i = 0; i + 1 < count; ++i) {
      candidate const c = candidates_[static_cast<std::size_t>(i)];
      left -= static_cast<double>(c.weight);
      if (left < 0) return c.token;
    }
    return candidates_[static_cast<std::size_t>(count - 1)].token;
  }

  sampling how_;
  random_source random_;
  std::vector<candidate> candidates_;
};

}  // namespace pare::inline PARE_ABI
