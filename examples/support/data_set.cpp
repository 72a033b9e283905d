// SPDX-License-Identifier: Apache-2.0
#include "support/data_set.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include <pare/io/bytes.hpp>
#include <pare/io/cifar.hpp>
#include <pare/io/file.hpp>
#include <pare/io/idx.hpp>

#include "demo/glyphs.hpp"

namespace pare::program {

namespace fs = std::filesystem;

namespace {

/// Rows of bytes as floats, at most `limit`.
labelled_images as_images(std::span<std::uint8_t const> pixels, std::vector<std::uint8_t> labels, index_t values,
                          index_t limit) {
  auto const all = static_cast<index_t>(labels.size());
  index_t const count = limit > 0 ? std::min(limit, all) : all;
  labels.resize(static_cast<std::size_t>(count));
  labelled_images out{matrix<float>(count, values), std::move(labels)};
  std::copy_n(pixels.begin(), count * values, out.images.data());
  return out;
}

result<labelled_images> draw(std::string const& source, split part, index_t limit) {
  index_t count = demo::glyph_test_count;
  if (source.size() > 6) {
    char const* const end = source.data() + source.size();
    auto const parsed = std::from_chars(source.data() + 7, end, count);
    if (source[6] != ':' || parsed.ec != std::errc{} || parsed.ptr != end || count < 1 || count > 1'000'000)
      return error{errc::out_of_range, "data '" + source + "'", "expected glyphs or glyphs:N with N in 1..1000000"};
  }
  if (limit > 0) count = std::min(count, limit);
  auto set = demo::draw_glyphs(count, part == split::train ? demo::glyph_test_seed + 1 : demo::glyph_test_seed);
  labelled_images out{std::move(set.images), {}};
  out.labels.assign(set.labels.begin(), set.labels.end());
  return out;
}

result<labelled_images> read_mnist(fs::path const& images, fs::path const& labels, index_t limit) {
  PARE_TRY(auto const pictures, read_idx_images(images));
  PARE_TRY(auto classes, read_idx_labels(labels));
  if (std::ssize(classes) != pictures.count)
    return error{errc::mismatch, labels.string(),
                 "expected one label for each of the " + std::to_string(pictures.count) + " images, found " +
                     std::to_string(classes.size())};
  return as_images(pictures.pixels, std::move(classes), pictures.rows * pictures.cols, limit);
}

/// The labels file that goes with an images file, by name: ...images-idx3... -> ...labels-idx1...
std::optional<fs::path> labels_beside(fs::path const& images) {
  std::string name = images.filename().string();
  auto const at = name.find("images-idx3");
  if (at == std::string::npos) return std::nullopt;
  return images.parent_path() / name.replace(at, 11, "labels-idx1");
}

result<labelled_images> read_folder(fs::path const& folder, split part, index_t limit) {
  std::string const stem = part == split::train ? "train" : "t10k";
  for (char const* const ending : {"", ".gz"}) {
    fs::path const images = folder / (stem + "-images-idx3-ubyte" + ending);
    if (fs::exists(images)) return read_mnist(images, folder / (stem + "-labels-idx1-ubyte" + ending), limit);
  }
  fs::path const batch = folder / (part == split::train ? "data_batch_1.bin" : "test_batch.bin");
  if (fs::exists(batch)) return read_images(batch.string(), part, limit);
  std::vector<fs::path> records;
  std::error_code code;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code))
    if (it->path().extension() == ".bin") records.push_back(it->path());
  if (records.size() == 1) return read_images(records.front().string(), part, limit);
  return error{errc::missing, folder.string(),
               "expected MNIST's " + stem + "-images-idx3-ubyte[.gz] or one file of CIFAR records (*.bin), found " +
                   std::to_string(records.size()) + " *.bin files"};
}

}  // namespace

result<labelled_images> read_images(std::string const& source, split part, index_t limit) {
  if (source == "glyphs" || source.starts_with("glyphs:")) return draw(source, part, limit);
  fs::path const path = source;
  std::error_code code;
  if (!fs::exists(path, code)) return error{errc::io, source, "there is no such file or folder"};
  if (fs::is_directory(path, code)) return read_folder(path, part, limit);
  if (auto const labels = labels_beside(path)) return read_mnist(path, *labels, limit);
  PARE_TRY(auto records, read_cifar(path));
  index_t const values = 3072;
  return as_images(records.pixels, std::move(records.labels), values, limit);
}

result<std::string> read_text(fs::path const& file, index_t limit) {
  PARE_TRY(auto opened, input_file::open(file));
  if (opened.size() == 0) return error{errc::missing, file.string(), "expected text, found an empty file"};
  PARE_TRY(auto const bytes,
           opened.read(limit > 0 ? std::min(static_cast<std::uint64_t>(limit), opened.size()) : opened.size()));
  return std::string(as_text(bytes));
}

}  // namespace pare::program
