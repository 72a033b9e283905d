// SPDX-License-Identifier: Apache-2.0
// A checkpoint: the named tensors that a network is loaded from, whether they come from one safetensors file, a
// sharded folder, or a pruned model in sparse-bitmask form, and the config.json beside them.
#pragma once

#include <pare/core/index.hpp>
#include <pare/core/result.hpp>
#include <pare/io/file.hpp>
#include <pare/io/json.hpp>
#include <pare/io/safetensors.hpp>
#include <pare/io/sparse_bitmask.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace pare::inline PARE_ABI {

/// A read-only set of tensors. Names are the logical ones: a compressed weight shows under the name and the shape
/// that it has when dense. Every error names the file or the tensor at fault.
class checkpoint {
 public:
  /// A .safetensors file, or a folder with model.safetensors, or model.safetensors.index.json and its shards, or
  /// exactly one other .safetensors file. config.json is taken from the folder; for a file only where it is
  /// named model.safetensors (another file's neighbour may belong to another network).
  [[nodiscard]] static result<checkpoint> open(std::filesystem::path const& file_or_folder) {
    std::error_code code;
    if (!std::filesystem::exists(file_or_folder, code))
      return error{errc::io, file_or_folder.string(), "there is no such file or folder"};
    checkpoint out;
    if (std::filesystem::is_directory(file_or_folder, code)) {
      PARE_TRY_VOID(out.open_folder(file_or_folder));
      out.folder_ = file_or_folder;
    } else {
      PARE_TRY_VOID(out.open_shard(file_or_folder));
      if (file_or_folder.filename() == "model.safetensors")
        out.folder_ = file_or_folder.has_parent_path() ? file_or_folder.parent_path() : std::filesystem::path(".");
    }
    if (!out.folder_.empty() && std::filesystem::exists(out.folder_ / "config.json", code)) {
      PARE_TRY(out.config_, read_json(out.folder_ / "config.json"));
      if (!out.config_.is_object())
        return error{errc::malformed, (out.folder_ / "config.json").string(), "must be a JSON object"};
    }
    PARE_TRY_VOID(out.index_tensors());
    return out;
  }

  /// config.json, or null where there is none.
  [[nodiscard]] nlohmann::json const& config() const noexcept { return config_; }
  /// The folder whose config.json belongs to this checkpoint; empty for a lone file.
  [[nodiscard]] std::filesystem::path const& folder() const noexcept { return folder_; }
  /// The files that hold the tensors.
  [[nodiscard]] std::span<safetensors const> shards() const noexcept { return shards_; }

  [[nodiscard]] bool contains(std::string_view name) const { return entries_.find(name) != entries_.end(); }

