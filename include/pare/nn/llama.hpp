// SPDX-License-Identifier: Apache-2.0
// Llama language models as Hugging Face stores them: RMSNorm, half-split RoPE, grouped-query attention, SwiGLU.
//
// One code path: llama_session holds the keys and values of the positions seen so far, and forward() on a whole
// sequence is a session of that length. Activations are token-major (T, features); a linear layer reads and writes
// them through transposed views.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>
#include <pare/io/checkpoint.hpp>
#include <pare/nn/activation.hpp>
#include <pare/nn/attention.hpp>
#include <pare/nn/linear.hpp>
#include <pare/nn/llama_config.hpp>
#include <pare/nn/norm.hpp>
#include <pare/nn/read_linear.hpp>
#include <pare/nn/rope.hpp>

namespace pare::inline PARE_ABI {

class llama {
 public:
  /// Reads the network from a model folder's config and tensors; tensors that it does not know are ignored.
  /// Errors: see llama_config::read; missing or misshapen tensors, by name.
  [[nodiscard]] static result<llama> load(checkpoint const& file) {
    PARE_TRY(auto config, llama_config::read(file.config()));
    llama net(std::move(config));
    llama_config const& c = net.config_;
    extents const vocabulary{c.vocab_size, c.hidden_size};
    if (!c.tied) {
      PARE_TRY(auto embedding, file.read_weight("model.embed_tokens.weight", vocabulary));
      net.embedding_ = std::move(embedding.values);
    }
    for (index_t i = 0; i < c.layers; ++i) {
      PARE_TRY(auto b, block::load(file, c, "model.layers." + std::to_string(i) + "."));
      net.blocks_.push_back(std::move(b));
    }
    PARE_TRY(net.norm_, file.read_vector("model.norm.weight", c.hidden_size));
    std::string const head = c.tied ? "model.embed_tokens" : "lm_head";
    PARE_TRY(net.head_, read_linear(file, head, vocabulary, has_bias::no));
    return net;
  }

  [[nodiscard]] llama_config const& config() const noexcept { return config_; }

  /// So many layers that follow each other in layers() are a block: what is calibrated together.
  static constexpr std::size_t layers_per_block = 7;

  /// The linear layers in forward order, the output layer last (with tied weights it is the embedding as well).
  /// The pointers are valid until the network is moved or destroyed.
  [[nodiscard]] std::vector<linear*> layers() {
    std::vector<linear*> all;
    for (block& b : blocks_)
      for (linear* l : {&b.q, &b.k, &b.v, &b.o, &b.gate, &b.up, &b.down}) all.push_back(l);
    all.push_back(&head_);
    return all;
  }
  [[nodiscard]] std::vector<linear const*> layers() const {
    auto const all = const_cast<llama&>(*this).layers();
    return {all.begin(), all.end()};
  }
  /// The output layer decides between thousands of words and is often the embedding: dense unless asked for.
  [[nodiscard]] bool keeps_dense_by_default(linear const& layer) const noexcept { return &layer == &head_; }

  /// Logits of the last logits.rows positions of a sequence: (T, vocab) for all of them.
  /// Pre: tokens in [0, vocab); 0 < T <= max_positions; logits (at most T, vocab).
  template <class Tap = no_tap>
  void forward(std::span<int const> tokens, matrix_span<float> logits, Tap&& tap = {}) const;

 private:
  friend class llama_session;
  friend class llama_tape;
  friend struct llama_permutation;

  struct block {
    std::vector<float> attention_norm;
    linear q, k, v, o;
    std::vector<float> feed_forward_norm;
    linear gate, up, down;

    static result<block> load(checkpoint const& file, llama_config const& c, std::string const& prefix) {
      index_t const queries = c.heads.query_heads * c.heads.size;
      index_t const keys = c.heads.key_heads * c.heads.size;
      auto const attention_bias = c.attention_bias ? has_bias::yes : has_bias::no;
      auto const mlp_bias = c.mlp_bias ? has_bias::yes : has_bias::no;
      std::string const attention = prefix + "self_attn.";
      std::string const mlp = prefix + "mlp.";
      block b;
      PARE_TRY(b.attention_norm, file.read_vector(prefix + "input_layernorm.weight", c.hidden_size));
      PARE_TRY(b.q, read_linear(file, attention + "q_proj", {queries, c.hidden_size}, attention_bias));
      PARE_TRY(b.k, read_linear(file, attention + "k_proj", {keys, c.hidden_size}, attention_bias));
      PARE_TRY(b.v, read_linear(file, attention + "v_proj", {keys, c.hidden_size}, attention_bias));
      PARE_TRY(b.o, read_linear(file, attention + "o_proj", {c.hidden_size, queries}, attention_bias));
      PARE_TRY(b.feed_forward_norm, file.read_vector(prefix + "post_attention_layernorm.weight", c.hidden_size));
      PARE_TRY(b.gate, read_linear(file, mlp + "gate_proj", {c.intermediate_size, c.hidden_size}, mlp_bias));
      PARE_TRY(b.up, read_linear(file, mlp + "up_proj", {c.intermediate_size, c.hidden_size}, mlp_bias));
      PARE_TRY(b.down, read_linear(file, mlp + "down_proj", {c.hidden_size, c.intermediate_size}, mlp_bias));
      return b;
    }
  };

