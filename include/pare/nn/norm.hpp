// SPDX-License-Identifier: Apache-2.0
// Normalisation: RMSNorm of Llama, and batch norm at inference as one multiply-add per channel.
#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <pare/core/index.hpp>
#include <pare/core/result.hpp>
#include <pare/io/checkpoint.hpp>
#include <pare/core/reduce.hpp>

namespace pare::inline PARE_ABI {

/// out[i] = x[i] * gain[i] / sqrt(mean(x^2) + epsilon), for n values. out may be x.
inline void rms_norm(float const* x, float const* gain, float epsilon, float* out, index_t n) noexcept {
  float const mean_square = sum_of<float>(n, [x](index_t i) { return x[i] * x[i]; }) / static_cast<float>(n);
  float const scale = 1.0f / std::sqrt(mean_square + epsilon);
  for (index_t i = 0; i < n; ++i) out[i] = x[i] * scale * gain[i];
}

/// Adds to dx the gradient of a loss by the x of rms_norm, from delta, its gradient by out. n values each. The gain's
/// own gradient is not computed.
inline void rms_norm_backward(float const* x, float const* gain, float epsilon, float const* delta, float* dx,
                              index_t n) noexcept {
  auto const count = static_cast<float>(n);
  float const mean_square = sum_of<float>(n, [x](index_t i) { return x[i] * x[i]; }) / count;
  float const scale = 1.0f / std::sqrt(mean_square + epsilon);
  float const along = sum_of<float>(n, [&](index_t i) { return delta[i] * gain[i] * x[i]; });  // the part along x
  float const shrink = along * scale * scale / count;
  for (index_t i = 0; i < n; ++i) dx[i] += scale * (delta[i] * gain[i] - shrink * x[i]);
}

/// Batch norm with fixed statistics: channel c of x becomes x * scale[c] + shift[c].
struct batch_norm {
  std::vector<float> scale;
  std::vector<float> shift;

  /// Reads `name`.weight, .bias, .running_mean and .running_var, each (channels).
  /// Errors: missing or misshapen tensors, values that are not finite; a negative variance.
  [[nodiscard]] static result<batch_norm> load(checkpoint const& file, std::string const& name, index_t channels) {
    constexpr float epsilon = 1e-5f;
    PARE_TRY(auto gain, file.read_vector(name + ".weight", channels));
    PARE_TRY(auto offset, file.read_vector(name + ".bias", channels));
    PARE_TRY(auto const mean, file.read_vector(name + ".running_mean", channels));
    PARE_TRY(auto const variance, file.read_vector(name + ".running_var", channels));
    for (std::size_t c = 0; c < variance.size(); ++c) {
      if (!(variance[c] >= 0.0f))
        return error{errc::out_of_range, detail::tensor_place(name + ".running_var"),
                     "expected variances that are not negative, found " + std::to_string(variance[c]) + " in channel " +
                         std::to_string(c)};
      gain[c] /= std::sqrt(variance[c] + epsilon);
      offset[c] -= mean[c] * gain[c];
    }
    return batch_norm{std::move(gain), std::move(offset)};
  }
};

}  // namespace pare::inline PARE_ABI
