// SPDX-License-Identifier: Apache-2.0
// Gradients of a Llama model: of a loss of its logits, or of one of its pooled states (embeddings).
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include <pare/nn/gradient.hpp>
#include <pare/nn/llama.hpp>
#include <pare/nn/loss.hpp>

namespace pare::inline PARE_ABI {

/// A forward pass over a whole sequence that is kept for the way back.
///
/// Memory: for each position and block 2 hidden + 2 queries + 2 keys + 2 intermediate floats, and about 4 hidden + 2
/// queries + 6 keys + 3 intermediate ones once to work in. Allocates in the constructor only, besides what the layers'
/// products do (a transposed copy of a layer's weights). The network must outlive it and stay where it is.
/// Gradients of the norms' gains are not computed: pruning never asks for them.
class llama_tape {
 public:
  /// Room for `capacity` positions. Pre: 0 < capacity <= max_positions of the network.
  llama_tape(llama const& net, index_t capacity)
      : net_(&net),
        capacity_(capacity),
        rope_(capacity, net.config().heads.size, net.config().rope_theta),
        attention_(net.config().heads, capacity),
        residual_(capacity, net.config().hidden_size),
        normed_(residual_.shape()),
        states_(residual_.shape()),
        d_residual_(residual_.shape()),
        d_normed_(residual_.shape()),
        d_q_(capacity, queries()),
        d_attended_(capacity, queries()),
        d_k_(capacity, keys()),
        d_v_(capacity, keys()),
        gated_(capacity, net.config().intermediate_size),
        d_gate_(gated_.shape()),
        d_up_(gated_.shape()),
        scores_(1, score_space(capacity)) {
    PARE_EXPECTS(capacity > 0 && capacity <= net.config().max_positions,
                 "llama_tape: the capacity must be in [1, max_position_embeddings]");
    records_.reserve(net.blocks_.size());
    for (std::size_t i = 0; i < net.blocks_.size(); ++i) records_.emplace_back(net.config(), capacity);
  }

  /// Runs the sequence, T tokens from position 0, and keeps it.
  /// Errors: no tokens; tokens outside the vocabulary; more than the capacity.
  [[nodiscard]] result<void> forward(std::span<int const> tokens) {
    llama_config const& c = net_->config();
    if (tokens.empty() || std::ssize(tokens) > capacity_)
      return error{errc::out_of_range, "tokens",
                   "expected 1 to " + std::to_string(capacity_) + " positions, found " + std::to_string(tokens.size())};
    for (int const token : tokens)
      if (token < 0 || token >= c.vocab_size)
        return error{errc::out_of_range, "tokens",
                     "expected token ids in [0, " + std::to_string(c.vocab_size) + "), found " + std::to_string(token)};
    tokens_.assign(tokens.begin(), tokens.end());
    auto const x = rows(residual_);
    for (index_t t = 0; t < x.rows; ++t)
      std::copy_n(net_->embedding(tokens_[static_cast<std::size_t>(t)]), c.hidden_size, x.row(t));
    for (std::size_t i = 0; i < records_.size(); ++i) run(net_->blocks_[i], records_[i]);
    normalise(x, net_->norm_, rows(states_));
    return {};
  }

  /// What the output layer sees: (T, hidden), the final states after the last norm.
  [[nodiscard]] matrix_span<float const> states() const noexcept {
    return states_.span().row_range(0, std::ssize(tokens_));
  }
  /// The logits of all positions, (T, vocab).
  void logits(matrix_span<float> out) const {
    PARE_EXPECTS(out.shape() == (extents{std::ssize(tokens_), net_->config().vocab_size}),
                 "llama_tape::logits: out must be (T, vocab)");
    net_->head_.forward(states().transposed(), out.transposed());
  }

