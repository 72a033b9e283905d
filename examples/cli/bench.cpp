// SPDX-License-Identifier: Apache-2.0
// pare bench: what each sparsity brings on this machine, and from which one on it pays.
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <nlohmann/json.hpp>

#include <pare/core/random.hpp>
#include <pare/io/bytes.hpp>
#include <pare/io/file.hpp>
#include <pare/kernel/prepare.hpp>

#include "cli/commands.hpp"
#include "support/terminal.hpp"

namespace pare::cli {

namespace {

result<extents> parse_shape(std::string const& text) {
  extents shape;
  char const* const end = text.data() + text.size();
  auto const rows = std::from_chars(text.data(), end, shape.rows);
  if (rows.ec == std::errc{} && rows.ptr != end && *rows.ptr == 'x') {
    auto const cols = std::from_chars(rows.ptr + 1, end, shape.cols);
    constexpr index_t most = 1 << 16;
    if (cols.ec == std::errc{} && cols.ptr == end && shape.rows > 0 && shape.cols > 0 && shape.rows <= most &&
        shape.cols <= most)
      return shape;
  }
  return error{errc::malformed, "shape '" + text + "'", "expected OUTPUTSxINPUTS, each 1 to 65536, as in 3072x768"};
}

/// One random weight matrix, pruned at random to any sparsity: a higher one keeps a part of what a lower one does.
/// F: the format without a pattern that weights of the dtype have.
template <class F>
class layer {
  static constexpr bool has_codes = requires { F::group; };
  using dense_format = std::conditional_t<has_codes, F, dense<typename F::value_type>>;

 public:
  explicit layer(extents shape) : values_(shape), scores_(shape) {
    random_source random(1);
    for (index_t i = 0; i < values_.size(); ++i) {
      values_.data()[i] = random.uniform(-1.0f, 1.0f);
      scores_.data()[i] = random.uniform(0.0f, 1.0f);
    }
    as_dense_ = compress<dense_format>(values_, mask(shape, true));
  }
  [[nodiscard]] dense_format const& as_dense() const noexcept { return as_dense_; }
  [[nodiscard]] F pruned(double s) const {
    mask keep(values_.shape());
    for (index_t r = 0; r < values_.rows(); ++r)
      for (index_t c = 0; c < values_.cols(); ++c) keep.set(r, c, static_cast<double>(scores_(r, c)) >= s);
    return compress<F>(values_, keep);
  }

