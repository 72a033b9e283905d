// SPDX-License-Identifier: Apache-2.0
// Violates the layering in every way that check.cmake knows for core/. Never compiled.
#include <pare/mask/mask.hpp>
#include <pare/pare.hpp>
#include "index.hpp"

#include <functional>

#include <Eigen/Core>
#include <immintrin.h>
#include <nlohmann/json.hpp>