  /// All logical names, sorted.
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (auto const& [name, unused] : entries_) out.push_back(name);
    return out;
  }

  [[nodiscard]] std::optional<std::vector<index_t>> shape(std::string_view name) const {
    auto const at = entries_.find(name);
    if (at == entries_.end()) return std::nullopt;
    return at->second.shape;
  }

  /// The type of the stored values.
  [[nodiscard]] std::optional<dtype_code> dtype(std::string_view name) const {
    auto const at = entries_.find(name);
    if (at == entries_.end()) return std::nullopt;
    return values_of(at->second).dtype;
  }

  /// True where a tensor is stored in sparse-bitmask form.
  [[nodiscard]] bool is_compressed(std::string_view name) const {
    auto const at = entries_.find(name);
    return at != entries_.end() && at->second.compressed;
  }

  /// The stored tensors that make up a logical one: itself, or the three or four of its compressed form.
  [[nodiscard]] std::vector<tensor_source> stored_tensors(std::string_view name) const {
    std::vector<tensor_source> out;
    auto const at = entries_.find(name);
    if (at == entries_.end()) return out;
    for (std::size_t t : {at->second.values, at->second.bitmask, at->second.dimensions, at->second.row_offsets}) {
      if (t == absent) continue;
      safetensors const& file = shards_[at->second.shard];
      tensor_info const& info = file.tensors()[t];
      out.push_back({info.name, info.dtype, info.shape, file.bytes(info)});
    }
    return out;
  }

  /// A vector of exactly `expected_size` elements, as float.
  /// Errors: errc::missing, errc::mismatch, errc::unsupported (its type), errc::not_finite.
  [[nodiscard]] result<std::vector<float>> read_vector(std::string_view name, index_t expected_size) const {
    PARE_TRY(entry const* const e, find(name));
    if (e->compressed || e->shape != std::vector<index_t>{expected_size})
      return wrong_shape(name, "[" + std::to_string(expected_size) + "]", *e);
    PARE_TRY_VOID(require_weight(name, *e));
    std::vector<float> out(static_cast<std::size_t>(expected_size));
    to_floats(values_of(*e).dtype, shards_[e->shard].bytes(values_of(*e)), out);
    for (std::size_t i = 0; i < out.size(); ++i)
      if (!std::isfinite(out[i]))
        return error{errc::not_finite, detail::tensor_place(name),
                     "element " + std::to_string(i) + " is not a finite 32-bit number"};
    return out;
  }

  /// A weight (rows = first dimension, columns = the others flattened), as float, with its mask.
  /// Errors: errc::missing, errc::mismatch, errc::unsupported (its type), errc::not_finite, errc::malformed.
  [[nodiscard]] result<weight_tensor> read_weight(std::string_view name, extents expected) const {
    PARE_TRY(entry const* const e, find(name));
    if (flattened(e->shape) != expected)
      return wrong_shape(name, to_string(std::vector<index_t>{expected.rows, expected.cols}) + " (flattened)", *e);
    if (e->compressed) return decode_sparse_bitmask(shards_[e->shard], parts_of(*e), name);
    PARE_TRY_VOID(require_weight(name, *e));
    weight_tensor out{matrix<float>(expected), mask(expected, true), values_of(*e).dtype};
    to_floats(out.stored, shards_[e->shard].bytes(values_of(*e)),
              {out.values.data(), static_cast<std::size_t>(out.values.size())});
    for (index_t i = 0; i < out.values.size(); ++i)
      if (!std::isfinite(out.values.data()[i]))
        return detail::not_finite_error(name, i / expected.cols, i % expected.cols);
    return out;
  }

 private:
  static constexpr std::size_t absent = static_cast<std::size_t>(-1);
  static constexpr std::uint64_t json_limit = std::uint64_t{64} << 20;

  /// Where a logical tensor is: positions in shards_[shard].tensors().
  struct entry {
    std::size_t shard = 0;
    bool compressed = false;
    std::size_t values = absent;
    std::size_t bitmask = absent;
    std::size_t dimensions = absent;
    std::size_t row_offsets = absent;
    std::vector<index_t> shape;
  };

  [[nodiscard]] static result<nlohmann::json> read_json(std::filesystem::path const& path) {
    PARE_TRY(auto const bytes, read_file(path, json_limit));
    return parse_json(as_text(bytes), path.string());
  }

  [[nodiscard]] result<void> open_shard(std::filesystem::path const& path) {
    PARE_TRY(auto shard, safetensors::open(path));
    shards_.push_back(std::move(shard));
    shard_names_.push_back(path.filename().string());
    return {};
  }

  [[nodiscard]] result<void> open_folder(std::filesystem::path const& folder) {
    std::error_code code;
    if (std::filesystem::exists(folder / "model.safetensors", code)) return open_shard(folder / "model.safetensors");
    if (std::filesystem::exists(folder / "model.safetensors.index.json", code)) return open_sharded(folder);
    std::vector<std::string> files;
    std::vector<std::filesystem::path> weights;
    for (std::filesystem::directory_iterator at(folder, code), end; !code && at != end; at.increment(code)) {
      files.push_back(at->path().filename().string());
      if (at->path().extension() == ".safetensors") weights.push_back(at->path());
    }
    if (code) return error{errc::io, folder.string(), "cannot be listed: " + code.message()};
    if (weights.size() == 1) return open_shard(weights.front());
    std::sort(files.begin(), files.end());
    std::string list;
    for (std::size_t i = 0; i < files.size() && i < 10; ++i) list += (i == 0 ? "" : ", ") + in_quotes(files[i]);
    if (files.size() > 10) list += " and " + std::to_string(files.size() - 10) + " more";
    return error{errc::missing, folder.string(),
                 "expected model.safetensors, model.safetensors.index.json or exactly one .safetensors file; found " +
                     (files.empty() ? std::string("an empty folder") : list)};
  }

  [[nodiscard]] result<void> open_sharded(std::filesystem::path const& folder) {
    auto const path = folder / "model.safetensors.index.json";
    PARE_TRY(nlohmann::json const index, read_json(path));
    nlohmann::json const* const weight_map = detail::find_set(index, "weight_map");
    if (weight_map == nullptr || !weight_map->is_object())
      return in(path.string(), detail::wrong_key("weight_map", "an object of tensor name to file name", weight_map));
    std::set<std::string> files;
    for (auto const& item : weight_map->items()) {
      if (!item.value().is_string())
        return in(path.string(), detail::wrong_key(item.key(), "a file name", &item.value()));
      files.insert(item.value().get<std::string>());
    }
    // Names in an index are hostile: only a plain name in this very folder is opened. What stands there may be a link
    // (Hugging Face's cache keeps every file as a link to ../../blobs): links come with the folder, not with the index.
    for (std::string const& file : files)
      if (file.find_first_of(std::string_view("/\\:\0", 4)) != file.npos || !file.ends_with(".safetensors"))
        return error{errc::malformed, path.string(),
                     "the shard " + in_quotes(file) + " is not the plain name of a .safetensors file in this folder"};
    for (std::string const& file : files) {
      std::error_code code;
      if (!std::filesystem::exists(folder / file, code))
        return error{errc::missing, path.string(), "the shard " + in_quotes(file) + " is not in the folder"};
      PARE_TRY_VOID(open_shard(folder / file));
    }
    for (auto const& item : weight_map->items()) {
      auto const& file = item.value().get_ref<std::string const&>();
      auto const shard = static_cast<std::size_t>(std::distance(files.begin(), files.find(file)));
      if (shards_[shard].find(item.key()) == nullptr)
        return error{errc::missing, path.string(),
                     detail::tensor_place(item.key()) + " is not in the shard " + in_quotes(file)};
    }
    return {};
  }

  /// Fills entries_: groups the parts of compressed weights under their logical name.
  [[nodiscard]] result<void> index_tensors() {
    for (std::size_t s = 0; s < shards_.size(); ++s) {
      safetensors const& file = shards_[s];
      auto const tensors = file.tensors();
      auto const position = [&](std::string const& name) {
        tensor_info const* const t = file.find(name);
        return t == nullptr ? absent : static_cast<std::size_t>(t - tensors.data());
      };
      std::vector<bool> taken(tensors.size());
      for (std::size_t t = 0; t < tensors.size(); ++t) {
        std::string_view prefix = tensors[t].name;
        if (!prefix.ends_with(".compressed")) continue;
        prefix.remove_suffix(std::string_view(".compressed").size());
        std::string const x(prefix);
        entry e{s, true, t, position(x + ".bitmask"), position(x + ".shape"), position(x + ".row_offsets"), {}};
        if (e.bitmask == absent && e.dimensions == absent) continue;  // an ordinary tensor of that name
        for (auto const& [part, suffix] : {std::pair{e.bitmask, ".bitmask"}, std::pair{e.dimensions, ".shape"}})
          if (part == absent)
            return error{errc::missing, place(s),
                         detail::tensor_place(tensors[t].name) + " needs " + in_quotes(x + suffix)};
        auto shape = sparse_bitmask_shape(file, parts_of(e));
        if (!shape) return in(place(s), std::move(shape.error()));
        e.shape = *std::move(shape);
        for (std::size_t part : {e.values, e.bitmask, e.dimensions, e.row_offsets})
          if (part != absent) taken[part] = true;
        PARE_TRY_VOID(insert(x.ends_with(".weight") ? x : x + ".weight", std::move(e)));
      }
      for (std::size_t t = 0; t < tensors.size(); ++t)
        if (!taken[t]) PARE_TRY_VOID(insert(tensors[t].name, {s, false, t, absent, absent, absent, tensors[t].shape}));
    }
    return {};
  }

  [[nodiscard]] result<void> insert(std::string const& name, entry e) {
    std::size_t const shard = e.shard;
    if (!entries_.emplace(name, std::move(e)).second)
      return error{errc::malformed, place(shard), detail::tensor_place(name) + " is in the checkpoint twice"};
    return {};
  }

  [[nodiscard]] std::string place(std::size_t shard) const { return shard_names_[shard]; }

  [[nodiscard]] tensor_info const& values_of(entry const& e) const { return shards_[e.shard].tensors()[e.values]; }

  [[nodiscard]] sparse_bitmask_parts parts_of(entry const& e) const {
    auto const at = [&](std::size_t t) { return t == absent ? nullptr : &shards_[e.shard].tensors()[t]; };
    return {at(e.values), at(e.bitmask), at(e.dimensions), at(e.row_offsets)};
  }

  [[nodiscard]] result<entry const*> find(std::string_view name) const {
    auto const at = entries_.find(name);
    if (at == entries_.end()) return error{errc::missing, detail::tensor_place(name), "is not in the checkpoint"};
    return &at->second;
  }

  [[nodiscard]] static error wrong_shape(std::string_view name, std::string const& expected, entry const& e) {
    return {errc::mismatch, detail::tensor_place(name), "expected shape " + expected + ", found " + to_string(e.shape)};
  }

  [[nodiscard]] result<void> require_weight(std::string_view name, entry const& e) const {
    if (is_weight_dtype(values_of(e).dtype)) return {};
    return error{errc::unsupported, detail::tensor_place(name),
                 "weights are read from F16, BF16, F32 and F64, found " + std::string(pare::name(values_of(e).dtype))};
  }

  std::vector<safetensors> shards_;
  std::vector<std::string> shard_names_;
  std::map<std::string, entry, std::less<>> entries_;
  nlohmann::json config_;
  std::filesystem::path folder_;
};

}  // namespace pare::inline PARE_ABI
