// SPDX-License-Identifier: Apache-2.0
#include "demo/report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <span>
#include <string_view>
#include <utility>

#include <pare/core/contract.hpp>
#include <pare/io/file.hpp>

namespace pare::demo {
namespace {

// ---- Text ----------------------------------------------------------------------------------------------------------

/// printf into a string; for numbers, which are short. Texts are appended through `escaped`.
[[gnu::format(printf, 1, 2)]] std::string print(char const* format, ...) {
  std::array<char, 512> text{};
  std::va_list arguments;
  va_start(arguments, format);
  int const n = std::vsnprintf(text.data(), text.size(), format, arguments);
  va_end(arguments);
  return {text.data(), static_cast<std::size_t>(std::clamp(n, 0, static_cast<int>(text.size()) - 1))};
}

std::string escaped(std::string_view text) {
  std::string out;
  for (char const c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// A number, or a dash where there is none.
std::string number(double v, int decimals, char const* unit = "") {
  return std::isfinite(v) ? print("%.*f", decimals, v) + unit : "\u2013";
}

/// Three significant digits: times and perplexities span orders of magnitude.
std::string short_number(double v, char const* unit = "") {
  double const size = std::abs(v);
  return number(v, size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.9995 ? 2 : 3, unit);
}

std::string byte_count(index_t bytes) {
  auto const n = static_cast<double>(bytes);
  if (n < 1024) return number(n, 0, " B");
  return n < 1024 * 1024 ? short_number(n / 1024, " KiB") : short_number(n / (1024 * 1024), " MiB");
}

std::string quality(quality_measure m, double v) {
  return m == quality_measure::accuracy ? number(100 * v, 2, " %") : short_number(v);
}

// ---- Charts --------------------------------------------------------------------------------------------------------

struct chart_point {
  double x = 0;
  double y = 0;
  std::string label;  // shown when pointed at
};

struct chart_line {
  std::string name;
  std::vector<chart_point> points;
};

struct chart {
  std::string title;
  std::string x_name;
  std::string y_name;
  double reference = 0;  // a dashed level: the dense network
  bool logarithmic = false;
  std::vector<chart_line> lines;
};

/// Round numbers that cover [low, high], about `wanted` of them.
std::vector<double> ticks(double low, double high, int wanted) {
  double const raw = (high - low) / wanted;
  double const power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = power;
  for (double const factor : {2.0, 5.0, 10.0})
    if (step < raw * 0.999) step = power * factor;
  std::vector<double> out;
  for (double k = std::floor(low / step + 1e-9); k * step < high + step * 0.999; ++k) out.push_back(k * step);
  return out;
}

/// 1, 2, 5, 10, ... from the last one below `low` to the first one above `high`. Pre: 0 < low <= high.
std::vector<double> logarithmic_ticks(double low, double high) {
  std::vector<double> out;
  for (double power = std::pow(10.0, std::floor(std::log10(low)));; power *= 10) {
    for (double const factor : {1.0, 2.0, 5.0}) {
      double const tick = factor * power;
      if (tick <= low * 1.0001) out.clear();
      out.push_back(tick);
      if (tick >= high * 0.9999 && out.size() > 1) return out;
    }
  }
}

constexpr std::size_t colours = 8;  // classes c0 .. c7 of the style sheet

std::string marker(std::size_t line, double x, double y) {
  switch (line % 3) {  // the shape tells lines apart where the colour does not
    case 0:
      return print("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>", x, y);
    case 1:
      return print("<rect x=\"%.1f\" y=\"%.1f\" width=\"7.4\" height=\"7.4\"/>", x - 3.7, y - 3.7);
    default:
      return print("<path d=\"M%.1f %.1fl5 8.6h-10z\"/>", x, y - 5.4);
  }
}

void append_chart(std::string& html, chart c) {
  constexpr double left = 62, top = 14, right = 530, bottom = 300, label_step = 16;
  for (chart_line& line : c.lines) {
    std::erase_if(line.points, [&](chart_point const& p) {
      return !std::isfinite(p.x) || !std::isfinite(p.y) || (c.logarithmic && p.y <= 0);
    });
    std::stable_sort(line.points.begin(), line.points.end(), [](auto const& a, auto const& b) { return a.x < b.x; });
  }
  std::erase_if(c.lines, [](chart_line const& line) { return line.points.empty(); });
  if (c.lines.empty()) return;

  bool const referenced = std::isfinite(c.reference) && (!c.logarithmic || c.reference > 0);
  double low = referenced ? c.reference : c.lines[0].points[0].y, high = low;
  double first = 0, last = c.lines[0].points[0].x;  // from the unpruned network on
  for (chart_line const& line : c.lines) {
    for (chart_point const& p : line.points) {
      low = std::min(low, p.y), high = std::max(high, p.y);
      first = std::min(first, p.x), last = std::max(last, p.x);
    }
  }
  if (!c.logarithmic) low = std::min(low, 0.0);  // the length of a fall is only honest from zero
  if (high - low < 1e-9) high = low + 1;
  if (last - first < 1e-9) last = first + 1;
  std::vector<double> const x_ticks = ticks(first, last, 6);
  std::vector<double> const y_ticks = c.logarithmic ? logarithmic_ticks(low, high) : ticks(low, high, 5);
  auto const place_x = [&](double v) {
    return left + (right - left) * (v - x_ticks.front()) / (x_ticks.back() - x_ticks.front());
  };
  auto const place_y = [&](double v) {
    auto const scaled = [&](double w) { return c.logarithmic ? std::log(w) : w; };
    double const from = scaled(y_ticks.front()), to = scaled(y_ticks.back());
    return bottom - (bottom - top) * (scaled(v) - from) / (to - from);
  };

  html += "<figure><figcaption>" + escaped(c.title) + "</figcaption>\n<p class=\"legend\">";
  for (std::size_t i = 0; i < c.lines.size(); ++i)
    html += print("<span class=\"c%zu\"><svg viewBox=\"0 0 12 12\" width=\"12\" height=\"12\">", i % colours) +
            marker(i, 6, 6) + "</svg>" + escaped(c.lines[i].name) + "</span>";
  html += "</p>\n<svg class=\"chart\" viewBox=\"0 0 720 350\" role=\"img\" aria-label=\"" + escaped(c.title) + "\">\n";
  for (double const t : y_ticks) {
    html += print("<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>", left, right, place_y(t),
                  place_y(t));
    html += print("<text class=\"tick\" x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", left - 8,
                  place_y(t) + 4, std::round(t * 1e9) / 1e9);
  }
  for (double const t : x_ticks) {
    html += print("<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.0f\" y2=\"%.0f\"/>", place_x(t), place_x(t),
                  bottom, bottom + 5);
    html += print("<text class=\"tick\" x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">%g</text>\n", place_x(t),
                  bottom + 20, std::round(t * 1e9) / 1e9);
  }
  html +=
      print("<line class=\"axis\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.0f\" y2=\"%.0f\"/>\n", left, right, bottom, bottom);
  html += print("<text class=\"name\" x=\"%.0f\" y=\"342\" text-anchor=\"middle\">", (left + right) / 2) +
          escaped(c.x_name) + "</text>";
  html += print("<text class=\"name\" transform=\"translate(14 %.0f) rotate(-90)\" text-anchor=\"middle\">",
                (top + bottom) / 2) +
          escaped(c.y_name) + "</text>\n";
  if (referenced) {
    double const y = place_y(c.reference);
    html += print("<line class=\"dense\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>", left, right, y, y);
    html += print("<text class=\"tick\" x=\"%.0f\" y=\"%.1f\">dense</text>\n", left + 6, y < top + 20 ? y + 14 : y - 5);
  }

  // Direct labels at the lines' ends, pushed apart where they would cover each other.
  std::vector<std::pair<double, std::size_t>> ends;
  for (std::size_t i = 0; i < c.lines.size(); ++i) ends.emplace_back(place_y(c.lines[i].points.back().y), i);
  std::sort(ends.begin(), ends.end());
  std::vector<double> label_y(c.lines.size());
  double below = top - label_step;
  for (auto const& [y, i] : ends) below = label_y[i] = std::max(y, below + label_step);
  double above = std::max(bottom + label_step, top + label_step * static_cast<double>(c.lines.size()));
  for (std::size_t k = ends.size(); k-- > 0;) {
    std::size_t const i = ends[k].second;
    above = label_y[i] = std::min(label_y[i], above - label_step);
  }

  for (std::size_t i = 0; i < c.lines.size(); ++i) {
    chart_line const& line = c.lines[i];
    html +=
        print("<g class=\"c%zu\"><polyline %spoints=\"", i % colours, i >= colours ? "stroke-dasharray=\"6 4\" " : "");
    for (chart_point const& p : line.points) html += print("%.1f,%.1f ", place_x(p.x), place_y(p.y));
    html += "\"/>";
    for (chart_point const& p : line.points)
      html += "<g>" + marker(i, place_x(p.x), place_y(p.y)) + "<title>" + escaped(p.label) + "</title></g>";
    double const x = place_x(line.points.back().x), y = place_y(line.points.back().y);
    html += print("<path class=\"lead\" d=\"M%.1f %.1fL%.1f %.1f\"/>", x + 6, y, right + 10, label_y[i]);
    html += print("<text x=\"%.1f\" y=\"%.1f\">", right + 14, label_y[i] + 4) + escaped(line.name) + "</text></g>\n";
  }
  html += "</svg></figure>\n";
}

// ---- Masks ---------------------------------------------------------------------------------------------------------

std::string base64(std::span<std::uint8_t const> bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::size_t const left = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < left ? bytes[i + k] : 0u);
    for (std::size_t k = 0; k < 4; ++k) out += k <= left ? digits[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

/// A Windows bitmap of 2^bits greys from black to white. `grey(y, x)` gives a level in [0, 2^bits).
template <class Grey>
std::vector<std::uint8_t> bitmap_file(index_t height, index_t width, unsigned bits, Grey grey) {
  std::uint32_t const levels = 1u << bits;
  auto const stride = static_cast<std::size_t>(round_up(ceil_div(width * static_cast<index_t>(bits), 8), 4));
  std::size_t const start = 14 + 40 + 4 * levels;
  std::vector<std::uint8_t> file;
  file.reserve(start + stride * static_cast<std::size_t>(height));
  auto const append = [&](std::uint32_t v, int bytes) {
    for (int i = 0; i < bytes; ++i, v >>= 8) file.push_back(static_cast<std::uint8_t>(v));
  };
  append(0x4d42, 2);  // "BM"
  append(static_cast<std::uint32_t>(file.capacity()), 4);
  append(0, 4);
  append(static_cast<std::uint32_t>(start), 4);
  append(40, 4);
  append(static_cast<std::uint32_t>(width), 4);
  append(static_cast<std::uint32_t>(-height), 4);  // negative: the first row is the top one
  append(1, 2);
  append(bits, 2);
  for (int i = 0; i < 4; ++i) append(0, 4);  // no compression, size and resolution left open
  append(levels, 4);
  append(0, 4);
  for (std::uint32_t i = 0; i < levels; ++i) append(i * 255 / (levels - 1) * 0x10101u, 4);
  for (index_t y = 0; y < height; ++y) {
    std::size_t const row = file.size();
    file.resize(row + stride);
    for (index_t x = 0; x < width; ++x) {
      std::size_t const at = static_cast<std::size_t>(x) * bits;
      file[row + at / 8] = static_cast<std::uint8_t>(file[row + at / 8] | grey(y, x) << (8 - bits - at % 8));
    }
  }
  return file;
}

void append_mask(std::string& html, mask_picture const& m) {
  PARE_EXPECTS(m.rows >= 0 && m.cols >= 0 && static_cast<index_t>(m.kept.size()) == m.rows * m.cols,
               "to_html: a mask must have rows * cols elements");
  if (m.kept.empty()) return;
  constexpr index_t largest = 512;
  auto const kept = [&m](index_t i, index_t j) { return m.kept[static_cast<std::size_t>(i * m.cols + j)] != 0; };
  auto const zeros = std::count(m.kept.begin(), m.kept.end(), std::uint8_t{0});
  index_t const side = ceil_div(std::max(m.rows, m.cols), largest);  // weights along a pixel
  index_t const height = ceil_div(m.rows, side), width = ceil_div(m.cols, side);
  auto const density = [&](index_t y, index_t x) -> unsigned {  // in sixteenths; a pixel at the edge covers less
    index_t const y1 = std::min(m.rows, (y + 1) * side), x1 = std::min(m.cols, (x + 1) * side);
    index_t sum = 0;
    for (index_t i = y * side; i < y1; ++i)
      for (index_t j = x * side; j < x1; ++j) sum += kept(i, j);
    index_t const all = (y1 - y * side) * (x1 - x * side);
    return static_cast<unsigned>((sum * 15 + all / 2) / all);
  };
  auto const picture = side == 1
                           ? bitmap_file(height, width, 1, [&](index_t y, index_t x) { return unsigned{kept(y, x)}; })
                           : bitmap_file(height, width, 4, density);
  html += "<figure><img alt=\"mask of " + escaped(m.layer) + "\" src=\"data:image/bmp;base64," + base64(picture) +
          "\"" + print(" width=\"%td\" height=\"%td\">", width, height);
  html += "<figcaption>" + escaped(m.layer) + print("<small>%td \u00d7 %td, ", m.rows, m.cols) +
          number(100.0 * static_cast<double>(zeros) / static_cast<double>(m.kept.size()), 1, " % removed");
  if (side > 1) html += print(", 1 pixel = %td \u00d7 %td weights", side, side);
  html += "</small></figcaption></figure>\n";
}

// ---- Page ----------------------------------------------------------------------------------------------------------

// Colours after Okabe and Ito (2008), told apart by people with any colour vision; lighter ones on a dark page.
constexpr std::string_view style = R"(
:root { color-scheme: light dark; --page: #fbfaf7; --card: #fff; --ink: #1d2125; --soft: #697077; --line: #e3e1da;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b4578f; --c4: #b07d00; --c5: #3a9bd1; --c6: #6a4fb3;
  --c7: #7a6a58; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --ink: #e7e9ea; --soft: #98a1a8;
  --line: #33393e; --c0: #5db3ee; --c1: #f58d4b; --c2: #35c99b; --c3: #e08fc0; --c4: #e2b53c; --c5: #8ad0f5;
  --c6: #ab97ee; --c7: #bba98f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 76rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { margin: 0; font-size: 2rem; line-height: 1.2; letter-spacing: -.015em; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; }
.lead-in { margin: .5rem 0 0; max-width: 46rem; }
.soft, small, th, footer { color: var(--soft); }
.soft { margin: .25rem 0 0; font-size: .875rem; }
small { display: block; font-size: .75rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem;
  margin-top: 1.5rem; }
.tiles div, .charts figure, .table { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tiles div { padding: .9rem 1.1rem; }
.tiles b { display: block; font-size: 1.75rem; line-height: 1.25; font-weight: 650; }
.table { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .925rem; }
th, td { padding: .45rem .9rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 500; font-size: .8rem; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
tr:last-child td { border-bottom: 0; }
tr.baseline td { font-weight: 600; }
.bar { display: inline-block; width: 5rem; height: .5rem; margin-left: .6rem; border-radius: 3px;
  background: var(--line); }
.bar i { display: block; height: 100%; border-radius: 3px; background: var(--c0); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; }
.charts figure { padding: 1rem 1.1rem; }
.charts figcaption { font-weight: 600; }
.chart { display: block; width: 100%; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .25rem 0 .5rem; font-size: .8rem; }
.legend span { color: inherit; }
.legend svg { margin-right: .35rem; vertical-align: -1px; fill: var(--colour); }
svg text { font-size: 13.5px; fill: var(--ink); }
svg .tick, svg .name { fill: var(--soft); }
.grid { stroke: var(--line); }
.axis { stroke: var(--soft); }
.dense { stroke: var(--ink); stroke-dasharray: 4 4; opacity: .6; }
.chart g { fill: var(--colour); }
.chart g text { fill: var(--colour); font-weight: 600; }
.chart polyline { fill: none; stroke: var(--colour); stroke-width: 2.25; stroke-linejoin: round; }
.chart .lead { fill: none; stroke: var(--colour); opacity: .35; }
.c0 { --colour: var(--c0); } .c1 { --colour: var(--c1); } .c2 { --colour: var(--c2); } .c3 { --colour: var(--c3); }
.c4 { --colour: var(--c4); } .c5 { --colour: var(--c5); } .c6 { --colour: var(--c6); } .c7 { --colour: var(--c7); }
.masks { display: flex; flex-wrap: wrap; gap: 1rem 1.25rem; align-items: flex-start; }
.masks img { display: block; max-width: 100%; height: auto; border: 1px solid var(--line); image-rendering: pixelated; }
.masks figcaption { margin-top: .25rem; font-size: .85rem; }
footer { margin-top: 3rem; font-size: .8rem; }
)";

/// A page without times shows no columns for them.
bool has_times(report const& r) {
  return std::any_of(r.rows.begin(), r.rows.end(), [](report_row const& row) {
    return std::isfinite(row.milliseconds) || std::isfinite(row.speedup);
  });
}

void append_row(std::string& html, report const& r, report_row const& row, bool baseline, double fastest) {
  html += baseline ? "<tr class=\"baseline\"><td>" : "<tr><td>";
  html += escaped(row.method) + "</td><td>" + escaped(row.pattern) + "</td><td>" + number(100 * row.sparsity, 1, " %") +
          "</td><td>" + quality(r.measure, row.quality) + "</td><td>" + byte_count(row.bytes) + "</td>";
  if (!has_times(r)) {
    html += "</tr>\n";
    return;
  }
  html += "<td>" + short_number(row.milliseconds, " ms") + "</td><td>" + number(row.speedup, 2, "\u00d7");
  double const share = std::isfinite(row.speedup) && fastest > 0 ? std::clamp(row.speedup / fastest, 0.0, 1.0) : 0.0;
  html += print("<span class=\"bar\"><i style=\"width:%.1f%%\"></i></span></td></tr>\n", 100 * share);
}

void append_tile(std::string& html, std::string const& figure, std::string const& meaning) {
  html += "<div><b>" + figure + "</b><small>" + meaning + "</small></div>\n";
}

/// A row whose quality is as good as dense for most purposes: one point of accuracy, or 5 % of perplexity, below.
bool is_close(report const& r, report_row const& row) {
  return r.measure == quality_measure::accuracy ? row.quality >= r.dense.quality - 0.01
                                                : row.quality <= r.dense.quality * 1.05;
}

void append_tiles(std::string& html, report const& r) {
  bool const accuracy = r.measure == quality_measure::accuracy;
  std::string const tolerance = accuracy ? "within 1 point of dense" : "within 5 % of dense";
  report_row const* sparsest = nullptr;
  report_row const* fastest = nullptr;
  report_row const* smallest = nullptr;
  for (report_row const& row : r.rows) {
    if (!is_close(r, row)) continue;
    if (sparsest == nullptr || row.sparsity > sparsest->sparsity) sparsest = &row;
    if (fastest == nullptr || row.speedup > fastest->speedup) fastest = &row;
    if (smallest == nullptr || row.bytes < smallest->bytes) smallest = &row;
  }
  auto const how = [](report_row const& row) {
    return escaped(row.method) + ", " + escaped(row.pattern) + ", " + number(100 * row.sparsity, 0, " %");
  };
  html += "<div class=\"tiles\">\n";
  append_tile(html, quality(r.measure, r.dense.quality),
              accuracy ? "accuracy of the dense network" : "perplexity of the dense network");
  if (sparsest != nullptr)
    append_tile(html, number(100 * sparsest->sparsity, 0, " %"),
                "of the weights removed " + tolerance + ": " + how(*sparsest));
  if (smallest != nullptr && smallest->bytes > 0 && r.dense.bytes > smallest->bytes)
    append_tile(html, number(static_cast<double>(r.dense.bytes) / static_cast<double>(smallest->bytes), 1, "\u00d7"),
                "smaller " + tolerance + ": " + how(*smallest));
  if (fastest != nullptr && std::isfinite(fastest->speedup) && fastest->speedup > 1)
    append_tile(html, number(fastest->speedup, 2, "\u00d7"), "as fast as dense, " + tolerance + ": " + how(*fastest));
  html += "</div>\n";
}

/// The rows as chart lines, one per method and pattern, in order of first appearance.
template <class Value>
std::vector<chart_line> lines_of(report const& r, Value value) {
  std::vector<chart_line> lines;
  for (report_row const& row : r.rows) {
    std::string const name =
        row.pattern.empty() || row.pattern == "unstructured" ? row.method : row.method + " " + row.pattern;
    auto line = std::find_if(lines.begin(), lines.end(), [&](chart_line const& l) { return l.name == name; });
    if (line == lines.end()) line = lines.insert(lines.end(), {name, {}});
    line->points.push_back({100 * row.sparsity, value(row),
                            name + ", " + number(100 * row.sparsity, 1, " % sparse: ") +
                                quality(r.measure, row.quality) +
                                (std::isfinite(row.speedup) ? ", " + number(row.speedup, 2, "\u00d7") : "")});
  }
  return lines;
}

}  // namespace

std::string to_html(report const& r) {
  bool const accuracy = r.measure == quality_measure::accuracy;
  std::string const measure = accuracy ? "accuracy" : "perplexity";
  std::string html =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>";
  html += escaped(r.title) + "</title>\n<style>" + std::string(style) + "</style>\n</head>\n<body>\n<header><h1>" +
          escaped(r.title) + "</h1>\n<p class=\"lead-in\">" + escaped(r.summary) + "</p>\n<p class=\"soft\">" +
          escaped(r.environment) + "</p></header>\n";
  append_tiles(html, r);

  double const percent = accuracy ? 100 : 1;
  html += "<h2>What pruning costs, and what it buys</h2>\n<div class=\"charts\">\n";
  append_chart(html, {.title = accuracy ? "Accuracy against sparsity" : "Perplexity against sparsity",
                      .x_name = "weights removed, %",
                      .y_name = accuracy ? "accuracy, %" : "perplexity (lower is better)",
                      .reference = percent * r.dense.quality,
                      .logarithmic = !accuracy,
                      .lines = lines_of(r, [&](report_row const& row) { return percent * row.quality; })});
  append_chart(html, {.title = "Speed-up against sparsity",
                      .x_name = "weights removed, %",
                      .y_name = "times as fast as dense",
                      .reference = 1,
                      .lines = lines_of(r, [](report_row const& row) { return row.speedup; })});
  html += "</div>\n";

  double fastest = 1;
  for (report_row const& row : r.rows)
    if (std::isfinite(row.speedup)) fastest = std::max(fastest, row.speedup);
  html +=
      "<h2>Results</h2>\n<div "
      "class=\"table\"><table>\n<thead><tr><th>method</th><th>pattern</th><th>sparsity</th><th>" +
      measure + "</th><th>weights</th>" + (has_times(r) ? "<th>time per batch</th><th>speed-up over dense</th>" : "") +
      "</tr></thead>\n<tbody>\n";
  append_row(html, r, r.dense, true, fastest);
  for (report_row const& row : r.rows) append_row(html, r, row, false, fastest);
  html += "</tbody></table></div>\n";

  if (!r.masks.empty())
    html +=
        "<h2>Which weights stay</h2>\n<p class=\"soft\">White: kept. Black: removed. "
        "A row is an output of the layer, a column an input.</p>\n";
  for (std::size_t i = 0; i < r.masks.size(); ++i) {
    bool const first = i == 0 || r.masks[i].title != r.masks[i - 1].title;
    bool const last = i + 1 == r.masks.size() || r.masks[i].title != r.masks[i + 1].title;
    if (first) html += "<h3>" + escaped(r.masks[i].title) + "</h3>\n<div class=\"masks\">\n";
    append_mask(html, r.masks[i]);
    if (last) html += "</div>\n";
  }
  html += "<footer>Written by pare. Sparsity counts the weights of the pruned layers";
  html += has_times(r) ? "; times are medians on this machine." : ".";
  html += "</footer>\n</body>\n</html>\n";
  return html;
}

result<void> write_report(std::filesystem::path const& file, report const& r) {
  std::string const html = to_html(r);
  return write_file_atomically(file, std::as_bytes(std::span(html)));
}

}  // namespace pare::demo
