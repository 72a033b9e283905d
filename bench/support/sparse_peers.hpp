// SPDX-License-Identifier: Apache-2.0
// The sparse products of others, where they are found: Eigen, librsb, libxsmm and XNNPACK, one thread each, float.
// They take W as a dense matrix in which what is pruned is 0, and make a form of their own of it beforehand.
#pragma once

#include <cmath>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "peers.hpp"

#include <Eigen/SparseCore>

#if defined(PARE_BENCH_LIBRSB)
#include <rsb.h>
#endif
#if defined(PARE_BENCH_LIBXSMM)
#include <libxsmm.h>
#include <libxsmm_spmdm.h>
#endif
#if defined(PARE_BENCH_XNNPACK)
#include <xnnpack.h>
#endif

namespace pare::bench {

/// A peer for this product, or nothing where it has none. w need not outlive the contender; x and y must.
using sparse_peer = std::optional<contender>;

/// W in compressed sparse rows with 32-bit indices, as Eigen and librsb take it.
struct csr_arrays {
  std::vector<int> begin{0};
  std::vector<int> columns;
  std::vector<float> values;

  explicit csr_arrays(matrix_span<float const> w) {
    for (index_t r = 0; r < w.rows; ++r) {
      for (index_t c = 0; c < w.cols; ++c) {
        if (w(r, c) == 0.0f) continue;
        columns.push_back(static_cast<int>(c));
        values.push_back(w(r, c));
      }
      begin.push_back(static_cast<int>(values.size()));
    }
  }
};

inline sparse_peer eigen_sparse(peer_product const& p) {
  using sparse = Eigen::SparseMatrix<float, Eigen::RowMajor>;
  csr_arrays a(p.w);
  auto const w = std::make_shared<sparse const>(Eigen::Map<sparse const>(
      p.w.rows, p.w.cols, static_cast<index_t>(a.values.size()), a.begin.data(), a.columns.data(), a.values.data()));
  return contender("eigen_sparse", [w, p] {
    using rows = eigen_matrix<Eigen::RowMajor>;
    using cols = eigen_matrix<Eigen::ColMajor>;
    if (p.columns == 1) {
      Eigen::Map<Eigen::VectorXf const> const x(p.x, w->cols());
      Eigen::Map<Eigen::VectorXf>(p.y, w->rows()).noalias() = *w * x;
    } else if (p.token_major) {
      Eigen::Map<cols const> const x(p.x, w->cols(), p.columns);
      Eigen::Map<cols>(p.y, w->rows(), p.columns).noalias() = *w * x;
    } else {
      Eigen::Map<rows const> const x(p.x, w->cols(), p.columns);
      Eigen::Map<rows>(p.y, w->rows(), p.columns).noalias() = *w * x;
    }
  });
}

#if defined(PARE_BENCH_LIBRSB)
inline sparse_peer librsb(peer_product const& p) {
  static bool const ready = rsb_lib_init(RSB_NULL_INIT_OPTIONS) == RSB_ERR_NO_ERROR;
  if (!ready) return std::nullopt;
  csr_arrays const a(p.w);
  rsb_err_t failed = RSB_ERR_NO_ERROR;
  rsb_mtx_t* const made = rsb_mtx_alloc_from_csr_const(
      a.values.data(), a.begin.data(), a.columns.data(), static_cast<rsb_nnz_idx_t>(a.values.size()),
      RSB_NUMERICAL_TYPE_FLOAT, static_cast<rsb_coo_idx_t>(p.w.rows), static_cast<rsb_coo_idx_t>(p.w.cols), 1, 1,
      RSB_FLAG_NOFLAGS, &failed);
  if (made == nullptr || failed != RSB_ERR_NO_ERROR) return std::nullopt;
  std::shared_ptr<rsb_mtx_t> const w(made, [](rsb_mtx_t* m) { rsb_mtx_free(m); });
  return contender("librsb", [w, p, m = p.w.rows, k = p.w.cols] {
    float const one = 1.0f;
    float const zero = 0.0f;
    if (p.columns == 1) {
      rsb_spmv(RSB_TRANSPOSITION_N, &one, w.get(), p.x, 1, &zero, p.y, 1);
    } else if (p.token_major) {
      rsb_spmm(RSB_TRANSPOSITION_N, &one, w.get(), static_cast<rsb_coo_idx_t>(p.columns),
               RSB_FLAG_WANT_COLUMN_MAJOR_ORDER, p.x, static_cast<rsb_nnz_idx_t>(k), &zero, p.y,
               static_cast<rsb_nnz_idx_t>(m));
    } else {
      auto const n = static_cast<rsb_nnz_idx_t>(p.columns);
      rsb_spmm(RSB_TRANSPOSITION_N, &one, w.get(), n, RSB_FLAG_WANT_ROW_MAJOR_ORDER, p.x, n, &zero, p.y, n);
    }
  });
}
#endif

#if defined(PARE_BENCH_LIBXSMM)
/// libxsmm's product for sparse weights. Its other one, fsspmdm, is for small operators with few distinct values: in
/// release 1.17 it multiplies dense from 480 distinct values on.
class libxsmm_product {
 public:
  explicit libxsmm_product(peer_product const& p) : x_(p.x), y_(p.y) {
    libxsmm_spmdm_init(static_cast<int>(p.w.rows), static_cast<int>(p.columns), static_cast<int>(p.w.cols), 1, &handle_,
                       &slices_);
    int const blocks = libxsmm_spmdm_get_num_createSparseSlice_blocks(&handle_);
    for (int b = 0; b < blocks; ++b)
      libxsmm_spmdm_createSparseSlice_fp32_thread(&handle_, 'N', p.w.data, slices_, b, 0, 1);
  }
  libxsmm_product(libxsmm_product const&) = delete;
  libxsmm_product& operator=(libxsmm_product const&) = delete;
  ~libxsmm_product() { libxsmm_spmdm_destroy(&handle_); }

