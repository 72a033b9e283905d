// SPDX-License-Identifier: Apache-2.0
// The configuration of a Llama model: keys and meaning of config.json as Hugging Face Transformers writes it.
//
// Sizes must be given. Keys that older files lack (head_dim, num_key_value_heads, rope_theta, hidden_act, the bias
// and tying switches) have that library's defaults. What asks for another computation (scaled RoPE, another
// activation) is refused.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <pare/core/index.hpp>
#include <pare/core/result.hpp>
#include <pare/io/json.hpp>
#include <pare/nn/attention.hpp>

namespace pare::inline PARE_ABI {

struct llama_config {
  index_t hidden_size = 0;
  index_t intermediate_size = 0;
  index_t layers = 0;
  head_layout heads;
  index_t vocab_size = 0;
  index_t max_positions = 0;  // context length
  float rms_norm_epsilon = 0.0f;
  double rope_theta = 10000.0;
  bool tied = false;  // the output layer is the embedding
  bool attention_bias = false;
  bool mlp_bias = false;
  int begin_token = 1;
  std::vector<int> end_tokens;  // may be empty

  /// Whether a token ends the text.
  [[nodiscard]] bool ends_text(int token) const noexcept {
    return std::find(end_tokens.begin(), end_tokens.end(), token) != end_tokens.end();
  }

  /// Errors, by key: values that are missing, of the wrong type, out of range, inconsistent, or ask for
  /// another computation.
  [[nodiscard]] static result<llama_config> read(nlohmann::json const& json) {
    llama_config c;
    PARE_TRY(c.hidden_size, get_positive(json, "hidden_size"));
    PARE_TRY(c.intermediate_size, get_positive(json, "intermediate_size"));
    PARE_TRY(c.layers, get_positive(json, "num_hidden_layers"));
    PARE_TRY(c.vocab_size, get_positive(json, "vocab_size"));
    // 2^24 positions bound what a session allocates, whatever a file claims.
    PARE_TRY(c.max_positions, get_integer(json, "max_position_embeddings", 1, index_t{1} << 24));
    PARE_TRY_VOID(c.read_heads(json));
    PARE_TRY(auto const epsilon, get_number(json, "rms_norm_eps"));
    if (!(epsilon > 0.0 && epsilon < 1.0)) return wrong("rms_norm_eps", "a number between 0 and 1", epsilon);
    c.rms_norm_epsilon = static_cast<float>(epsilon);
    PARE_TRY_VOID(c.read_rope(json));
    PARE_TRY(c.tied, get_bool(json, "tie_word_embeddings", false));
    PARE_TRY(c.attention_bias, get_bool(json, "attention_bias", false));
    PARE_TRY(c.mlp_bias, get_bool(json, "mlp_bias", false));
    PARE_TRY(auto const activation, get_string(json, "hidden_act", "silu"));
    if (activation != "silu") return unsupported("hidden_act", "\"silu\"", in_quotes(activation));
    PARE_TRY_VOID(c.read_special_tokens(json));
    return c;
  }

 private:
  static error wrong(std::string_view key, std::string const& expected, double found) {
    return {errc::out_of_range, place(key), "expected " + expected + ", found " + std::to_string(found)};
  }
  static error mismatch(std::string_view key, std::string const& expected, index_t found) {
    return {errc::mismatch, place(key), "expected " + expected + ", found " + std::to_string(found)};
  }
  static error unsupported(std::string_view key, std::string const& expected, std::string const& found) {
    return {errc::unsupported, place(key), "pare supports " + expected + ", found " + found};
  }
  static std::string place(std::string_view key) { return "key \"" + std::string(key) + "\""; }

  result<void> read_heads(nlohmann::json const& json) {
    PARE_TRY(heads.query_heads, get_positive(json, "num_attention_heads"));
    PARE_TRY(heads.key_heads, get_positive(json, "num_key_value_heads", heads.query_heads));
    if (heads.query_heads % heads.key_heads != 0)
      return mismatch("num_key_value_heads",
                      "a divisor of num_attention_heads (" + std::to_string(heads.query_heads) + ")", heads.key_heads);
    PARE_TRY(heads.size, get_positive(json, "head_dim", std::max<index_t>(hidden_size / heads.query_heads, 1)));
    bool const given = json.contains("head_dim") && !json["head_dim"].is_null();
    if (!given && hidden_size % heads.query_heads != 0)
      return mismatch("num_attention_heads",
                      "a divisor of hidden_size (" + std::to_string(hidden_size) + ") where head_dim is not set",
                      heads.query_heads);
    if (heads.size % 2 != 0)
      return mismatch("head_dim", "an even number, because positions turn pairs of features", heads.size);
    return {};
  }

  result<void> read_rope(nlohmann::json const& json) {
    // Newer files hold theta and the scaling in one object.
    auto const nested = json.find("rope_parameters");
    bool const has_nested = nested != json.end() && nested->is_object();
    nlohmann::json const& holder = has_nested && nested->contains("rope_theta") ? *nested : json;
    PARE_TRY(rope_theta, get_number(holder, "rope_theta", 10000.0));
    if (!(rope_theta > 1.0)) return wrong("rope_theta", "a number above 1", rope_theta);
    for (std::string_view const key : {"rope_scaling", "rope_parameters"}) {
      auto const scaling = json.find(key);
      if (scaling == json.end() || scaling->is_null()) continue;
      PARE_TRY(auto const type, get_string(*scaling, scaling->contains("type") ? "type" : "rope_type", "default"));
      if (!scaling->is_object() || type != "default")
        return unsupported(key, "null or the type \"default\"", scaling->is_object() ? in_quotes(type) : "no object");
    }
    PARE_TRY(auto const fraction, get_number(json, "partial_rotary_factor", 1.0));
    if (fraction != 1.0) return unsupported("partial_rotary_factor", "1", std::to_string(fraction));
    return {};
  }

  result<void> read_special_tokens(nlohmann::json const& json) {
    PARE_TRY(auto const begin, get_integer(json, "bos_token_id", 0, vocab_size - 1, 1));
    begin_token = static_cast<int>(begin);
    auto const end = json.find("eos_token_id");
    if (end == json.end() || end->is_null()) return {};
    if (!end->is_array()) {
      PARE_TRY(auto const token, get_integer(json, "eos_token_id", 0, vocab_size - 1));
      end_tokens.push_back(static_cast<int>(token));
      return {};
    }
    for (nlohmann::json const& item : *end) {
      nlohmann::json const single{{"eos_token_id", item}};
      PARE_TRY(auto const token, get_integer(single, "eos_token_id", 0, vocab_size - 1));
      end_tokens.push_back(static_cast<int>(token));
    }
    return {};
  }
};

}  // namespace pare::inline PARE_ABI
