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
  /// See network.hpp: q, k and v read one input, gate and up another.
  [[nodiscard]] static constexpr std::size_t input_of(std::size_t layer) noexcept {
    constexpr std::size_t first[layers_per_block] = {0, 0, 0, 3, 4, 4, 6};  // q k v o gate up down
    std::size_t const within = layer % layers_per_block;
    return layer - within + first[within];
  }

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
  friend class llama_walk;
  friend class llama_workspace;
  friend struct llama_permutation;
  friend class tensors_to_save;

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

  /// Error: a token outside the vocabulary.
  [[nodiscard]] result<void> require_known(std::span<int const> tokens) const {
    for (int const token : tokens)
      if (token < 0 || token >= config_.vocab_size)
        return error{
            errc::out_of_range, "tokens",
            "expected token ids in [0, " + std::to_string(config_.vocab_size) + "), found " + std::to_string(token)};
    return {};
  }

  llama_config config_;
  matrix<float> embedding_;  // (vocab, hidden); empty with tied weights
  std::vector<block> blocks_;
  std::vector<float> norm_;
  linear head_;
};

/// What blocks of a network run in: rotations of all positions, and activations of some tokens at once. Allocates in
/// the constructor only. The network must outlive it and stay where it is.
class llama_workspace {
 public:
  /// Long texts go through in pieces of so many tokens, so that the activations stay few.
  static constexpr index_t piece = 512;

  /// For texts of up to `capacity` positions. Pre: 0 < capacity <= max_positions of the network.
  llama_workspace(llama const& net, index_t capacity)
      : net_(&net),
        rope_(capacity, net.config().heads.size, net.config().rope_theta),
        normed_(std::min(capacity, piece), net.config().hidden_size),
        q_(normed_.rows(), net.config().heads.query_heads * net.config().heads.size),
        attended_(q_.shape()),
        k_(normed_.rows(), net.config().heads.key_heads * net.config().heads.size),
        v_(k_.shape()),
        gate_(normed_.rows(), net.config().intermediate_size),
        up_(gate_.shape()),
        scores_(1, score_space(capacity)) {
    PARE_EXPECTS(capacity > 0 && capacity <= net.config().max_positions,
                 "llama_workspace: the capacity must be in [1, max_position_embeddings]");
  }

  /// residual (T, hidden): the embeddings of T tokens. Pre: tokens in [0, vocab).
  void embed(std::span<int const> tokens, matrix_span<float> residual) const noexcept {
    for (index_t t = 0; t < residual.rows; ++t)
      std::copy_n(net_->embedding(tokens[static_cast<std::size_t>(t)]), residual.cols, residual.row(t));
  }

  /// Takes the residual stream (T, hidden) of positions position, position + 1, ... through a block, whose keys and
  /// values of the positions before it are in the cache. Pre: T <= piece.
  template <class Tap>
  void run(std::size_t block, attention_cache& cache, index_t position, matrix_span<float> residual, Tap& tap) {
    llama::block const& b = net_->blocks_[block];
    float const epsilon = net_->config().rms_norm_epsilon;
    auto const normed = first_rows(normed_, residual.rows);  // (T, hidden)
    normalise(residual, b.attention_norm, epsilon, normed);
    attention(b, cache, position, normed, tap);
    add(normed, residual);
    normalise(residual, b.feed_forward_norm, epsilon, normed);
    feed_forward(b, normed, tap);
    add(normed, residual);
  }

  /// What the output layer sees of states (T, hidden) behind the last block: (T, hidden), until the next call.
  /// Pre: T <= piece.
  [[nodiscard]] matrix_span<float const> read_out(matrix_span<float const> residual) {
    auto const normed = first_rows(normed_, residual.rows);
    normalise(residual, net_->norm_, net_->config().rms_norm_epsilon, normed);
    return normed;
  }

  /// The layer on token-major x (T, K), y (T, M).
  template <class Tap>
  static void apply(linear const& layer, matrix_span<float const> x, matrix_span<float> y, Tap& tap) {
    tap(layer, x.transposed());
    layer.forward(x.transposed(), y.transposed());
  }

