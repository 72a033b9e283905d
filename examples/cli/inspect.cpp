// SPDX-License-Identifier: Apache-2.0
// pare inspect: what is in a .safetensors file or a model folder.
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include <pare/io/safetensors.hpp>
#include <pare/nn/any_network.hpp>
#include <pare/nn/network.hpp>

#include "cli/commands.hpp"
#include "support/model.hpp"
#include "support/terminal.hpp"

namespace pare::cli {

namespace {

result<void> inspect_file(inspect_options const& o) {
  PARE_TRY(auto const file, safetensors::open(o.path));
  std::size_t bytes = 0;
  for (tensor_info const& t : file.tensors()) bytes += t.end - t.begin;
  if (o.json) {
    // tensor by tensor, a line each: a document of millions of them would take many times the file's size
    auto const text = [](nlohmann::json const& v) {
      return v.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    };
    std::cout << "{\n  \"file\": " << text(o.path) << ",\n  \"bytes\": " << bytes
              << ",\n  \"metadata\": " << text(file.metadata()) << ",\n  \"tensors\": [";
    char const* separator = "\n    ";
    for (tensor_info const& t : file.tensors()) {
      std::cout << std::exchange(separator, ",\n    ")
                << text({{"name", t.name},
                         {"dtype", name(t.dtype)},
                         {"shape", t.shape},
                         {"bytes", t.end - t.begin},
                         {"data_offsets", {t.begin, t.end}}});
    }
    std::cout << "\n  ]\n}\n";
    return {};
  }
  std::printf("%s: %zu tensors, %s\n", o.path.c_str(), file.tensors().size(),
              program::human_bytes(static_cast<double>(bytes)).c_str());
  for (auto const& [key, value] : file.metadata())
    std::printf("  %s = %s\n", printable(key).c_str(), printable(value, 1000).c_str());
  for (tensor_info const& t : file.tensors())
    std::printf("  %-8s %-16s %12s  %s\n", std::string(name(t.dtype)).c_str(), to_string(t.shape).c_str(),
                program::human_bytes(static_cast<double>(t.end - t.begin)).c_str(), printable(t.name).c_str());
  return {};
}

result<void> inspect_folder(inspect_options const& o) {
  PARE_TRY(auto const file, checkpoint::open(o.path));
  auto const loaded = load_network(file);
  if (!loaded) return in(o.path, loaded.error());
  any_network const& net = *loaded;
  auto const count = std::visit([](auto const& n) { return count_weights(n); }, net);
  if (o.json) {
    nlohmann::json out{{"path", o.path},
                       {"network", kind(net)},
                       {"weights", count.weights},
                       {"kept", count.kept},
                       {"sparsity", count.sparsity()},
                       {"weight_bytes", count.bytes},
                       {"layers", nlohmann::json::array()},
                       {"tensors", nlohmann::json::array()}};
    for (linear const* l : layers(net))
      out["layers"].push_back({{"name", l->name()},
                               {"shape", {l->shape().rows, l->shape().cols}},
                               {"kept", l->weights().nnz()},
                               {"bytes", l->bytes()}});
    for (std::string const& n : file.names())
      out["tensors"].push_back({{"name", n}, {"shape", file.shape(n).value_or(std::vector<index_t>{})}});
    std::cout << out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    return {};
  }
  std::printf("%s: %s, %td weights in %zu linear layers, %.1f %% pruned, %s\n", o.path.c_str(),
              std::string(kind(net)).c_str(), count.weights, layers(net).size(), 100.0 * count.sparsity(),
              program::human_bytes(static_cast<double>(count.bytes)).c_str());
  for (linear const* l : layers(net)) {
    auto const size = static_cast<double>(l->shape().size());
    std::printf("  %6td x %-6td %6.1f %% pruned %12s  %s%s\n", l->shape().rows, l->shape().cols,
                size > 0 ? 100.0 * (1.0 - static_cast<double>(l->weights().nnz()) / size) : 0.0,
                program::human_bytes(static_cast<double>(l->bytes())).c_str(), printable(l->name()).c_str(),
                keeps_dense_by_default(net, *l) ? "  (dense unless asked)" : "");
  }
  return {};
}

}  // namespace

result<void> inspect(inspect_options const& o) {
  std::error_code code;
  return std::filesystem::is_directory(o.path, code) ? inspect_folder(o) : inspect_file(o);
}

}  // namespace pare::cli
