// SPDX-License-Identifier: Apache-2.0
// Writes a pruned model folder: the pruned weights in sparse-bitmask form or dense with zeros, every other tensor
// of the source byte for byte, config.json, and the small files (tokenizer, vocabulary, licence) beside it.
#pragma once

#include <pare/core/index.hpp>
#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>
#include <pare/io/checkpoint.hpp>
#include <pare/io/file.hpp>
#include <pare/io/json.hpp>
#include <pare/io/safetensors.hpp>
#include <pare/io/sparse_bitmask.hpp>
#include <pare/mask/mask.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace pare::inline PARE_ABI {

/// How pruned weights are written.
enum class save_form {
  sparse_bitmask,  // smaller; read by pare and by readers of compressed-tensors
  dense,           // zeros stored; read by everything
};

/// A tensor to be written instead of the source's of that name: pruned by a mask, or changed otherwise.
struct pruned_weight {
  std::string name;
  matrix_span<float const> values;  // flattened shape, (n, 1) of a vector; what `keep` prunes is written as 0
  pare::mask const* keep = nullptr;
};

/// What may be said besides.
struct save_options {
  std::string structure = "unstructured";  // "unstructured" or "N:M", for the config
  bool replace = false;  // an existing out folder may be replaced, where it holds a pruned model and nothing else
};

namespace detail {

/// A folder being written: it gets the target's name on commit(), and vanishes otherwise.
class atomic_folder {
 public:
  [[nodiscard]] static result<atomic_folder> create(std::filesystem::path const& target) {
    auto temporary = temporary_beside(target);
    std::error_code code;
    if (!std::filesystem::create_directory(temporary, code))
      return error{errc::io, target.string(), "cannot be written: " + code.message()};
    return atomic_folder(target, std::move(temporary));
  }
  atomic_folder(atomic_folder&& other) noexcept
      : target_(std::move(other.target_)), temporary_(std::exchange(other.temporary_, {})) {}
  atomic_folder& operator=(atomic_folder&&) = delete;
  ~atomic_folder() {
    std::error_code ignored;
    if (!temporary_.empty()) std::filesystem::remove_all(temporary_, ignored);
  }

  [[nodiscard]] std::filesystem::path const& path() const noexcept { return temporary_; }

  /// Takes the target's place; a folder that is there is moved away first and put back where this fails.
  [[nodiscard]] result<void> commit() {
    sync_folder(temporary_);
    std::error_code code;
    std::filesystem::path old;
    if (std::filesystem::exists(target_, code)) {
      old = temporary_beside(target_);
      if (std::rename(target_.c_str(), old.c_str()) != 0) return io_error(target_, "cannot be replaced", errno);
    }
    if (std::rename(temporary_.c_str(), target_.c_str()) != 0) {
      int const reason = errno;
      if (!old.empty()) static_cast<void>(std::rename(old.c_str(), target_.c_str()));
      return io_error(target_, "cannot be put in place", reason);
    }
    temporary_.clear();
    sync_folder(target_.parent_path());
    if (!old.empty()) std::filesystem::remove_all(old, code);
    return {};
  }

 private:
  atomic_folder(std::filesystem::path target, std::filesystem::path temporary)
      : target_(std::move(target)), temporary_(std::move(temporary)) {}

