// SPDX-License-Identifier: Apache-2.0
// Everything that needs the core dependencies only: from weights in memory to a multiplication. Networks and files
// (which need a JSON library) are in <pare/nn/...> and <pare/io/...>, adapters for other libraries in
// <pare/interop/...>.
#pragma once

#include <pare/allocate/allocator.hpp>
#include <pare/allocate/erk.hpp>
#include <pare/allocate/global.hpp>
#include <pare/calibrate/input_norms.hpp>
#include <pare/calibrate/statistics.hpp>
#include <pare/core/cast.hpp>
#include <pare/core/matrix.hpp>
#include <pare/core/progress.hpp>
#include <pare/core/random.hpp>
#include <pare/core/result.hpp>
#include <pare/format/bitmap.hpp>
#include <pare/format/bsr.hpp>
#include <pare/format/csr.hpp>
#include <pare/format/dense.hpp>
#include <pare/format/n_of_m_packed.hpp>
#include <pare/format/quantised.hpp>
#include <pare/format/regular.hpp>
#include <pare/kernel/prepare.hpp>
#include <pare/kernel/reference.hpp>
#include <pare/kernel/thread_pool.hpp>
#include <pare/mask/mask.hpp>
#include <pare/nn/linear.hpp>
#include <pare/nn/network.hpp>
#include <pare/pattern/parse.hpp>
#include <pare/prune/calibration.hpp>
#include <pare/prune/pipeline.hpp>
#include <pare/prune/prune.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/random_score.hpp>
#include <pare/score/wanda.hpp>
#include <pare/select/select.hpp>
