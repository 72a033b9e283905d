// SPDX-License-Identifier: Apache-2.0
// Which operand was measured to be fastest for which layer: what `prepare` with `autotune` finds out, as a table that
// can be saved and given to it again.
//
//   pare tuning 1
//   # architecture format dtype outputs inputs density columns zero_inputs threads operand
//   avx512bw bitmap f32 4096 4096 50 128 0 1 row_pairs
//   avx512bw bsr:block4x4 f32 768 768 9 1 0 1 column_blocks
//
// A table is text; who reads and writes files does it in two lines (pare/io/file.hpp):
//
//   pare::tuning table = pare::tuning::parse(pare::as_text(*pare::read_file(path))).value();
//   auto const w = pare::prepare(format, {.columns = 128, .autotune = true, .choices = &table});
//   pare::write_file_atomically(path, pare::as_bytes(table.to_text())).value();
#pragma once

#include <algorithm>
#include <charconv>
#include <compare>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <pare/core/result.hpp>
#include <pare/kernel/dispatch.hpp>
#include <pare/kernel/execution.hpp>
#include <pare/kernel/registry.hpp>
#include <pare/pattern/parse.hpp>

namespace pare::inline PARE_ABI {

/// A layer and its use, as a tuning table knows them.
struct tuned_layer {
  std::string arch;    // active_arch()
  std::string format;  // F::name(), and behind a colon the pattern of formats that have one: "bitmap", "n_of_m:2:4"
  std::string dtype;   // "f32", "bf16", of codes "int8g" and the size of a group
  index_t outputs = 0;
  index_t inputs = 0;
  int density = 0;      // per cent, by `step`
  index_t columns = 1;  // N
  int zero_inputs = 0;  // per cent, by `step`
  int threads = 1;

  /// A fraction in per cent: to the nearest multiple of 5, below 10 to the nearest whole one, where fast operands
  /// follow each other closely.
  [[nodiscard]] static constexpr int step(double fraction) noexcept {
    double const percent = 100.0 * fraction;
    return percent < 9.5 ? static_cast<int>(percent + 0.5) : 5 * static_cast<int>(percent / 5.0 + 0.5);
  }
  friend auto operator<=>(tuned_layer const&, tuned_layer const&) = default;
};

namespace detail {

/// How a tuning table calls a format.
template <class F>
struct tuned_format {
  static std::string name() {
    if constexpr (requires { typename F::pattern_type; })
      return std::string(F::name()) + ':' + to_string(typename F::pattern_type{});
    return F::name();
  }
};
template <index_t R, index_t C, weight_value T>
struct tuned_format<bsr<R, C, T>> {
  static std::string name() { return std::string(bsr<R, C, T>::name()) + ':' + to_string(any_pattern({R, C}, 0, 0)); }
};

}  // namespace detail

/// The layer that a format, multiplied with `columns` columns by `threads` threads of this program, is to a table.
/// Pre: columns, threads >= 1; zero_inputs in [0, 1].
template <sparse_format F>
[[nodiscard]] tuned_layer layer_of(F const& format, index_t columns, double zero_inputs = 0.0, int threads = 1) {
  PARE_EXPECTS(columns >= 1 && threads >= 1, "tuning: a layer is used for at least one column, by at least one thread");
  PARE_EXPECTS(zero_inputs >= 0.0 && zero_inputs <= 1.0, "tuning: zero_inputs is a fraction and must lie in [0, 1]");
  auto const [rows, cols] = format.shape();
  index_t const size = format.shape().size();
  tuned_layer layer{
      .arch = active_arch(),
      .format = detail::tuned_format<F>::name(),
      .dtype = std::string(dtype_name<typename F::value_type>),
      .outputs = rows,
      .inputs = cols,
      .density = tuned_layer::step(size == 0 ? 0.0 : static_cast<double>(format.nnz()) / static_cast<double>(size)),
      .columns = columns,
      .zero_inputs = tuned_layer::step(zero_inputs),
      .threads = threads};
  if constexpr (requires { F::group; }) layer.dtype = "int8g" + std::to_string(F::group);
  return layer;
}

/// An operand of the registry has this name; those of your own have not, and are not saved.
[[nodiscard]] inline bool is_operand_name(std::string_view name) noexcept {
  bool found = false;
  auto const look = [&]<class F>() {
    operands_of<F>::type::for_each([&]<class O>() { found = found || name == O::name(); });
  };
  format_list<float>::for_each(look);
  type_list<quantised<128>>::for_each(look);
  return found;
}

/// The operands that were chosen for some layers, by prepared::name(). What was found on one machine says little of
/// another one, even of the same architecture; layers of other architectures are kept, and never found by this program.
/// Not synchronised: only one `prepare` at a time may be given a table that it may add to.
class tuning {
 public:
  /// The table that to_text wrote. Empty lines and lines that begin with # are skipped.
  /// Errors: malformed, naming the line: another first line, a line that is not ten words, a number that is none, a
  /// fraction that is no step, a layer that an earlier line has, a name that no operand has.
  [[nodiscard]] static result<tuning> parse(std::string_view text);
  [[nodiscard]] std::string to_text() const;