  /// Back from d_logits (T, vocab), the gradient of a loss by the logits, through the whole network.
  template <gradient_tap Tap>
  void backward_logits(matrix_span<float const> d_logits, Tap&& tap) {
    PARE_EXPECTS(d_logits.shape() == (extents{std::ssize(tokens_), net_->config().vocab_size}),
                 "llama_tape::backward_logits: d_logits must be (T, vocab)");
    through(net_->head_, states(), d_logits, rows(d_normed_), tap);
    walk_back(tap);
  }
  /// Back from d_states (T, hidden), the gradient of a loss by states(); the output layer has no part in it.
  template <gradient_tap Tap>
  void backward_states(matrix_span<float const> d_states, Tap&& tap) {
    PARE_EXPECTS(d_states.shape() == states().shape(), "llama_tape::backward_states: d_states must be (T, hidden)");
    for (index_t t = 0; t < d_states.rows; ++t)
      for (index_t i = 0; i < d_states.cols; ++i) d_normed_(t, i) = d_states(t, i);
    walk_back(tap);
  }

 private:
  /// What the way back needs of one block.
  struct record {
    record(llama_config const& c, index_t tokens)
        : before(tokens, c.hidden_size),
          middle(tokens, c.hidden_size),
          q(tokens, c.heads.query_heads * c.heads.size),
          attended(q.shape()),
          gate(tokens, c.intermediate_size),
          up(gate.shape()),
          cache(c.heads, tokens) {}
    matrix<float> before, middle;  // the residual stream at the block's two norms
    matrix<float> q, attended;     // q after RoPE
    matrix<float> gate, up;        // before the activation
    attention_cache cache;         // keys (after RoPE) and values
  };

  [[nodiscard]] index_t queries() const noexcept {
    return net_->config().heads.query_heads * net_->config().heads.size;
  }
  [[nodiscard]] index_t keys() const noexcept { return net_->config().heads.key_heads * net_->config().heads.size; }
  [[nodiscard]] matrix_span<float> rows(matrix<float>& m) const noexcept {
    return m.span().row_range(0, std::ssize(tokens_));
  }

  void normalise(matrix_span<float const> x, std::vector<float> const& gain, matrix_span<float> out) const noexcept {
    float const epsilon = net_->config().rms_norm_epsilon;
    for (index_t t = 0; t < x.rows; ++t) rms_norm(x.row(t), gain.data(), epsilon, out.row(t), x.cols);
  }
  void normalise_backward(matrix_span<float const> x, std::vector<float> const& gain) noexcept {
    float const epsilon = net_->config().rms_norm_epsilon;
    for (index_t t = 0; t < x.rows; ++t)
      rms_norm_backward(x.row(t), gain.data(), epsilon, d_normed_.row(t), d_residual_.row(t), x.cols);
  }
  /// y = layer(x) + added, token-major.
  static void apply(linear const& layer, matrix_span<float const> x, matrix_span<float> y,
                    matrix_span<float const> added = {}) {
    layer_epilogue e;
    if (added.data != nullptr) e.added = added.transposed();
    layer.forward(x.transposed(), y.transposed(), e);
  }
  /// Taps a layer and writes dx = W^T delta + added; all token-major.
  template <class Tap>
  static void through(linear const& layer, matrix_span<float const> x, matrix_span<float const> delta,
                      matrix_span<float> dx, Tap& tap, matrix_span<float const> added = {}) {
    tap(layer, x.transposed(), delta.transposed());
    layer.backward(delta.transposed(), dx.transposed(), added.data == nullptr ? added : added.transposed());
  }
  static void copy(matrix_span<float const> from, matrix_span<float> to) noexcept {
    std::copy_n(from.data, from.rows * from.cols, to.data);
  }

  /// One block forward, in residual_.
  void run(llama::block const& b, record& r) {
    head_layout const heads = net_->config().heads;
    auto const x = rows(residual_);
    auto const normed = rows(normed_);
    copy(x, rows(r.before));
    normalise(x, b.attention_norm, normed);
    auto const k = rows(d_k_);  // not needed for gradients yet
    auto const v = rows(d_v_);
    apply(b.q, normed, rows(r.q));
    apply(b.k, normed, k);
    apply(b.v, normed, v);
    for (index_t t = 0; t < x.rows; ++t) {
      rope_.rotate(r.q.row(t), heads.query_heads, t);
      rope_.rotate(k.row(t), heads.key_heads, t);
    }
    r.cache.store(k, v, 0);
    attend(heads, rows(r.q), r.cache, 0, rows(r.attended), scores_.data());
    apply(b.o, rows(r.attended), x, x);
    copy(x, rows(r.middle));
    normalise(x, b.feed_forward_norm, normed);
    apply(b.gate, normed, rows(r.gate));
    apply(b.up, normed, rows(r.up));
    apply(b.down, gated(r), x, x);
  }
  /// silu(gate) * up, (T, intermediate).
  matrix_span<float const> gated(record& r) noexcept {
    auto const out = rows(gated_);
    copy(rows(r.gate), out);
    for (index_t t = 0; t < out.rows; ++t) swiglu(out.row(t), r.up.row(t), out.cols);
    return out;
  }