 private:
  static matrix_span<float> first_rows(matrix<float>& m, index_t count) noexcept {
    return m.span().row_range(0, count);
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

  /// x = o(attention(q(x), k(x), v(x))), (T, hidden).
  template <class Tap>
  void attention(llama::block const& b, attention_cache& cache, index_t position, matrix_span<float> x, Tap& tap) {
    head_layout const heads = net_->config().heads;
    auto const q = first_rows(q_, x.rows);                // (T, query_heads * size)
    auto const k = first_rows(k_, x.rows);                // (T, key_heads * size)
    auto const v = first_rows(v_, x.rows);                // (T, key_heads * size)
    auto const attended = first_rows(attended_, x.rows);  // (T, query_heads * size)
    apply(b.q, x, q, tap);
    apply(b.k, x, k, tap);
    apply(b.v, x, v, tap);
    for (index_t t = 0; t < x.rows; ++t) {
      rope_.rotate(q.row(t), heads.query_heads, position + t);
      rope_.rotate(k.row(t), heads.key_heads, position + t);
    }
    cache.store(k, v, position);
    attend(heads, q, cache, position, attended, scores_.data());
    apply(b.o, attended, x, tap);
  }

  /// x = down(silu(gate(x)) * up(x)), (T, hidden).
  template <class Tap>
  void feed_forward(llama::block const& b, matrix_span<float> x, Tap& tap) {
    auto const gate = first_rows(gate_, x.rows);  // (T, intermediate)
    auto const up = first_rows(up_, x.rows);      // (T, intermediate)
    apply(b.gate, x, gate, tap);
    apply(b.up, x, up, tap);
    for (index_t t = 0; t < x.rows; ++t) swiglu(gate.row(t), up.row(t), gate.cols);
    apply(b.down, gate, x, tap);
  }

  llama const* net_;
  rope rope_;
  matrix<float> normed_;  // input of a block half; later what it adds
  matrix<float> q_, attended_, k_, v_, gate_, up_;
  matrix<float> scores_;  // (1, score_space(capacity))
};

/// A network together with the keys and values of a growing text. Allocates in the constructor only.
/// The network must outlive it and stay where it is.
class llama_session {
 public:
  /// Room for `capacity` positions. Pre: 0 < capacity <= max_positions of the network.
  llama_session(llama const& net, index_t capacity)
      : net_(&net),
        capacity_(capacity),
        work_(net, capacity),
        residual_(std::min(capacity, piece), net.config().hidden_size) {
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
    PARE_TRY_VOID(net_->require_known(tokens));
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
  static constexpr index_t piece = llama_workspace::piece;

  /// Takes tokens through all blocks; the residual stream then holds their final states.
  template <class Tap>
  void advance(std::span<int const> tokens, Tap& tap) {
    auto const residual = residual_.span().row_range(0, std::ssize(tokens));
    work_.embed(tokens, residual);
    for (std::size_t i = 0; i < caches_.size(); ++i) work_.run(i, caches_[i], position_, residual, tap);
    position_ += residual.rows;
  }

  /// Logits of `count` of the tokens that advance() has just seen.
  template <class Tap>
  void read_out(index_t first, index_t count, matrix_span<float> logits, Tap& tap) {
    llama_workspace::apply(net_->head_, work_.read_out(residual_.span().row_range(first, count)), logits, tap);
  }

  llama const* net_;
  index_t capacity_;
  index_t position_ = 0;
  std::vector<attention_cache> caches_;  // one per block
  llama_workspace work_;
  matrix<float> residual_;  // the stream that every block adds to
};

template <class Tap>
void llama::forward(std::span<int const> tokens, matrix_span<float> logits, Tap&& tap) const {
  llama_session session(*this, std::ssize(tokens));
  session.forward(tokens, logits, tap).value();
}

}  // namespace pare::inline PARE_ABI
