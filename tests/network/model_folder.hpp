// SPDX-License-Identifier: Apache-2.0
// Small networks with random weights, written to a temporary folder, for tests of loading and of the arithmetic.
#pragma once

#include <pare/core/index.hpp>
#include <pare/core/random.hpp>
#include <pare/io/checkpoint.hpp>
#include <pare/io/safetensors.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace pare::test {

/// Tensors and a configuration; open() gives the checkpoint that a file of them is.
class model_folder {
 public:
  struct tensor {
    std::vector<index_t> shape;
    std::vector<float> values;
  };
  std::map<std::string, tensor> tensors;
  nlohmann::json config;  // null: no config.json

  /// As the model folder `path`, which is made.
  void write_to(std::filesystem::path const& path) const {
    std::filesystem::create_directory(path);
    std::vector<tensor_source> sources;
    for (auto const& [name, t] : tensors)
      sources.push_back({name, dtype_code::f32, t.shape, std::as_bytes(std::span(t.values))});
    write_safetensors(path / "model.safetensors", sources).value();
    if (!config.is_null()) std::ofstream(path / "config.json") << config.dump();
  }

  /// Adds a tensor of values that are uniform in [low, high).
  void add(std::string const& name, std::vector<index_t> shape, float low = -0.5f, float high = 0.5f) {
    index_t size = 1;
    for (index_t const extent : shape) size *= extent;
    tensor t{std::move(shape), std::vector<float>(static_cast<std::size_t>(size))};
    for (float& v : t.values) v = random_.uniform(low, high);
    tensors[name] = std::move(t);
  }

  [[nodiscard]] result<checkpoint> open() const {
    temporary_folder const folder;
    write_to(folder.path);
    return checkpoint::open(folder.path);
  }

 private:
  struct temporary_folder {
    std::filesystem::path path;
    temporary_folder() {
      static std::atomic<int> count{0};
      auto const now = std::chrono::steady_clock::now().time_since_epoch().count();
      path = std::filesystem::temp_directory_path() /
             ("pare-network-" + std::to_string(now) + "-" + std::to_string(count++));
      std::filesystem::create_directories(path);
    }
    temporary_folder(temporary_folder const&) = delete;
    temporary_folder& operator=(temporary_folder const&) = delete;
    ~temporary_folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  };

  random_source random_{7};
};

/// The result of T::load on the folder.
template <class T>
[[nodiscard]] result<T> load(model_folder const& folder) {
  PARE_TRY(auto const file, folder.open());
  return T::load(file);
}

}  // namespace pare::test