  std::filesystem::path target_;
  std::filesystem::path temporary_;
};

/// Files that belong to a model but hold no weights.
[[nodiscard]] inline bool goes_with_model(std::filesystem::path const& file) {
  std::string const name = file.filename().string();
  if (name == "config.json" || name == "model.safetensors.index.json") return false;  // written anew
  for (std::string_view start : {"tokenizer", "vocab", "merges", "LICENSE", "NOTICE", "README"})
    if (name.starts_with(start)) return file.extension() != ".safetensors";
  std::string const extension = file.extension().string();
  return extension == ".json" || extension == ".txt" || extension == ".jinja";
}

/// True where a link is not followed out of a model: the file lies below `folder`, or in the blobs of the Hugging Face
/// cache whose snapshot the folder is.
[[nodiscard]] inline bool lies_in_model(std::filesystem::path const& file, std::filesystem::path const& folder) {
  std::error_code code;
  auto const real = std::filesystem::canonical(file, code);
  if (code) return false;
  auto const home = std::filesystem::canonical(folder, code);
  if (code) return false;
  auto const below = [&](std::filesystem::path const& top) {
    return std::mismatch(top.begin(), top.end(), real.begin(), real.end()).first == top.end();
  };
  auto const snapshots = home.parent_path();
  return below(home) || (snapshots.filename() == "snapshots" && below(snapshots.parent_path() / "blobs"));
}

[[nodiscard]] inline result<void> copy_model_files(std::filesystem::path const& from, std::filesystem::path const& to) {
  constexpr std::uintmax_t largest = std::uintmax_t{64} << 20;
  std::error_code code;
  for (std::filesystem::directory_iterator at(from, code), end; !code && at != end; at.increment(code)) {
    std::error_code ignored;
    if (!goes_with_model(at->path()) || !at->is_regular_file(ignored) || at->file_size(ignored) > largest) continue;
    // a downloaded folder must not bring private files into one that may be published
    if (!lies_in_model(at->path(), from))
      return error{errc::io, at->path().string(),
                   "is a link that leads out of the model's folder, so it is not copied; put the file itself there"};
    PARE_TRY(auto const bytes, read_file(at->path()));
    PARE_TRY_VOID(write_file_atomically(to / at->path().filename(), bytes));
  }
  if (code) return error{errc::io, from.string(), "cannot be listed: " + code.message()};
  return {};
}

/// A weight as dense bytes of `dtype`, zero where it is pruned.
[[nodiscard]] inline result<std::vector<std::byte>> dense_bytes(pruned_weight const& w, dtype_code dtype) {
  std::size_t const step = size_in_bytes(dtype);
  std::vector<std::byte> bytes(static_cast<std::size_t>(w.values.shape().size()) * step);
  std::byte* p = bytes.data();
  for (index_t r = 0; r < w.values.rows; ++r)
    for (index_t c = 0; c < w.values.cols; ++c, p += step) {
      if (w.keep != nullptr && !(*w.keep)(r, c)) continue;
      float const v = w.values(r, c);
      if (!std::isfinite(v)) return not_finite_error(w.name, r, c);
      store_float(dtype, v, p);
      if (!std::isfinite(stored_value(dtype, v)))
        return error{errc::out_of_range, tensor_place(w.name),
                     "element (" + std::to_string(r) + ", " + std::to_string(c) + ") is too large for " +
                         std::string(name(dtype))};
    }
  return bytes;
}

/// Replacing deletes: only what save_pruned may have written, with the files that it copies.
[[nodiscard]] inline result<void> check_replaceable(std::filesystem::path const& out) {
  std::error_code code;
  bool empty = true;
  for (std::filesystem::directory_iterator at(out, code), end; !code && at != end; at.increment(code)) {
    std::error_code ignored;
    auto const name = at->path().filename();
    bool const written = name == "model.safetensors" || name == "config.json" || goes_with_model(at->path());
    if (!written || !std::filesystem::is_regular_file(at->symlink_status(ignored)))
      return error{errc::io, out.string(),
                   "holds " + in_quotes(name.string()) + ", which is no part of a pruned model; it is not replaced"};
    empty = false;
  }
  if (code) return error{errc::io, out.string(), "cannot be listed: " + code.message()};
  if (!empty && !std::filesystem::exists(out / "model.safetensors", code))
    return error{errc::io, out.string(), "holds something other than a model; it is not replaced"};
  return {};
}

/// The out folder may be written: it is not the source, and it is absent or may be replaced.
[[nodiscard]] inline result<void> check_out_folder(std::filesystem::path const& source_folder,
                                                   std::filesystem::path const& out, bool replace) {
  std::error_code code;
  if (out.empty()) return error{errc::io, "output folder", "has no name"};
  if (!std::filesystem::exists(std::filesystem::symlink_status(out, code))) {
    auto const parent = out.has_parent_path() ? out.parent_path() : std::filesystem::path(".");
    if (!std::filesystem::is_directory(parent, code))
      return error{errc::io, out.string(), "cannot be written: there is no folder " + in_quotes(parent.string())};
    return {};
  }
  if (std::filesystem::equivalent(out, source_folder, code))
    return error{errc::io, out.string(), "is the source folder; a pruned model is written to a folder of its own"};
  if (!replace)
    return error{errc::io, out.string(), "exists already; choose another folder, or replace it (option replace)"};
  if (!std::filesystem::is_directory(std::filesystem::symlink_status(out, code)))
    return error{errc::io, out.string(), "is not a folder (a link is none); it is not replaced"};
  auto const out_path = std::filesystem::canonical(out, code);
  auto const source_path = std::filesystem::canonical(source_folder, code);
  if (std::mismatch(out_path.begin(), out_path.end(), source_path.begin(), source_path.end()).first == out_path.end())
    return error{errc::io, out.string(), "holds the source; it is not replaced"};
  return check_replaceable(out);
}

/// Messages name the file that was to be, not the temporary one.
[[nodiscard]] inline error name_target(error e, std::filesystem::path const& temporary,
                                       std::filesystem::path const& target) {
  if (e.where.starts_with(temporary.string())) e.where.replace(0, temporary.string().size(), target.string());
  return e;
}

[[nodiscard]] inline std::filesystem::path without_trailing_slash(std::filesystem::path const& folder) {
  return folder.has_filename() ? folder : folder.parent_path();
}

[[nodiscard]] inline std::filesystem::path folder_of(std::filesystem::path const& source) {
  std::error_code ignored;
  if (std::filesystem::is_directory(source, ignored)) return source;
  return source.has_parent_path() ? source.parent_path() : std::filesystem::path(".");
}

/// Puts what is said about sparsity into a config: `sparsity` where compressed tensors are written, nothing else.
inline void set_sparsity_config(nlohmann::json& config, nlohmann::json sparsity) {
  nlohmann::json quantization = nlohmann::json::object();
  if (auto const* found = find_set(config, "quantization_config"); found != nullptr && found->is_object())
    quantization = *found;
  config.erase("quantization_config");
  quantization.erase("sparsity_config");
  if (!sparsity.is_null()) {
    quantization["quant_method"] = "compressed-tensors";
    quantization["sparsity_config"] = std::move(sparsity);
    config["quantization_config"] = std::move(quantization);
  } else if (quantization.contains("config_groups")) {  // quantised: that part stays true
    config["quantization_config"] = std::move(quantization);
  }
}

/// The weight of whose layer `b` is a bias, where it has one value for each of its rows.
[[nodiscard]] inline std::optional<std::string> weight_beside(checkpoint const& from, pruned_weight const& b) {
  constexpr std::string_view ending = ".bias";
  if (!b.name.ends_with(ending) || b.keep != nullptr) return std::nullopt;
  std::string weight = b.name.substr(0, b.name.size() - ending.size()) + ".weight";
  auto const shape = from.shape(weight);
  if (!shape || !is_weight_dtype(*from.dtype(weight)) || b.values.shape() != extents{flattened(*shape).rows, 1})
    return std::nullopt;
  return weight;
}

}  // namespace detail