  void operator()() {
    float const one = 1.0f;
    float const zero = 0.0f;
    int const blocks = libxsmm_spmdm_get_num_compute_blocks(&handle_);
    for (int b = 0; b < blocks; ++b)
      libxsmm_spmdm_compute_fp32_thread(&handle_, 'N', 'N', &one, slices_, x_, 'N', &zero, y_, b, 0, 1);
  }

 private:
  libxsmm_spmdm_handle handle_{};
  libxsmm_CSR_sparseslice* slices_ = nullptr;  // the handle's
  float const* x_;
  float* y_;
};

inline sparse_peer libxsmm(peer_product const& p) {
  if (p.token_major || p.columns == 1) return std::nullopt;
  return contender("libxsmm", [product = std::make_shared<libxsmm_product>(p)] { (*product)(); });
}
#endif

#if defined(PARE_BENCH_XNNPACK)
/// XNNPACK multiplies pruned weights in its 1x1 convolution of images that are stored channel by channel (NCHW); x is
/// one image with a pixel per column. It may read up to XNN_EXTRA_BYTES after x.
inline sparse_peer xnnpack(peer_product const& p) {
  static bool const ready = xnn_initialize(nullptr) == xnn_status_success;
  if (!ready || (p.token_major && p.columns > 1)) return std::nullopt;
  auto const m = static_cast<std::size_t>(p.w.rows);
  auto const k = static_cast<std::size_t>(p.w.cols);
  auto const n = static_cast<std::size_t>(p.columns);
  xnn_operator_t made = nullptr;
  if (xnn_create_convolution2d_nchw_f32(0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, k, m, k, m, p.w.data, nullptr, -INFINITY,
                                        INFINITY, 0, &made) != xnn_status_success)
    return std::nullopt;
  std::shared_ptr<xnn_operator> const convolution(made, [](xnn_operator_t o) { xnn_delete_operator(o); });
  if (xnn_setup_convolution2d_nchw_f32(made, 1, 1, n, p.x, p.y, nullptr) != xnn_status_success) return std::nullopt;
  return contender("xnnpack", [convolution] { xnn_run_operator(convolution.get(), nullptr); });
}
#endif

/// The sparse peers of this build that have this product.
inline std::vector<contender> sparse_peers(peer_product const& p) {
  std::vector<contender> found;
  auto const add = [&](sparse_peer peer) {
    if (peer) found.push_back(*std::move(peer));
  };
  add(eigen_sparse(p));
#if defined(PARE_BENCH_LIBRSB)
  add(librsb(p));
#endif
#if defined(PARE_BENCH_LIBXSMM)
  add(libxsmm(p));
#endif
#if defined(PARE_BENCH_XNNPACK)
  add(xnnpack(p));
#endif
  return found;
}

/// Names and versions.
inline std::vector<std::pair<std::string, std::string>> sparse_peer_versions() {
  std::vector<std::pair<std::string, std::string>> found;
#if defined(PARE_BENCH_LIBRSB)
  found.emplace_back("librsb", RSB_HEADER_VERSION_STRING);
#endif
#if defined(PARE_BENCH_LIBXSMM)
  found.emplace_back("libxsmm", std::string(LIBXSMM_VERSION) + ", target " + libxsmm_get_target_arch());
#endif
#if defined(PARE_BENCH_XNNPACK)
  found.emplace_back("xnnpack", "of unstated version");
#endif
  return found;
}

}  // namespace pare::bench
