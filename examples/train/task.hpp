// SPDX-License-Identifier: Apache-2.0
// What is learnt: characters that are drawn here, or the MNIST digits.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>

#include "demo/glyphs.hpp"
#include "support/data_set.hpp"

namespace pare::demo {

/// What the network sees of a pixel: (pixel * scale - mean) / deviation.
struct normalisation {
  float scale = 1;
  float mean = 0;
  float deviation = 1;

  /// The one that gives `images` mean 0 and variance 1 over all pixels.
  static normalisation of(matrix<float> const& images, float scale) {
    double sum = 0, squares = 0;
    for (index_t i = 0; i < images.size(); ++i) {
      double const v = static_cast<double>(images.data()[i]) * static_cast<double>(scale);
      sum += v;
      squares += v * v;
    }
    double const n = static_cast<double>(images.size()), mean = sum / n;
    return {scale, static_cast<float>(mean), static_cast<float>(std::sqrt(squares / n - mean * mean))};
  }
  void apply(matrix<float>& images) const {
    for (index_t i = 0; i < images.size(); ++i) images.data()[i] = (images.data()[i] * scale - mean) / deviation;
  }
};

/// Images, (N, pixels), and their labels.
struct samples {
  matrix<float> images;
  std::vector<int> labels;
};

/// Data to train on and to test on, as the network sees them.
struct task {
  normalisation input;
  std::vector<std::string> classes;
  samples train;
  samples test;
};

/// Drawn characters as the data set has them, not normalised.
inline samples draw_samples(index_t count, std::uint64_t seed) {
  auto drawn = draw_glyphs(count, seed);
  return {std::move(drawn.images), std::move(drawn.labels)};
}

/// `train_count` characters drawn with `seed`; tested on `test_count` of those that results are quoted for.
inline task glyph_task(index_t train_count, std::uint64_t seed, index_t test_count = glyph_test_count) {
  task t;
  for (auto const& g : glyph_classes) t.classes.emplace_back(g.name);
  t.train = draw_samples(train_count, seed);
  t.test = draw_samples(test_count, glyph_test_seed);
  t.input = normalisation::of(t.train.images, 1);
  t.input.apply(t.train.images);
  t.input.apply(t.test.images);
  return t;
}

/// The digits in a folder with MNIST's four files, plain or .gz. Errors: files missing or malformed; images that are
/// not of 28 x 28 pixels; labels that are no digits.
inline result<task> mnist_task(std::filesystem::path const& folder) {
  auto const read = [&](program::split part) -> result<samples> {
    PARE_TRY(auto set, program::read_images(folder.string(), part));
    if (set.images.rows() == 0 || set.images.cols() != 28 * 28)
      return error{errc::mismatch, folder.string(),
                   "expected images of 28 x 28 pixels, found " + std::to_string(set.images.rows()) + " of " +
                       std::to_string(set.images.cols()) + " values"};
    samples s{std::move(set.images), {}};
    for (auto const label : set.labels) {
      if (label > 9)
        return error{errc::out_of_range, folder.string(),
                     "expected labels from 0 to 9, found " + std::to_string(label)};
      s.labels.push_back(label);
    }
    return s;
  };
  task t;
  for (char c = '0'; c <= '9'; ++c) t.classes.emplace_back(1, c);
  PARE_TRY(t.train, read(program::split::train));
  PARE_TRY(t.test, read(program::split::test));
  t.input = normalisation::of(t.train.images, 1.0f / 255.0f);
  t.input.apply(t.train.images);
  t.input.apply(t.test.images);
  return t;
}

}  // namespace pare::demo