  /// From d_normed_, the gradient by states(), to the embedding.
  template <class Tap>
  void walk_back(Tap& tap) {
    auto const d = rows(d_residual_);
    std::fill_n(d.data, d.rows * d.cols, 0.0f);
    normalise_backward(rows(residual_), net_->norm_);
    for (std::size_t i = records_.size(); i-- > 0;) {
      feed_forward_back(net_->blocks_[i], records_[i], tap);
      attention_back(net_->blocks_[i], records_[i], tap);
    }
    detail::tap_embedding(tap, net_->config().tied ? &net_->head_ : nullptr, std::span<int const>(tokens_),
                          matrix_span<float const>(d));
  }
  template <class Tap>
  void feed_forward_back(llama::block const& b, record& r, Tap& tap) {
    auto const d_gate = rows(d_gate_);
    auto const d_up = rows(d_up_);
    auto const normed = rows(normed_);
    auto const d_normed = rows(d_normed_);
    through(b.down, gated(r), rows(d_residual_), d_gate, tap);
    for (index_t t = 0; t < d_gate.rows; ++t)
      swiglu_backward(r.gate.row(t), r.up.row(t), d_gate.row(t), d_gate.row(t), d_up.row(t), d_gate.cols);
    normalise(rows(r.middle), b.feed_forward_norm, normed);
    through(b.up, normed, d_up, d_normed, tap);
    through(b.gate, normed, d_gate, d_normed, tap, d_normed);
    normalise_backward(rows(r.middle), b.feed_forward_norm);
  }
  template <class Tap>
  void attention_back(llama::block const& b, record& r, Tap& tap) {
    head_layout const heads = net_->config().heads;
    auto const d_q = rows(d_q_);
    auto const d_k = rows(d_k_);
    auto const d_v = rows(d_v_);
    auto const normed = rows(normed_);
    auto const d_normed = rows(d_normed_);
    through(b.o, rows(r.attended), rows(d_residual_), rows(d_attended_), tap);
    attend_backward(heads, rows(r.q), r.cache, rows(d_attended_), d_q, d_k, d_v, attention_);
    for (index_t t = 0; t < d_q.rows; ++t) {
      rope_.rotate_back(d_q.row(t), heads.query_heads, t);
      rope_.rotate_back(d_k.row(t), heads.key_heads, t);
    }
    normalise(rows(r.before), b.attention_norm, normed);
    through(b.v, normed, d_v, d_normed, tap);
    through(b.k, normed, d_k, d_normed, tap, d_normed);
    through(b.q, normed, d_q, d_normed, tap, d_normed);
    normalise_backward(rows(r.before), b.attention_norm);
  }

