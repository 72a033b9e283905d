// SPDX-License-Identifier: Apache-2.0
// What calibration collects for one layer: a compile-time list of statistics, each streaming and mergeable.
#pragma once

#include <concepts>

#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI {

/// One statistic of a layer's inputs.
///
/// Semantics: constructed for K input features; `add(x)` takes one batch of inputs x (K, N), any strides, N samples;
/// `merge(o)` makes it what it would be had it seen o's batches too. The order of batches changes rounding only.
template <class S>
concept input_statistic = std::copyable<S> && std::constructible_from<S, index_t> &&
    requires(S s, S const& other, matrix_span<float const> x) {
  s.add(x);
  s.merge(other);
};

/// What a backward pass tells of a layer: some columns of its input and of the gradient of the loss by its output. The
/// gradient of the weights is delta x^T.
struct gradient_batch {
  matrix_span<float const> x;        // (K, N), any strides
  matrix_span<float const> delta;    // (M, N), any strides
  bool columns_are_samples = false;  // each column is a sample; else all columns belong to the sample that is open
};

/// One statistic of the gradient of a layer's weights.
///
/// Semantics: constructed for weights of shape (M, K). Samples are texts, images or small batches of them. `add(batch)`
/// takes a part of the sample that is open, of a loss *summed* over its positions, or some whole samples where columns
/// are samples; `close(positions)` ends the open sample, a sum of that many terms. `merge(o)` as for input statistics;
/// neither may have an open sample. One that takes the gradient of a sample as a matrix (M, K) has
/// `add_gradient(gradient)` too.
template <class S>
concept gradient_statistic = std::copyable<S> && std::constructible_from<S, extents> &&
    requires(S s, S const& other, gradient_batch const& batch, index_t positions) {
  s.add(batch);
  s.close(positions);
  s.merge(other);
};

/// What a `statistics` list is made of.
template <class S>
concept layer_statistic = input_statistic<S> || gradient_statistic<S>;

/// The data that statistics are of which are not tagged with a corpus.
struct any_corpus {};
/// Everyday data, whose abilities are to be kept.
struct general_corpus {};
/// Data of the domain that the pruned network is for.
struct domain_corpus {};

/// A statistic of one corpus of several: `statistics<of<general_corpus, fisher>, of<domain_corpus, fisher>>`. A corpus
/// is any type; what is not tagged is of `any_corpus`.
template <class Corpus, layer_statistic S>
struct of : S {
  using S::S;
  using corpus = Corpus;
};

namespace detail {
template <class S>
struct corpus_of {
  using type = any_corpus;
};
template <class S>
  requires requires { typename S::corpus; }
struct corpus_of<S> {
  using type = typename S::corpus;
};

template <class S>
[[nodiscard]] S statistic_for(extents shape) {
  if constexpr (input_statistic<S>) {
    return S(shape.cols);
  } else {
    return S(shape);
  }
}
}  // namespace detail

/// The statistics of one layer; `get<S>()` reads one. A criterion lists what it reads as `using needs =
/// statistics<...>`.
template <layer_statistic... S>
struct statistics : S... {
  /// Some are of gradients, so that data must run through the network backward.
  static constexpr bool needs_gradients = (gradient_statistic<S> || ...);
  /// Some are of this corpus; some of them are of gradients.
  template <class Corpus>
  static constexpr bool has_corpus = (std::same_as<typename detail::corpus_of<S>::type, Corpus> || ...);
  template <class Corpus>
  static constexpr bool has_gradients_of =
      ((std::same_as<typename detail::corpus_of<S>::type, Corpus> && gradient_statistic<S>) || ...);

  statistics() requires(sizeof...(S) == 0) = default;
  /// Of a layer with weights (M, K).
  explicit statistics([[maybe_unused]] extents shape) : S(detail::statistic_for<S>(shape))... {}
  /// Of a layer with K inputs, where nothing is of gradients.
  explicit statistics(index_t features) requires(!needs_gradients) : statistics(extents{0, features}) {}

  template <class T>
    requires(std::same_as<T, S> || ...)
  [[nodiscard]] T const& get() const noexcept { return *this; }
  template <class T>
    requires(std::same_as<T, S> || ...)
  [[nodiscard]] T& get() noexcept { return *this; }

  /// x (K, N): a batch of inputs of the layer.
  template <class Corpus = any_corpus>
  void add([[maybe_unused]] matrix_span<float const> x) {
    (each<Corpus, S>([&](auto& s) {
       if constexpr (requires { s.add(x); }) s.add(x);
     }),
     ...);
  }
  /// What a backward pass tells of the layer; its inputs count for the statistics of inputs.
  template <class Corpus = any_corpus>
  void add([[maybe_unused]] gradient_batch const& batch) {
    (each<Corpus, S>([&](auto& s) {
       if constexpr (requires { s.add(batch); }) {
         s.add(batch);
       } else {
         s.add(batch.x);
       }
     }),
     ...);
  }
  /// The gradient (M, K) of a sample as a whole; `close` ends it.
  template <class Corpus = any_corpus>
  void add_gradient([[maybe_unused]] matrix_span<float const> gradient) {
    (each<Corpus, S>([&](auto& s) { s.add_gradient(gradient); }), ...);
  }
  /// Ends a sample of a backward pass.
  template <class Corpus = any_corpus>
  void close([[maybe_unused]] index_t positions) {
    (each<Corpus, S>([&](auto& s) {
       if constexpr (requires { s.close(positions); }) s.close(positions);
     }),
     ...);
  }
  void merge([[maybe_unused]] statistics const& other) { (S::merge(static_cast<S const&>(other)), ...); }

 private:
  template <class Corpus, class One, class Do>
  void each(Do&& f) {
    if constexpr (std::same_as<typename detail::corpus_of<One>::type, Corpus>) f(static_cast<One&>(*this));
  }
};

namespace detail {
template <class Have, class Need>
inline constexpr bool provides_all = false;
template <class Have, class... S>
inline constexpr bool provides_all<Have, statistics<S...>> = (requires(Have const& h) { h.template get<S>(); } && ...);
}  // namespace detail

/// `Have` holds every statistic of the list `Need`.
template <class Have, class Need>
concept provides = detail::provides_all<Have, Need>;

}  // namespace pare::inline PARE_ABI