/// Whether save_pruned would write to `out_folder`, as far as can be said before there is anything to write (a folder
/// beside it is made and removed): for programs that prune for long. Errors: errc::io.
[[nodiscard]] inline result<void> check_save_target(std::filesystem::path const& source,
                                                    std::filesystem::path const& out_folder,
                                                    save_options const& options = {}) {
  auto const out = detail::without_trailing_slash(out_folder);
  PARE_TRY_VOID(detail::check_out_folder(detail::folder_of(source), out, options.replace));
  PARE_TRY_VOID(detail::atomic_folder::create(out));
  return {};
}

/// Writes the model of `source` (a file or folder, see checkpoint) with `weights` in the place of the tensors of
/// their names, to the new folder `out_folder`: model.safetensors, config.json, and the files that go with a model.
/// Weights keep their stored type (F16, BF16, F32, F64) and true dimensions. A weight without a mask, or of
/// rank 1, is written dense. A bias that the source does not have, one value for each row of the weight beside it
/// (NAME.bias, NAME.weight), is added in that one's type.
/// `config` is what config.json shall hold; null takes the source's. Its sparsity_config is brought up to date.
/// Nothing is left behind on an error. Errors: those of checkpoint::open; errc::missing, errc::mismatch for a weight
/// that is not in the source or has another shape; errc::not_finite; errc::out_of_range; errc::io.
[[nodiscard]] inline result<void> save_pruned(std::filesystem::path const& source,
                                              std::filesystem::path const& out_folder,
                                              std::span<pruned_weight const> weights, save_form form,
                                              nlohmann::json config = nullptr, save_options const& options = {}) {
  auto const out = detail::without_trailing_slash(out_folder);
  PARE_TRY_VOID(check_save_target(source, out, options));
  PARE_TRY(checkpoint const from, checkpoint::open(source));
  if (config.is_null()) config = from.config().is_null() ? nlohmann::json::object() : from.config();
  if (!config.is_object()) return error{errc::malformed, "config", "must be a JSON object"};

  std::map<std::string_view, pruned_weight const*> replaced;
  std::vector<pruned_weight const*> added;
  index_t elements = 0;
  index_t pruned = 0;
  for (pruned_weight const& w : weights) {
    auto const place = detail::tensor_place(w.name);
    auto const shape = from.shape(w.name);
    if (!shape && detail::weight_beside(from, w)) {
      if (!replaced.emplace(w.name, &w).second) return error{errc::mismatch, place, "is given twice"};
      added.push_back(&w);
      continue;
    }
    if (!shape) return error{errc::missing, place, "is not in the source checkpoint"};
    if (!replaced.emplace(w.name, &w).second) return error{errc::mismatch, place, "is given twice"};
    if (!is_weight_dtype(*from.dtype(w.name)))
      return error{errc::unsupported, place,
                   "weights are stored as F16, BF16, F32 or F64, found " + std::string(name(*from.dtype(w.name)))};
    if (flattened(*shape) != w.values.shape() || (w.keep != nullptr && w.keep->shape() != w.values.shape()))
      return error{errc::mismatch, place,
                   "values and mask must have the flattened shape of " + to_string(*shape) + ", found " +
                       to_string(std::vector<index_t>{w.values.rows, w.values.cols})};
    if (w.keep == nullptr) continue;
    elements += w.values.shape().size();
    pruned += w.values.shape().size() - w.keep->count();
  }

  std::vector<tensor_source> tensors;
  std::vector<encoded_sparse_bitmask> encoded;
  std::vector<std::vector<std::byte>> dense;
  std::vector<std::string> targets;  // modules whose weight is compressed
  encoded.reserve(weights.size());   // tensors view into their elements
  dense.reserve(weights.size());
  auto const module_of = [](std::string const& n) { return n.ends_with(".weight") ? n.substr(0, n.size() - 7) : n; };
  for (std::string const& n : from.names()) {
    auto const at = replaced.find(n);
    if (at == replaced.end()) {
      if (from.is_compressed(n)) targets.push_back(module_of(n));
      for (tensor_source& t : from.stored_tensors(n)) tensors.push_back(std::move(t));
      continue;
    }
    pruned_weight const& w = *at->second;
    auto const shape = *from.shape(n);
    dtype_code const dtype = *from.dtype(n);
    // a name without ".weight" would come back with it, and an empty weight has no compressed form
    bool const compressible = n.ends_with(".weight") && shape.size() >= 2 && w.values.shape().size() > 0;
    if (form == save_form::sparse_bitmask && w.keep != nullptr && compressible) {
      PARE_TRY(auto e, encode_sparse_bitmask(n, shape, w.values, *w.keep, dtype));
      encoded.push_back(std::move(e));
      for (tensor_source& t : encoded.back().tensors()) tensors.push_back(std::move(t));
      targets.push_back(module_of(n));
    } else {
      PARE_TRY(auto bytes, detail::dense_bytes(w, dtype));
      dense.push_back(std::move(bytes));
      tensors.push_back({n, dtype, shape, dense.back()});
    }
  }

  for (pruned_weight const* w : added) {
    dtype_code const dtype = *from.dtype(*detail::weight_beside(from, *w));
    PARE_TRY(auto bytes, detail::dense_bytes(*w, dtype));
    dense.push_back(std::move(bytes));
    tensors.push_back({w->name, dtype, {w->values.rows}, dense.back()});
  }

  double const sparsity = elements == 0 ? 0.0 : static_cast<double>(pruned) / static_cast<double>(elements);
  detail::set_sparsity_config(
      config, targets.empty() ? nlohmann::json() : sparse_bitmask_config(sparsity, options.structure, targets));

  PARE_TRY(auto folder, detail::atomic_folder::create(out));
  auto const fill = [&]() -> result<void> {
    if (!from.folder().empty()) PARE_TRY_VOID(detail::copy_model_files(from.folder(), folder.path()));
    PARE_TRY_VOID(write_safetensors(folder.path() / "model.safetensors", tensors, {{"format", "pt"}}));
    std::string const text = config.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    return write_file_atomically(folder.path() / "config.json", as_bytes(text));
  };
  if (auto filled = fill(); !filled) return detail::name_target(std::move(filled.error()), folder.path(), out);
  return folder.commit();
}

}  // namespace pare::inline PARE_ABI