 private:
  matrix<float> values_;
  matrix<float> scores_;
  dense_format as_dense_;
};

struct bench_row {
  double sparsity;
  std::string operand;  // measured as the fastest one that is not dense
  double seconds;
};

/// What was measured for one shape and number of columns.
struct measurement {
  extents shape;
  index_t columns;
  double dense_seconds;
  std::vector<bench_row> rows;
  double measured_break_even;  // to a hundredth
  double expected_break_even;  // by the cost model
};

template <class F>
bench_row fastest_sparse(layer<F> const& w, double s, index_t columns) {
  auto const p = prepare(w.pruned(s), {.columns = columns, .may_be_dense = false, .autotune = true});
  return {s, p.name(), seconds_of_matmul(p, columns)};
}

/// `choices`: where what is fastest, dense or not, is added; may be none.
template <class F>
result<std::vector<measurement>> measure(bench_options const& o, std::vector<extents> const& shapes, tuning* choices) {
  program::progress_line line("bench");
  auto const total = static_cast<index_t>(shapes.size() * o.columns.size());
  std::vector<measurement> all;
  for (extents const shape : shapes) {
    layer<F> const w(shape);
    for (std::int64_t const n : o.columns) {
      auto const columns = static_cast<index_t>(n);
      std::string const what =
          std::to_string(shape.rows) + "x" + std::to_string(shape.cols) + ", " + std::to_string(columns) + " columns";
      auto const step = [&] { return line(what, std::ssize(all), total); };
      auto const d = prepare(w.as_dense(), {.columns = columns, .autotune = true});
      measurement m{shape, columns, seconds_of_matmul(d, columns), {}, 1.0, break_even<F>(shape, columns).value};
      for (double const s : o.sparsities) {
        if (!step()) return error{errc::cancelled, "bench", "interrupted"};
        m.rows.push_back(fastest_sparse(w, s, columns));
        if (choices != nullptr)
          static_cast<void>(prepare(w.pruned(s), {.columns = columns, .autotune = true, .choices = choices}));
      }
      // The speed-up grows with sparsity, so the break-even point lies where halving leads.
      double low = 0.0;
      double high = 1.0;
      while (high - low > 0.01) {
        if (!step()) return error{errc::cancelled, "bench", "interrupted"};
        double const middle = 0.5 * (low + high);
        (fastest_sparse(w, middle, columns).seconds < m.dense_seconds ? high : low) = middle;
      }
      m.measured_break_even = high;
      all.push_back(std::move(m));
    }
  }
  return all;
}

/// The table of a file; an empty one where there is no file yet.
result<tuning> read_tuning(std::filesystem::path const& path) {
  std::error_code failed;
  if (!std::filesystem::exists(path, failed) && !failed) return tuning();
  PARE_TRY(auto const text, read_file(path));
  auto table = tuning::parse(as_text(text));
  if (!table) return in(path.string(), table.error());
  return table;
}

void print_json(bench_options const& o, std::vector<measurement> const& all) {
  nlohmann::json out{{"arch", active_arch()}, {"dtype", o.dtype}, {"layers", nlohmann::json::array()}};
  for (measurement const& m : all) {
    nlohmann::json rows = nlohmann::json::array();
    for (bench_row const& r : m.rows)
      rows.push_back({{"sparsity", r.sparsity},
                      {"operand", r.operand},
                      {"us", 1e6 * r.seconds},
                      {"vs_dense", m.dense_seconds / r.seconds}});
    out["layers"].push_back({{"M", m.shape.rows},
                             {"K", m.shape.cols},
                             {"N", m.columns},
                             {"us_dense", 1e6 * m.dense_seconds},
                             {"break_even", m.measured_break_even},
                             {"break_even_expected", m.expected_break_even},
                             {"rows", std::move(rows)}});
  }
  std::cout << out.dump(2) << '\n';
}

void print_table(bench_options const& o, std::vector<measurement> const& all) {
  std::printf("%s weights, %s, one thread, random masks; speed over pare's own dense product\n\n", o.dtype.c_str(),
              active_arch());
  for (measurement const& m : all) {
    std::printf(
        "%td x %td, %td column%s: dense %.1f us; pays from %.0f %% sparsity on (the cost model expects %.0f %%)\n",
        m.shape.rows, m.shape.cols, m.columns, m.columns == 1 ? "" : "s", 1e6 * m.dense_seconds,
        100.0 * m.measured_break_even, 100.0 * m.expected_break_even);
    for (bench_row const& r : m.rows)
      std::printf("  %5.1f %%  %-16s %10.1f us %7.2fx\n", 100.0 * r.sparsity, r.operand.c_str(), 1e6 * r.seconds,
                  m.dense_seconds / r.seconds);
  }
}

}  // namespace

result<void> bench(bench_options const& o) {
  std::vector<extents> shapes;
  for (std::string const& text : o.shapes) {
    PARE_TRY(auto const shape, parse_shape(text));
    shapes.push_back(shape);
  }
  tuning table;
  std::optional<atomic_file> table_file;  // opened now, so that nothing is measured for a name that cannot be written
  if (!o.tune.empty()) {
    PARE_TRY(table, read_tuning(o.tune));
    PARE_TRY(table_file, atomic_file::open(o.tune));
  }
  tuning* const choices = table_file ? &table : nullptr;
  PARE_TRY(auto const all, o.dtype == "bf16"   ? measure<bitmap<bf16>>(o, shapes, choices)
                           : o.dtype == "int8" ? measure<quantised<128>>(o, shapes, choices)
                                               : measure<bitmap<float>>(o, shapes, choices));
  if (table_file) {
    PARE_TRY_VOID(table_file->append(as_bytes(table.to_text())));
    PARE_TRY_VOID(table_file->commit());
  }
  if (o.json) {
    print_json(o, all);
  } else {
    print_table(o, all);
  }
  return {};
}

}  // namespace pare::cli