  llama const* net_;
  index_t capacity_;
  rope rope_;
  std::vector<record> records_;  // one per block
  std::vector<int> tokens_;
  attention_gradients attention_;
  matrix<float> residual_;  // (capacity, hidden): the stream; after forward() the last one
  matrix<float> normed_, states_;
  matrix<float> d_residual_, d_normed_;
  matrix<float> d_q_, d_attended_, d_k_, d_v_;
  matrix<float> gated_, d_gate_, d_up_;
  matrix<float> scores_;  // (1, score_space(capacity))
};

/// The loss of a sequence's logits (T, vocab), and its gradients for the tap:
///
///     backward(net, tokens, next_token(tokens), tap)
///
/// Memory: llama_tape's, and the logits. The tap is not called after an error. Errors: those of llama_tape::forward
/// (the capacity is max_position_embeddings) and of the loss.
template <logit_loss Loss, gradient_tap Tap>
[[nodiscard]] result<double> backward(llama const& net, std::span<int const> tokens, Loss&& loss, Tap&& tap) {
  index_t const count = std::ssize(tokens);
  llama_tape tape(net, std::clamp<index_t>(count, 1, net.config().max_positions));
  PARE_TRY_VOID(tape.forward(tokens));
  PARE_TRY_VOID(detail::expect_rows(loss, count));
  matrix<float> logits(count, net.config().vocab_size);
  tape.logits(logits.span());
  PARE_TRY(double const value, loss(logits.span(), index_t{0}));
  tape.backward_logits(logits.span(), tap);
  return value;
}

/// How the states of a text become its embedding.
enum class pooling { mean, last };

/// Texts for contrastive learning: positive i belongs to query i; negatives are of any number.
struct text_triplets {
  std::span<std::vector<int> const> queries, positives, negatives;
};

struct info_nce_options {
  float scale = 20.0f;  // of the cosines, the inverse of a temperature
  pare::pooling pooling = pare::pooling::last;
};

namespace detail {
/// embedding (hidden) of states (T, hidden).
inline void pool(matrix_span<float const> states, pooling how, float* embedding) noexcept {
  for (index_t k = 0; k < states.cols; ++k) {
    float const* const x = states.data + k;
    embedding[k] = how == pooling::last
                       ? x[(states.rows - 1) * states.row_stride]
                       : sum_of<float>(states.rows, [&](index_t t) { return x[t * states.row_stride]; }) /
                             static_cast<float>(states.rows);
  }
}
/// The gradient by the states from that by the embedding.
inline void pool_backward(float const* d_embedding, pooling how, matrix_span<float> d_states) noexcept {
  float const share = how == pooling::last ? 1.0f : 1.0f / static_cast<float>(d_states.rows);
  for (index_t t = 0; t < d_states.rows; ++t) {
    bool const counts = how == pooling::mean || t + 1 == d_states.rows;
    for (index_t k = 0; k < d_states.cols; ++k) d_states(t, k) = counts ? share * d_embedding[k] : 0.0f;
  }
}
}  // namespace detail

/// InfoNCE of the texts' embeddings (pooled final states, after the last norm), and its gradients for the tap. Every
/// text runs forward twice, once for the loss and once for the way back, so that only one is kept at a time.
/// The output layer is not called. Errors: those of llama_tape::forward and of info_nce; as many positives as queries.
template <gradient_tap Tap>
[[nodiscard]] result<double> backward(llama const& net, text_triplets const& texts, info_nce_options const& options,
                                      Tap&& tap) {
  if (texts.positives.size() != texts.queries.size())
    return error{errc::mismatch, "positives",
                 "expected " + std::to_string(texts.queries.size()) + ", one for each query, found " +
                     std::to_string(texts.positives.size())};
  std::vector<std::span<int const>> all;
  index_t longest = 1;
  for (auto const& group : {texts.queries, texts.positives, texts.negatives})
    for (std::vector<int> const& text : group) {
      all.emplace_back(text);
      longest = std::max(longest, std::ssize(text));
    }
  llama_tape tape(net, std::min(longest, net.config().max_positions));
  auto const count = static_cast<index_t>(all.size());
  auto const batch = std::ssize(texts.queries);
  matrix<float> embeddings(count, net.config().hidden_size);
  matrix<float> gradients(embeddings.shape());
  for (index_t i = 0; i < count; ++i) {
    PARE_TRY_VOID(tape.forward(all[static_cast<std::size_t>(i)]));
    detail::pool(tape.states(), options.pooling, embeddings.row(i));
  }
  auto const e = matrix_span<float const>(embeddings.span());
  PARE_TRY(double const value, info_nce(e.row_range(0, batch), e.row_range(batch, batch),
                                        e.row_range(2 * batch, count - 2 * batch), gradients.span().row_range(0, batch),
                                        gradients.span().row_range(batch, count - batch), options.scale));
  matrix<float> d_states(longest, net.config().hidden_size);
  for (index_t i = 0; i < count; ++i) {
    std::span<int const> const text = all[static_cast<std::size_t>(i)];
    PARE_TRY_VOID(tape.forward(text));
    auto const d = d_states.span().row_range(0, std::ssize(text));
    detail::pool_backward(gradients.row(i), options.pooling, d);
    tape.backward_states(d, tap);
  }
  return value;
}

}  // namespace pare::inline PARE_ABI
