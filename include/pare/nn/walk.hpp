// SPDX-License-Identifier: Apache-2.0
// Calibration data on its way through the networks that pare knows: walk(network, data), see stage_walk.
#pragma once

#include <pare/nn/llama_walk.hpp>
#include <pare/nn/mlp_walk.hpp>
#include <pare/nn/resnet_walk.hpp>
