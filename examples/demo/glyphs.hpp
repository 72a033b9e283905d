// SPDX-License-Identifier: Apache-2.0
// The task of the embedded demo: read a hand-drawn character out of a small grey image.
//
// Nothing is downloaded. Each class is a few strokes on a coarse grid; an image is one of them, bent, rotated,
// scaled, sheared and shifted at random, drawn with a random pen on a noisy background among stray strokes.
// That is hard enough that a network loses accuracy, visibly, when too many of its weights are removed.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/random.hpp>

namespace pare::demo {

/// Width and height of an image in pixels.
inline constexpr index_t glyph_side = 28;

/// The images that results are quoted for: draw_glyphs(glyph_test_count, glyph_test_seed). Not trained on.
inline constexpr index_t glyph_test_count = 10000;
inline constexpr std::uint64_t glyph_test_seed = 0x7e57;

/// One character. Strokes are separated by spaces; a stroke is a list of points, each two digits x (0..6, to the
/// right) and y (0..8, down), joined by lines, or by a smooth curve through them when it starts with '~'.
struct glyph_class {
  std::string_view name;
  std::string_view strokes;
};

/// The classes, in the order of the labels. Pairs that only context tells apart (O and 0, I and 1, S and 5, Z and 2)
/// are represented once.
inline constexpr std::array<glyph_class, 30> glyph_classes{{
    {"0", "~305164573817041130"},
    {"1", "123038"},
    {"2", "~0220515308 0868"},
    {"3", "~01305234 ~34563807"},
    {"4", "48400565"},
    {"5", "501013 ~1343654807"},
    {"6", "~5021052857653406"},
    {"7", "006028"},
    {"8", "~3052341230 ~3466380634"},
    {"9", "~633002245463 ~63653818"},
    {"A", "083068 1555"},
    {"B", "0800 ~0040523404 ~0444664808"},
    {"C", "~613003053867"},
    {"D", "0800 ~003062653808"},
    {"E", "60000868 0444"},
    {"F", "600008 0444"},
    {"H", "0008 6068 0464"},
    {"J", "~50563806"},
    {"K", "0008 600468"},
    {"L", "000868"},
    {"M", "0800346068"},
    {"N", "08006860"},
    {"P", "0800 ~0040624404"},
    {"R", "0800 ~0040624404 3468"},
    {"T", "0060 3038"},
    {"U", "~0005386560"},
    {"V", "003860"},
    {"W", "0018335860"},
    {"X", "0068 6008"},
    {"Y", "003438 6034"},
}};

/// Images, one per row, pixels from 0 (background) to 1 (ink), and what each one shows.
struct glyph_set {
  matrix<float> images;     // (count, glyph_side * glyph_side), token-major
  std::vector<int> labels;  // (count), indices into glyph_classes
};

namespace detail {

struct point {
  float x = 0;
  float y = 0;
};

/// The point at t in [0, 1] between b and c on the Catmull-Rom curve through a, b, c, d.
inline point on_curve(point a, point b, point c, point d, float t) {
  auto const axis = [t](float p, float q, float r, float s) {
    return q + 0.5f * t * (r - p + t * (2 * p - 5 * q + 4 * r - s + t * (3 * (q - r) + s - p)));
  };
  return {axis(a.x, b.x, c.x, d.x), axis(a.y, b.y, c.y, d.y)};
}

/// The strokes of a class as polylines, centred, with a height of 1. Lines are cut into pieces too, so that bending
/// the plane bends them.
inline std::vector<std::vector<point>> trace(glyph_class const& g) {
  constexpr int pieces = 4;
  std::vector<std::vector<point>> traced;
  std::string_view rest = g.strokes;
  while (!rest.empty()) {
    std::string_view stroke = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(rest.size(), stroke.size() + 1));
    bool const smooth = stroke.front() == '~';
    if (smooth) stroke.remove_prefix(1);
    std::vector<point> corners;
    for (std::size_t i = 0; i + 1 < stroke.size(); i += 2)
      corners.push_back(
          {static_cast<float>(stroke[i] - '0') / 8 - 0.375f, static_cast<float>(stroke[i + 1] - '0') / 8 - 0.5f});
    bool const closed = stroke.substr(0, 2) == stroke.substr(stroke.size() - 2);
    std::size_t const last = corners.size() - 1;
    std::vector<point>& line = traced.emplace_back(1, corners[0]);
    for (std::size_t i = 0; i < last; ++i) {
      point const before = i > 0 ? corners[i - 1] : corners[closed ? last - 1 : 0];
      point const after = i + 2 <= last ? corners[i + 2] : corners[closed ? 1 : last];
      for (int k = 1; k <= pieces; ++k) {
        float const t = static_cast<float>(k) / pieces;
        point const b = corners[i], c = corners[i + 1];
        line.push_back(smooth ? on_curve(before, b, c, after, t) : point{b.x + t * (c.x - b.x), b.y + t * (c.y - b.y)});
      }
    }
  }
  return traced;
}

/// Draws a line with a round pen: each pixel keeps the larger of its ink and the pen's coverage times `ink`.
inline void draw_line(float* image, point a, point b, float radius, float ink) {
  auto const clip = [](float v) { return std::clamp(static_cast<index_t>(v), index_t{0}, glyph_side - 1); };
  float const reach = radius + 1;
  float const dx = b.x - a.x, dy = b.y - a.y;
  float const length2 = dx * dx + dy * dy + 1e-12f;
  for (index_t y = clip(std::min(a.y, b.y) - reach); y <= clip(std::max(a.y, b.y) + reach); ++y) {
    for (index_t x = clip(std::min(a.x, b.x) - reach); x <= clip(std::max(a.x, b.x) + reach); ++x) {
      float const px = static_cast<float>(x) - a.x, py = static_cast<float>(y) - a.y;
      float const t = std::clamp((px * dx + py * dy) / length2, 0.0f, 1.0f);
      float const ex = px - t * dx, ey = py - t * dy;
      float const coverage = std::clamp(radius + 0.5f - std::sqrt(ex * ex + ey * ey), 0.0f, 1.0f);
      float& pixel = image[y * glyph_side + x];
      pixel = std::max(pixel, ink * coverage);
    }
  }
}

inline void draw_glyph(std::vector<std::vector<point>> const& strokes, random_source& random, float* image) {
  constexpr float centre = 0.5f * static_cast<float>(glyph_side - 1);
  constexpr float turn = 6.2831853f;
  std::fill_n(image, glyph_side * glyph_side, 0.0f);

  // Stray strokes first: the character is drawn over them.
  for (index_t n = random.below(5); n > 0; --n) {
    point const start{random.uniform(0, 27), random.uniform(0, 27)};
    float const angle = random.uniform(0, turn), length = random.uniform(2, 9);
    point const end{start.x + length * std::cos(angle), start.y + length * std::sin(angle)};
    float const radius = random.uniform(0.3f, 1.0f);
    draw_line(image, start, end, radius, random.uniform(0.2f, 0.7f));
  }

  // An affine map of the unit box to the image ...
  float const angle = random.uniform(-0.45f, 0.45f), shear = random.uniform(-0.3f, 0.3f);
  float const width = random.uniform(14, 24), height = random.uniform(14, 23);
  point const shift{centre + random.uniform(-3, 3), centre + random.uniform(-3, 3)};
  float const c = std::cos(angle), s = std::sin(angle);
  // ... and a slow wave in each direction that bends it.
  point const bend{random.uniform(0, 1.6f), random.uniform(0, 1.6f)};
  point const phase{random.uniform(0, turn), random.uniform(0, turn)};
  point const rate{random.uniform(3, 7), random.uniform(3, 7)};
  auto const place = [&](point p) {
    float const u = width * (p.x + shear * p.y) + bend.x * std::sin(rate.x * p.y + phase.x);
    float const v = height * p.y + bend.y * std::sin(rate.y * p.x + phase.y);
    return point{shift.x + c * u - s * v, shift.y + s * u + c * v};
  };
  float const radius = random.uniform(0.5f, 1.5f), ink = random.uniform(0.45f, 1.0f);
  for (auto const& stroke : strokes) {
    point from = place(stroke[0]);
    for (std::size_t i = 1; i < stroke.size(); ++i) {
      point const to = place(stroke[i]);
      draw_line(image, from, to, radius, ink);
      from = to;
    }
  }

  // Paper: a grey level, and noise that is the sum of four uniform values (close to normal, much cheaper).
  float const paper = random.uniform(0, 0.2f), noise = random.uniform(0.04f, 0.22f);
  for (index_t i = 0; i < glyph_side * glyph_side; ++i) {
    std::uint64_t const r = random.bits();
    auto const sum = static_cast<float>((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48));
    float const deviate = (sum * 0x1p-16f - 2) * 1.7320508f;  // mean 0, variance 1
    image[i] = std::clamp(paper + (1 - paper) * image[i] + noise * deviate, 0.0f, 1.0f);
  }
}

}  // namespace detail

/// Draws `count` images of classes chosen at random. The same seed gives the same images; image i does not depend on
/// `count`. About 20 microseconds per image. Pre: count >= 0.
inline glyph_set draw_glyphs(index_t count, std::uint64_t seed) {
  std::vector<std::vector<std::vector<detail::point>>> traced;
  for (glyph_class const& g : glyph_classes) traced.push_back(detail::trace(g));
  glyph_set set{matrix<float>(count, glyph_side * glyph_side), {}};
  set.labels.reserve(static_cast<std::size_t>(count));
  random_source random(seed);
  for (index_t i = 0; i < count; ++i) {
    auto const label = static_cast<std::size_t>(random.below(static_cast<index_t>(glyph_classes.size())));
    set.labels.push_back(static_cast<int>(label));
    detail::draw_glyph(traced[label], random, set.images.row(i));
  }
  return set;
}

}  // namespace pare::demo
