// SPDX-License-Identifier: Apache-2.0
// Llama: the reference values of a real network, a plain implementation in double, sessions, and wrong files.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <pare/io/npy.hpp>
#include <pare/nn/evaluate.hpp>
#include <pare/nn/generate.hpp>
#include <pare/nn/llama.hpp>

#include "network/plain_networks.hpp"
#include "support/catch.hpp"
#include "support/data.hpp"

using namespace pare;
using pare::test::load;
using pare::test::model_folder;

namespace {

model_folder small_llama() { return test::random_llama(); }

std::vector<int> some_tokens(index_t count) {
  random_source random(5);
  std::vector<int> tokens(static_cast<std::size_t>(count));
  for (int& t : tokens) t = static_cast<int>(random.below(23));
  return tokens;
}

double difference(matrix<float> const& a, matrix<float> const& b) {
  double worst = 0;
  for (index_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i])));
  return worst;
}

}  // namespace

TEST_CASE("llama: the logits of stories260K are the reference's, and greedy text is the reference's") {
  auto const folder = test::data("stories260K");
  if (!folder) return;
  auto const net = llama::load(checkpoint::open(*folder).value()).value();
  auto const tokens = read_npy_ints(*folder / "ref_tokens_once_upon_a_time.npy").value();
  auto const expected = read_npy_matrix(*folder / "ref_logits_once_upon_a_time.npy").value();
  matrix<float> logits(std::ssize(tokens), 512);
  net.forward(tokens, logits.span());
  REQUIRE(logits.shape() == expected.shape());
  CHECK(difference(logits, expected) < 1e-4);

  auto const text = read_npy_ints(*folder / "ref_greedy64_tokens.npy").value();  // the prompt and what follows it
  std::span<int const> const prompt(text.data(), 5);
  std::vector<int> heard;
  auto const out = generate(net, prompt, std::ssize(text) - 5, sampler::make({}).value(), [&](int token) {
                     heard.push_back(token);
                     return true;
                   }).value();
  CHECK(out.tokens == std::vector<int>(text.begin() + 5, text.end()));
  CHECK(heard == out.tokens);
  CHECK(out.reason == stop_reason::token_limit);
}

TEST_CASE("llama: equals the formulas with grouped heads, odd sizes, biases and an output layer of its own") {
  auto const folder = small_llama();
  auto const net = load<llama>(folder).value();
  auto const tokens = some_tokens(17);
  auto const expected = test::plain_llama(test::in_double(folder), folder.config, tokens).logits;
  matrix<float> logits(17, 23);
  net.forward(tokens, logits.span());
  double worst = 0;
  for (index_t t = 0; t < 17; ++t)
    for (index_t v = 0; v < 23; ++v)
      worst = std::max(worst, std::abs(static_cast<double>(logits(t, v)) -
                                       expected[static_cast<std::size_t>(t)][static_cast<std::size_t>(v)]));
  CHECK(worst < 2e-5);
}

TEST_CASE("llama: tied weights are a copy of the embedding as the output layer") {
  auto folder = small_llama();
  folder.tensors["lm_head.weight"] = folder.tensors["model.embed_tokens.weight"];
  auto const separate = load<llama>(folder).value();
  folder.tensors.erase("lm_head.weight");
  folder.config["tie_word_embeddings"] = true;
  auto const tied = load<llama>(folder).value();
  matrix<float> a(9, 23);
  matrix<float> b(9, 23);
  separate.forward(some_tokens(9), a.span());
  tied.forward(some_tokens(9), b.span());
  CHECK(difference(a, b) == 0.0);
  CHECK(tied.layers().back()->name() == "model.embed_tokens.weight");
  CHECK(separate.layers().back()->name() == "lm_head.weight");
}

