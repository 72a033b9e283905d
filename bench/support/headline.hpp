// SPDX-License-Identifier: Apache-2.0
// How the headline table is measured: groups of contenders that alternate in the same rounds as the machine's limits.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include <pare/kernel/prepare.hpp>

#include "headline_row.hpp"
#include "limits.hpp"
#include "peers.hpp"
#include "problem.hpp"
#include "sparse_peers.hpp"
#include "verify.hpp"

namespace pare::bench {

struct headline_options {
  bool quick = false;
  std::string filter{};  // part of a row's name
  std::string data{};    // folder of the real matrices
  std::string json{};
};

/// A contender's result is not the reference's.
struct wrong_result {
  std::string whose;
};

/// Bytes of the third-level cache that this CPU reaches. Linux's own word first: in virtual machines sysconf can give
/// the whole host's.
inline index_t last_level_cache() {
  std::ifstream size("/sys/devices/system/cpu/cpu0/cache/index3/size");
  if (index_t kib = 0; size >> kib && kib > 0) return kib * 1024;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  if (long const found = sysconf(_SC_LEVEL3_CACHE_SIZE); found > 0) return static_cast<index_t>(found);
#endif
  return index_t{32} << 20;
}

/// What all groups share: options, the limits' loops, and the rows that are done.
class headline {
 public:
  explicit headline(headline_options given) : options(std::move(given)) {}

  headline_options const options;
  std::shared_ptr<memory_reader> reader = std::make_shared<memory_reader>(4 * last_level_cache());
  contender peak{"peak", multiply_add_peak()};
  contender read{"read", [r = reader] { (*r)(); }};
  contender clock{"clock", clock_chain()};
  std::vector<headline_row> rows;
  nlohmann::json avx2_machine{};        // machine_of_run of the program that measured the rows for AVX2, where it did
  std::vector<std::string> left_out{};  // rows that were not measured, and why

  [[nodiscard]] index_t rounds() const { return options.quick ? 5 : 15; }
  [[nodiscard]] index_t sparse_peer_rounds() const { return options.quick ? 1 : 3; }
  [[nodiscard]] double shortest_sample() const { return options.quick ? 1e-3 : 2e-3; }
  [[nodiscard]] bool wants(std::string const& row) const { return row.find(options.filter) != std::string::npos; }
  /// Sparse peers are slow; a quick run has them on small matrices only.
  [[nodiscard]] bool wants_sparse_peers(extents shape) const {
    return !options.quick || shape.size() <= index_t{1024} * 1024;
  }

  static double gflops(double seconds) { return multiply_add_peak::flops / seconds * 1e-9; }
  [[nodiscard]] double gbytes(double seconds) const { return reader->bytes_per_call() / seconds * 1e-9; }

  /// A line on the terminal about what is being done; nothing where stderr is not one.
  void progress(std::string const& text) const {
    if (isatty(STDERR_FILENO) == 1) std::fprintf(stderr, "\r\033[K%s", text.c_str());
  }
  void step(std::string title) {
    title_ = std::move(title);
    progress(title_ + ": preparing");
  }
  void round(index_t number) const {
    progress(title_ + ": round " + std::to_string(number + 1) + " of " + std::to_string(rounds()));
  }

  /// Names of sparse peers that took part.
  std::vector<std::string> sparse_names;

 private:
  std::string title_;
};

/// Rows of one matrix shape, number of columns, layout and weight type, with one set of dense contenders for all.
/// Dense is the format of the own dense contender; with codes of 8 bits no peer of another type takes part.
template <weight_value T, sparse_format Dense = dense<T>>
class headline_group {
  static constexpr bool rounds_inputs = !std::is_same_v<Dense, dense<T>>;

 public:
  static std::string_view dtype() { return rounds_inputs ? std::string_view("int8") : dtype_name<T>; }

  enum class weights_from { caches, memory };  // memory: no cache holds anything of W when a call begins

  headline_group(headline& all, extents shape, index_t columns, bool token_major,
                 weights_from from = weights_from::caches)
      : all_(all), shape_(shape), columns_(columns), token_major_(token_major), from_(from) {}

