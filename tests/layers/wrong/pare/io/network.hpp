// SPDX-License-Identifier: Apache-2.0
// Violates the layering: files do not know networks. Never compiled.
#include <pare/core/result.hpp>
#include <pare/nn/linear.hpp>

#include <zlib.h>