TEST_CASE("llama_session: tokens one at a time, in parts and all at once give the same logits") {
  auto const net = load<llama>(small_llama()).value();
  auto const tokens = some_tokens(600);  // more than go through at once
  std::span<int const> const all(tokens);
  matrix<float> whole(600, 23);
  net.forward(tokens, whole.span());

  llama_session session(net, 600);
  matrix<float> single(600, 23);
  for (index_t t = 0; t < 600; ++t)
    session.forward(all.subspan(static_cast<std::size_t>(t), 1), single.span().row_range(t, 1)).value();
  CHECK(session.position() == 600);
  CHECK(difference(whole, single) < 2e-5);

  session.reset();
  matrix<float> last(3, 23);
  session.forward(all.first(40), matrix_span<float>()).value();
  session.forward(all.subspan(40), last.span()).value();
  CHECK(difference(last, matrix<float>(matrix_span<float const>(whole.span()).row_range(597, 3))) < 2e-5);

  session.reset();
  matrix<float> most(550, 23);  // the first logits lie inside the first piece
  session.forward(all, most.span()).value();
  CHECK(difference(most, matrix<float>(matrix_span<float const>(whole.span()).row_range(50, 550))) < 2e-5);
}

TEST_CASE("llama_session: refuses positions beyond its capacity and unknown tokens, and stays usable") {
  auto const net = load<llama>(small_llama()).value();
  llama_session session(net, 4);
  matrix<float> logits(1, 23);
  REQUIRE(session.forward(some_tokens(3), logits.span()));
  auto const full = session.forward(some_tokens(2), logits.span());
  REQUIRE_FALSE(full);
  CHECK(full.error().code == errc::out_of_range);
  CHECK(full.error().message().find("at most 4 positions, found 5") != std::string::npos);
  auto const unknown = session.forward(std::vector<int>{23}, logits.span());
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().message().find("found 23") != std::string::npos);
  CHECK_FALSE(session.forward(std::vector<int>{-1}, logits.span()));
  CHECK(session.position() == 3);
  CHECK(session.forward(std::vector<int>{0}, logits.span()));
  CHECK_THROWS_AS(llama_session(net, 701), contract_violation);
}

TEST_CASE("llama: the tap sees the input of every layer, in the order of layers(), by tensor name") {
  auto net = load<llama>(small_llama()).value();
  std::vector<linear const*> seen;
  matrix<float> logits(7, 23);
  net.forward(some_tokens(7), logits.span(), [&](linear const& layer, matrix_span<float const> x) {
    CHECK(x.shape() == extents{layer.shape().cols, 7});
    seen.push_back(&layer);
  });
  CHECK(seen == std::as_const(net).layers());
  CHECK(seen.size() == 15);
  CHECK(seen[1]->name() == "model.layers.0.self_attn.k_proj.weight");
  CHECK(net.keeps_dense_by_default(*seen.back()));
  CHECK_FALSE(net.keeps_dense_by_default(*seen.front()));
}

TEST_CASE("perplexity: one that no double can hold is an error, not an infinity") {
  auto folder = small_llama();
  for (float& v : folder.tensors["lm_head.weight"].values) v *= 1e6f;
  auto const net = load<llama>(folder).value();
  std::vector<std::vector<int>> const sequences{some_tokens(6)};
  auto const found = perplexity(net, sequences);
  REQUIRE_FALSE(found);
  CHECK(found.error().code == errc::not_finite);
  CHECK(found.error().where == "perplexity");
}

TEST_CASE("generate: stops at an end token, at the end of the context, when told to, and says which") {
  auto const net = load<llama>(small_llama()).value();
  auto const always = [](int token) { return [token](std::span<float const>) { return result<int>(token); }; };
  auto const go_on = [](int) { return true; };
  auto const ended = generate(net, some_tokens(3), 10, always(5), go_on).value();
  CHECK(ended.tokens.empty());
  CHECK(ended.reason == stop_reason::end_of_text);
  auto const full = generate(net, some_tokens(698), 10, always(4), go_on).value();
  CHECK(full.tokens.size() == 3);  // after positions 698, 699 and 700
  CHECK(full.reason == stop_reason::context_full);
  auto const told = generate(net, some_tokens(3), 10, always(4), [](int) { return false; }).value();
  CHECK(told.tokens == std::vector<int>{4});
  CHECK(told.reason == stop_reason::callback);
  CHECK(generate(net, some_tokens(3), 0, always(4), go_on).value().tokens.empty());
  CHECK(generate(net, {}, 1, always(4), go_on).error().where == "prompt");
  CHECK(generate(net, some_tokens(701), 1, always(4), go_on).error().code == errc::out_of_range);
}