  explicit llama(llama_config config) : config_(std::move(config)) {}

  /// The embedding of a token, hidden_size values; with tied weights it is a row of the output layer.
  [[nodiscard]] float const* embedding(int token) const noexcept {
    return config_.tied ? head_.weight().row(token) : embedding_.row(token);
  }

  llama_config config_;
  matrix<float> embedding_;  // (vocab, hidden); empty with tied weights
  std::vector<block> blocks_;
  std::vector<float> norm_;
  linear head_;
};

/// A network together with the keys and values of a growing text. Allocates in the constructor only.
/// The network must outlive it and stay where it is.
class llama_session {
 public:
  /// Room for `capacity` positions. Pre: 0 < capacity <= max_positions of the network.
  llama_session(llama const& net, index_t capacity)
      : net_(&net),
        capacity_(capacity),
        rope_(capacity, net.config().heads.size, net.config().rope_theta),
        work_(net.config(), std::min(capacity, piece)),
        scores_(1, score_space(capacity)) {
    PARE_EXPECTS(capacity > 0 && capacity <= net.config().max_positions,
                 "llama_session: the capacity must be in [1, max_position_embeddings]");
    caches_.reserve(net.blocks_.size());
    for (std::size_t i = 0; i < net.blocks_.size(); ++i) caches_.emplace_back(net.config().heads, capacity);
  }

  /// How many positions were seen, and how many there may be.
  [[nodiscard]] index_t position() const noexcept { return position_; }
  [[nodiscard]] index_t capacity() const noexcept { return capacity_; }
  /// Forgets everything: the next token is at position 0.
  void reset() noexcept { position_ = 0; }

  /// Appends T tokens and computes the logits of the last logits.rows of them, (at most T, vocab).
  /// Errors: a token outside the vocabulary; more positions than the capacity. The session is then unchanged.
  template <class Tap = no_tap>
  [[nodiscard]] result<void> forward(std::span<int const> tokens, matrix_span<float> logits, Tap&& tap = {}) {
    index_t const count = std::ssize(tokens);
    PARE_EXPECTS(logits.rows <= count && (logits.rows == 0 || logits.cols == net_->config().vocab_size),
                 "llama_session::forward: logits must be (at most the number of tokens, vocab)");
    if (count > capacity_ - position_)
      return error{
          errc::out_of_range, "tokens",
          "expected at most " + std::to_string(capacity_) + " positions, found " + std::to_string(position_ + count)};
    for (int const token : tokens)
      if (token < 0 || token >= net_->config().vocab_size)
        return error{errc::out_of_range, "tokens",
                     "expected token ids in [0, " + std::to_string(net_->config().vocab_size) + "), found " +
                         std::to_string(token)};
    // Long texts go through in pieces, so that the workspace stays small.
    index_t const skipped = count - logits.rows;
    for (index_t first = 0; first < count; first += piece) {
      index_t const size = std::min(piece, count - first);
      advance(tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(size)), tap);
      index_t const wanted = std::clamp(first + size - skipped, index_t{0}, size);
      if (wanted > 0) read_out(size - wanted, wanted, logits.row_range(first + size - wanted - skipped, wanted), tap);
    }
    return {};
  }

 private:
  static constexpr index_t piece = 512;  // tokens at once

  struct workspace {
    workspace(llama_config const& c, index_t tokens)
        : residual(tokens, c.hidden_size),
          normed(tokens, c.hidden_size),
          q(tokens, c.heads.query_heads * c.heads.size),
          attended(tokens, c.heads.query_heads * c.heads.size),
          k(tokens, c.heads.key_heads * c.heads.size),
          v(tokens, c.heads.key_heads * c.heads.size),
          gate(tokens, c.intermediate_size),
          up(tokens, c.intermediate_size) {}
    matrix<float> residual;  // the stream that every block adds to
    matrix<float> normed;    // input of a block half; later what it adds
    matrix<float> q, attended, k, v, gate, up;
  };

