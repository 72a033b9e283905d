// SPDX-License-Identifier: Apache-2.0
// Gradients of the networks that pare knows: backward(network, data, loss, tap).
#pragma once

#include <pare/nn/gradient.hpp>
#include <pare/nn/llama_backward.hpp>
#include <pare/nn/loss.hpp>
#include <pare/nn/mlp_backward.hpp>
#include <pare/nn/resnet_backward.hpp>