  /// The name of the operand, empty where the layer is not known. O(log n).
  [[nodiscard]] std::string_view find(tuned_layer const& layer) const noexcept {
    auto const at = chosen_.find(layer);
    return at == chosen_.end() ? std::string_view() : std::string_view(at->second);
  }
  /// Pre: is_operand_name(operand); the layer is one that `parse` reads back: the three names are words, the fractions
  /// steps. Takes the place of what the table says of it.
  void set(tuned_layer layer, std::string_view operand) {
    PARE_EXPECTS(is_operand_name(operand), "tuning: no operand of the registry has this name");
    PARE_EXPECTS(can_be_parsed(layer), "tuning: the names of a layer must be words, and its fractions steps");
    chosen_.insert_or_assign(std::move(layer), std::string(operand));
  }
  [[nodiscard]] std::size_t size() const noexcept { return chosen_.size(); }
  friend bool operator==(tuning const&, tuning const&) = default;

 private:
  static constexpr std::string_view first_line = "pare tuning 1";

  /// Takes the next word off a line; empty at its end.
  static std::string_view take_word(std::string_view& line) noexcept {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    std::string_view const word = line.substr(0, line.find(' '));
    line.remove_prefix(word.size());
    return word;
  }
  /// Takes a whole number of at least `least`; false where there is none.
  template <class N>
  static bool take(std::string_view& line, N& to, N least) noexcept {
    std::string_view const word = take_word(line);
    auto const [end, failed] = std::from_chars(word.data(), word.data() + word.size(), to);
    return failed == std::errc{} && end == word.data() + word.size() && to >= least;
  }
  static bool take(std::string_view& line, std::string& to) {
    to = take_word(line);
    return !to.empty();
  }
  static bool take_step(std::string_view& line, int& to) noexcept {
    return take(line, to, 0) && to <= 100 && tuned_layer::step(to / 100.0) == to;
  }
  /// Takes what a layer is; nullptr where it is all there, else the rule that is broken.
  static char const* take(std::string_view& line, tuned_layer& to) {
    if (!take(line, to.arch) || !take(line, to.format) || !take(line, to.dtype))
      return "expected: architecture format dtype outputs inputs density columns zero_inputs threads operand";
    if (!take(line, to.outputs, index_t{0}) || !take(line, to.inputs, index_t{0}))
      return "outputs and inputs must be whole numbers";
    if (!take_step(line, to.density)) return "the density must be 0 to 10 per cent, or a multiple of 5 up to 100";
    if (!take(line, to.columns, index_t{1})) return "the number of columns must be a whole number of at least 1";
    if (!take_step(line, to.zero_inputs)) return "zero_inputs must be 0 to 10 per cent, or a multiple of 5 up to 100";
    if (!take(line, to.threads, 1)) return "the number of threads must be a whole number of at least 1";
    return nullptr;
  }

  /// The words of a layer; `take` reads them.
  static std::string words(tuned_layer const& l) {
    std::string text = l.arch + ' ' + l.format + ' ' + l.dtype;
    for (index_t const n :
         {l.outputs, l.inputs, index_t{l.density}, l.columns, index_t{l.zero_inputs}, index_t{l.threads}})
      text += ' ' + std::to_string(n);
    return text;
  }
  static bool can_be_parsed(tuned_layer const& layer) {
    std::string const text = words(layer);
    std::string_view line = text;
    tuned_layer again;
    return text.front() != '#' && text.find('\n') == text.npos && take(line, again) == nullptr && line.empty() &&
           again == layer;
  }

  std::map<tuned_layer, std::string> chosen_;
};

inline result<tuning> tuning::parse(std::string_view text) {
  tuning table;
  bool begun = false;
  for (index_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    auto const refuse = [&](char const* rule) -> error {
      return {errc::malformed, "line " + std::to_string(number), rule};
    };
    if (!begun && line != first_line) return refuse("the first line of a tuning table is 'pare tuning 1'");
    if (!std::exchange(begun, true) || line.empty() || line.front() == '#') continue;
    tuned_layer layer;
    if (char const* const rule = take(line, layer)) return refuse(rule);
    if (layer.arch.front() == '#') return refuse("an architecture must not begin with '#'");  // to_text would lose it
    std::string_view const operand = take_word(line);
    if (!is_operand_name(operand)) return refuse("the last word must be the name of an operand");
    if (!take_word(line).empty()) return refuse("nothing may follow the name of the operand");
    if (!table.chosen_.emplace(std::move(layer), operand).second) return refuse("an earlier line has the same layer");
  }
  if (!begun) return error{errc::malformed, "line 1", "the first line of a tuning table is 'pare tuning 1'"};
  return table;
}

inline std::string tuning::to_text() const {
  std::string text(first_line);
  text += "\n# architecture format dtype outputs inputs density columns zero_inputs threads operand\n";
  for (auto const& [layer, operand] : chosen_) text += words(layer) + ' ' + operand + '\n';
  return text;
}

}  // namespace pare::inline PARE_ABI