  static matrix_span<float> first_rows(matrix<float>& m, index_t count) noexcept {
    return m.span().row_range(0, count);
  }

  template <class Tap>
  static void apply(linear const& layer, matrix_span<float const> x, matrix_span<float> y, Tap& tap) {
    tap(layer, x.transposed());
    layer.forward(x.transposed(), y.transposed());
  }

  static void normalise(matrix_span<float const> x, std::vector<float> const& gain, float epsilon,
                        matrix_span<float> out) noexcept {
    for (index_t t = 0; t < x.rows; ++t) rms_norm(x.row(t), gain.data(), epsilon, out.row(t), x.cols);
  }

  static void add(matrix_span<float const> x, matrix_span<float> sum) noexcept {
    for (index_t t = 0; t < x.rows; ++t) {
      float const* const from = x.row(t);
      float* const to = sum.row(t);
      for (index_t i = 0; i < x.cols; ++i) to[i] += from[i];
    }
  }

  /// Takes tokens through all blocks; the residual stream then holds their final states.
  template <class Tap>
  void advance(std::span<int const> tokens, Tap& tap) {
    llama_config const& c = net_->config();
    index_t const count = std::ssize(tokens);
    auto const residual = first_rows(work_.residual, count);  // (T, hidden)
    auto const normed = first_rows(work_.normed, count);      // (T, hidden)
    for (index_t t = 0; t < count; ++t)
      std::copy_n(net_->embedding(tokens[static_cast<std::size_t>(t)]), c.hidden_size, residual.row(t));
    for (std::size_t i = 0; i < net_->blocks_.size(); ++i) {
      llama::block const& b = net_->blocks_[i];
      normalise(residual, b.attention_norm, c.rms_norm_epsilon, normed);
      attention(b, caches_[i], normed, tap);
      add(normed, residual);
      normalise(residual, b.feed_forward_norm, c.rms_norm_epsilon, normed);
      feed_forward(b, normed, tap);
      add(normed, residual);
    }
    position_ += count;
  }

  /// x = o(attention(q(x), k(x), v(x))), (T, hidden).
  template <class Tap>
  void attention(llama::block const& b, attention_cache& cache, matrix_span<float> x, Tap& tap) {
    head_layout const heads = net_->config().heads;
    auto const q = first_rows(work_.q, x.rows);                // (T, query_heads * size)
    auto const k = first_rows(work_.k, x.rows);                // (T, key_heads * size)
    auto const v = first_rows(work_.v, x.rows);                // (T, key_heads * size)
    auto const attended = first_rows(work_.attended, x.rows);  // (T, query_heads * size)
    apply(b.q, x, q, tap);
    apply(b.k, x, k, tap);
    apply(b.v, x, v, tap);
    for (index_t t = 0; t < x.rows; ++t) {
      rope_.rotate(q.row(t), heads.query_heads, position_ + t);
      rope_.rotate(k.row(t), heads.key_heads, position_ + t);
    }
    cache.store(k, v, position_);
    attend(heads, q, cache, position_, attended, scores_.data());
    apply(b.o, attended, x, tap);
  }

  /// x = down(silu(gate(x)) * up(x)), (T, hidden).
  template <class Tap>
  void feed_forward(llama::block const& b, matrix_span<float> x, Tap& tap) {
    auto const gate = first_rows(work_.gate, x.rows);  // (T, intermediate)
    auto const up = first_rows(work_.up, x.rows);      // (T, intermediate)
    apply(b.gate, x, gate, tap);
    apply(b.up, x, up, tap);
    for (index_t t = 0; t < x.rows; ++t) swiglu(gate.row(t), up.row(t), gate.cols);
    apply(b.down, gate, x, tap);
  }

  /// Logits of `count` of the tokens that advance() has just seen.
  template <class Tap>
  void read_out(index_t first, index_t count, matrix_span<float> logits, Tap& tap) {
    auto const normed = first_rows(work_.normed, count);  // (count, hidden)
    normalise(work_.residual.span().row_range(first, count), net_->norm_, net_->config().rms_norm_epsilon, normed);
    apply(net_->head_, normed, logits, tap);
  }

  llama const* net_;
  index_t capacity_;
  index_t position_ = 0;
  rope rope_;
  std::vector<attention_cache> caches_;  // one per block
  workspace work_;
  matrix<float> scores_;  // (1, score_space(capacity))
};

template <class Tap>
void llama::forward(std::span<int const> tokens, matrix_span<float> logits, Tap&& tap) const {
  llama_session session(*this, std::ssize(tokens));
  session.forward(tokens, logits, tap).value();
}

}  // namespace pare::inline PARE_ABI