  /// Weights in place of random ones. Call before add.
  void use(matrix<float> values) { values_ = std::move(values); }
  /// Random numbers to make masks of.
  [[nodiscard]] matrix<float> const& scores() {
    if (scores_.size() == 0) scores_ = random_matrix(shape_.rows, shape_.cols, 1);
    return scores_;
  }

  /// Measures `row` for weights of format F with the mask that make_mask() gives. Its family, op, sparsity, goals and
  /// the end of its name are filled in.
  template <class F, class MakeMask>
  void add(headline_row row, MakeMask make_mask) {
    std::string const end = row.name;
    row.format = format_traits<F>::label();
    row.name = row_name(dtype(), row.op, row.format, shape_, columns_, row.sparsity) + (token_major_ ? "/tm" : "") +
               (end.empty() ? "" : "/" + end);
    if (!all_.wants(row.name)) return;
    if (entries_.empty()) make_factors();
    row.dtype = dtype();
    row.shape = shape_;
    row.columns = columns_;
    row.arch = simd::default_arch::name();
    row.token_major = token_major_;

    F format = compress<F>(values_, make_mask());
    expected_product const expected(format, x_features_.span(), input_rounding);
    std::size_t const number = entries_.size();
    if constexpr (std::is_same_v<T, float> && !rounds_inputs)
      if (all_.wants_sparse_peers(shape_)) {
        matrix<float> const w = decompress(format);
        for (contender& c : sparse_peers({w.span(), x_.data(), y_.data(), columns_, token_major_}))
          admit(std::move(c), expected, number, kind::peer, row.name);
      }
    auto const operand = std::make_shared<decltype(prepare(std::move(format), {.columns = columns_})) const>(
        prepare(std::move(format), {.columns = columns_}));
    row.operand = operand->name();
    row.bytes = static_cast<double>(operand->bytes());
    row.nnz = operand->nnz();
    admit({"own", [this, operand] { matmul(*operand, x(), y()); }}, expected, number, kind::own, row.name);
    entries_.push_back({std::move(row), {}, {}});
  }

  /// Measures all rows that were added, and gives them back.
  std::vector<headline_row> run() {
    if (entries_.empty()) return {};
    scores_ = {};
    add_dense();
    for (runner& r : runners_)
      if (from_ == weights_from::caches) r.work.warm_up(all_.shortest_sample());
    for (index_t round = 0; round < all_.rounds(); ++round) {
      all_.round(round);
      all_.clock.sample();
      if (from_ == weights_from::caches) read_memory(1);
      for (std::size_t i = 0; i < runners_.size(); ++i)
        if (runner& r = runners_[(i + static_cast<std::size_t>(round)) % runners_.size()];
            r.what != kind::peer || round < all_.sparse_peer_rounds())
          sample(r);
    }
    return finish();
  }

 private:
  enum class kind { own, dense, peer };
  struct runner {
    contender work;
    kind what;
    std::size_t entry;  // of kinds other than dense
  };
  struct entry {
    headline_row row;
    std::vector<double> peaks;  // seconds of the limits' loops in this row's rounds
    std::vector<double> reads;
  };

  /// Kernels for codes of 8 bits round x, which lies in [-1, 1], to as many: to 1/127, so by half of it.
  static constexpr double input_rounding = rounds_inputs ? 0.5 / 127.0 : 0.0;

  static matrix<float> buffer(index_t floats) { return {1, floats + 16}; }  // a peer reads 16 bytes beyond
  [[nodiscard]] matrix_span<float const> x() const {
    matrix_span<float const> const given(x_.data(), token_major_ ? columns_ : shape_.cols,
                                         token_major_ ? shape_.cols : columns_);
    return token_major_ ? given.transposed() : given;
  }
  [[nodiscard]] matrix_span<float> y() {
    matrix_span<float> const given(y_.data(), token_major_ ? columns_ : shape_.rows,
                                   token_major_ ? shape_.rows : columns_);
    return token_major_ ? given.transposed() : given;
  }