TEST_CASE("llama: a wrong configuration is refused with the key, what was expected and what was found") {
  struct wrong {
    std::string key;
    nlohmann::json value;
    std::string says;
  };
  for (wrong const& w : std::vector<wrong>{{"hidden_size", nullptr, "not set"},
                                           {"hidden_size", -64, "-64"},
                                           {"hidden_size", 11, "[23, 11]"},
                                           {"intermediate_size", 0, "found 0"},
                                           {"num_hidden_layers", "two", "two"},
                                           {"num_hidden_layers", 3, "model.layers.2."},
                                           {"num_attention_heads", 3, "divisor"},
                                           {"num_key_value_heads", 3, "divisor of num_attention_heads (4), found 3"},
                                           {"num_key_value_heads", 0, "found 0"},
                                           {"head_dim", 5, "even"},
                                           {"head_dim", nullptr, "divisor of hidden_size (10)"},
                                           {"vocab_size", 1e30, "integer"},
                                           {"max_position_embeddings", 1 << 30, "1073741824"},
                                           {"rms_norm_eps", -1e-5, "between 0 and 1"},
                                           {"rms_norm_eps", nullptr, "not set"},
                                           {"rope_theta", 0.0, "above 1"},
                                           {"rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}, "llama3"},
                                           {"rope_scaling", {{"type", "linear"}}, "linear"},
                                           {"rope_parameters", {{"rope_type", "yarn"}}, "yarn"},
                                           {"partial_rotary_factor", 0.5, "0.5"},
                                           {"hidden_act", "gelu", "\"silu\", found \"gelu\""},
                                           {"tie_word_embeddings", "yes", "true or false"},
                                           {"bos_token_id", 23, "found 23"},
                                           {"eos_token_id", -2, "found -2"},
                                           {"eos_token_id", {2, 99}, "found 99"}}) {
    auto folder = small_llama();
    folder.config[w.key] = w.value;
    auto const net = load<llama>(folder);
    INFO(w.key << " = " << w.value.dump());
    REQUIRE_FALSE(net);
    INFO(net.error().message());
    CHECK(net.error().message().find(w.says) != std::string::npos);
    bool const by_tensor = w.says.find("model.") == 0 || w.says.find('[') == 0;
    if (!by_tensor && w.key != "head_dim") CHECK(net.error().message().find(w.key) != std::string::npos);
  }
}

TEST_CASE("llama: what newer and older configurations say differently is understood") {
  auto folder = small_llama();
  matrix<float> expected(5, 23);
  load<llama>(folder).value().forward(some_tokens(5), expected.span());
  folder.config.erase("rope_theta");
  folder.config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 500.0}};
  folder.config["rope_scaling"] = nullptr;
  folder.config["eos_token_id"] = 2;
  folder.config["bos_token_id"] = nullptr;
  auto const net = load<llama>(folder).value();
  CHECK(net.config().begin_token == 1);
  CHECK(net.config().ends_text(2));
  CHECK_FALSE(net.config().ends_text(5));
  matrix<float> logits(5, 23);
  net.forward(some_tokens(5), logits.span());
  CHECK(difference(expected, logits) == 0.0);
}

TEST_CASE("llama: a missing or misshapen tensor is named, an unknown one is ignored") {
  for (auto const& item : small_llama().tensors) {
    auto folder = small_llama();
    folder.tensors.erase(item.first);
    auto const net = load<llama>(folder);
    INFO(item.first);
    REQUIRE_FALSE(net);
    CHECK(net.error().code == errc::missing);
    CHECK(net.error().message().find(item.first) != std::string::npos);
  }
  auto folder = small_llama();
  folder.add("model.layers.1.mlp.up_proj.weight", {10, 14});
  auto const net = load<llama>(folder);
  REQUIRE_FALSE(net);
  CHECK(net.error().code == errc::mismatch);
  CHECK(net.error().message().find("mlp.up_proj.weight") != std::string::npos);
  folder = small_llama();
  folder.add("model.layers.0.self_attn.rotary_emb.inv_freq", {3});
  CHECK(load<llama>(folder));
}
