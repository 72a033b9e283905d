// SPDX-License-Identifier: Apache-2.0
// Gradients without Python: the loss of the network that comes with pare, the gradient of each layer's weights, and how
// much of the loss a first-order estimate says each layer's small weights are worth.
#include <cmath>
#include <cstdio>
#include <variant>

#include <pare/nn/backward.hpp>
#include <pare/pare.hpp>

#include "support/data_set.hpp"
#include "support/model.hpp"

int main() {
  auto const model = pare::program::load_model(PARE_EXAMPLE_DATA_DIR "/glyphs");
  auto const data = pare::program::read_images("glyphs:512", pare::program::split::train);
  if (!model || !data) return std::puts("cannot read the network or draw the images"), 1;
  auto const& net = std::get<pare::mlp>(model->network);

  // Forward, the loss, and back: the tap gets every layer's input and the gradient by its output.
  pare::weight_gradients gradients(net);
  auto const loss = pare::backward(net, data->images.span(), pare::cross_entropy(data->labels), gradients);
  if (!loss) return std::puts(loss.error().message().c_str()), 1;
  std::printf("mean cross-entropy of %zu images: %.4f\n", data->labels.size(), *loss);

  double total = 0;
  auto const layers = net.layers();
  for (std::size_t l = 0; l < layers.size(); ++l) {
    auto const w = layers[l]->weight();
    pare::matrix<float> const& g = gradients[l].weight;
    double square = 0;  // of the gradient
    double change = 0;  // of the loss without the smaller half of the weights: minus the sum of w g (Taylor)
    auto const keep = pare::select(pare::score(w, pare::magnitude{}), pare::unstructured{}, pare::sparsity(0.5));
    for (pare::index_t i = 0; i < w.rows; ++i)
      for (pare::index_t j = 0; j < w.cols; ++j) {
        square += static_cast<double>(g(i, j)) * static_cast<double>(g(i, j));
        if (!keep(i, j)) change -= static_cast<double>(w(i, j)) * static_cast<double>(g(i, j));
      }
    std::printf("%-12s %4td x %4td  |gradient| %.5f  half of it gone: loss %+.5f\n", layers[l]->name().c_str(), w.rows,
                w.cols, std::sqrt(square), change);
    total += square;
  }
  return std::isfinite(total) && total > 0 ? 0 : 1;
}