  void make_factors() {
    if (values_.size() == 0) values_ = random_matrix(shape_.rows, shape_.cols, 2);
    matrix<float> random = random_matrix(columns_, shape_.cols, 3);
    // Numbers that bf16 holds exactly: peers that take X as bf16 multiply the same.
    if constexpr (!std::is_same_v<T, float>) random = cast<float>(cast<T>(random));
    x_features_ = matrix<float>(random.span().transposed());
    x_ = buffer(x_features_.size());
    y_ = buffer(shape_.rows * columns_);
    std::memcpy(x_.data(), token_major_ ? random.data() : x_features_.data(), random.bytes());
    if constexpr (!std::is_same_v<T, float>) x_rounded_ = cast<T>(x_);
  }

  void admit(contender c, expected_product const& expected, std::size_t number, kind what, std::string const& row) {
    std::fill_n(y_.data(), y_.size(), 1e30f);
    c.call();
    if (!expected.agrees(y())) throw wrong_result{c.name + " in " + row};
    if (what == kind::peer &&
        std::find(all_.sparse_names.begin(), all_.sparse_names.end(), c.name) == all_.sparse_names.end())
      all_.sparse_names.push_back(c.name);
    runners_.push_back({std::move(c), what, number});
  }

  void add_dense() {
    rounded_ = cast<T>(values_);
    Dense format = compress<Dense>(rounded_, mask(shape_, true));
    expected_product const expected(format, x_features_.span(), input_rounding);
    auto const operand = std::make_shared<decltype(prepare(std::move(format), {.columns = columns_})) const>(
        prepare(std::move(format), {.columns = columns_}));
    std::string const row = "the dense contenders of " + entries_.front().row.name;
    admit({"own_dense", [this, operand] { matmul(*operand, x(), y()); }}, expected, 0, kind::dense, row);
    if constexpr (rounds_inputs) return;
    T const* const input = [&] {
      if constexpr (std::is_same_v<T, float>) {
        return x_.data();
      } else {
        return x_rounded_.data();
      }
    }();
    for (contender& c : peers<T>({rounded_.span(), input, y_.data(), columns_, token_major_}))
      admit(std::move(c), expected, 0, kind::dense, row);
  }

  void read_memory(index_t calls) {
    for (index_t i = 0; i < calls; ++i) {
      all_.read.sample();
      for (entry& e : entries_) e.reads.push_back(all_.read.samples.back());
    }
  }

  void sample(runner& r) {
    if (r.what == kind::own) {
      all_.peak.sample();
      entries_[r.entry].peaks.push_back(all_.peak.samples.back());
    }
    // Weights from memory too are used beforehand: virtual machines take away pages that lie idle for seconds, and give
    // them back at the next touch, in far more time than reading them takes.
    r.work.call();
    if (from_ == weights_from::memory) read_memory(memory_reader::quarters);
    r.work.sample();
  }

  std::vector<headline_row> finish() {
    std::vector<headline_row> rows;
    for (runner& r : runners_) {
      r.work.take_median();
      if (r.what == kind::own) entries_[r.entry].row.us = 1e6 * r.work.median;
      if (r.what == kind::peer) entries_[r.entry].row.us_of[r.work.name] = 1e6 * r.work.median;
    }
    for (entry& e : entries_) {
      headline_row& row = e.row;
      for (runner const& r : runners_) {
        if (r.what != kind::dense) continue;
        double const us = 1e6 * r.work.median;
        row.us_of[r.work.name] = us;
        if (row.best_dense.empty() || us < row.us_best_dense) {
          row.us_best_dense = us;
          row.best_dense = r.work.name;
        }
      }
      row.peak_fraction =
          2e-3 * static_cast<double>(row.nnz * columns_) / row.us / headline::gflops(median_of(e.peaks));
      row.read_fraction = 1e-3 * row.bytes / row.us / all_.gbytes(median_of(e.reads));
      rows.push_back(row);
      all_.rows.push_back(row);
    }
    return rows;
  }

  headline& all_;
  extents shape_;
  matrix<float> values_;
  matrix<float> scores_;
  matrix<T> rounded_;  // what dense peers multiply
  index_t columns_;
  bool token_major_;
  weights_from from_;
  matrix<float> x_features_;  // (K, N)
  matrix<float> x_;           // X in the group's layout, in one long row
  matrix<T> x_rounded_;       // the same as bf16
  matrix<float> y_;
  std::vector<entry> entries_;
  std::vector<runner> runners_;
};

}  // namespace pare::bench
