// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pare/core/matrix.hpp>

float trace(pare::matrix_span<float const> m);
