// SPDX-License-Identifier: Apache-2.0
// The dense libraries of others, where they are found: OpenBLAS and oneDNN, one thread each, float weights.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include <pare/core/matrix.hpp>

#include "contest.hpp"

#if defined(PARE_BENCH_OPENBLAS)
#include <cblas.h>
#endif
#if defined(PARE_BENCH_ONEDNN)
#include <dnnl.hpp>
#endif

namespace pare::bench {

/// Y = W X of one size. w (M, K) row-major; `token_major`: x is (N, K) and y (N, M), else (K, N) and (M, N), without
/// gaps. y must be a matrix of the peer's own; everything must outlive the contender.
struct peer_product {
  matrix_span<float const> w;
  float const* x;
  float* y;
  index_t columns;
  bool token_major;
};

#if defined(PARE_BENCH_OPENBLAS)
inline contender openblas(peer_product const& p) {
  return {"openblas", [p] {
            auto const m = static_cast<blasint>(p.w.rows);
            auto const k = static_cast<blasint>(p.w.cols);
            auto const n = static_cast<blasint>(p.columns);
            if (n == 1) {
              cblas_sgemv(CblasRowMajor, CblasNoTrans, m, k, 1.0f, p.w.data, k, p.x, 1, 0.0f, p.y, 1);
            } else if (p.token_major) {
              cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, m, k, 1.0f, p.x, k, p.w.data, k, 0.0f, p.y, m);
            } else {
              cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1.0f, p.w.data, k, p.x, n, 0.0f, p.y, n);
            }
          }};
}
#endif

#if defined(PARE_BENCH_ONEDNN)
/// One oneDNN matmul. Token-major (and for one column, where both layouts are one) the weights are packed beforehand as
/// oneDNN likes them; feature-major it multiplies W as it is, which is faster there than to transpose the result.
class onednn_product {
 public:
  explicit onednn_product(peer_product const& p) {
    using dnnl::memory;
    using tag = memory::format_tag;
    auto const plain = [&](index_t rows, index_t cols, tag t) {
      return memory::desc({rows, cols}, memory::data_type::f32, t);
    };
    auto const wrap = [&](memory::desc const& d, float const* data) {
      return memory(d, engine_, const_cast<float*>(data));  // sources are only read
    };
    index_t const m = p.w.rows;
    index_t const k = p.w.cols;
    index_t const n = p.columns;
    bool const packs = p.token_major || n == 1;
    memory::desc const left = packs ? plain(n, k, tag::ab) : plain(m, k, tag::ab);
    memory::desc const right = packs ? plain(k, m, tag::any) : plain(k, n, tag::ab);
    memory::desc const out = packs ? plain(n, m, tag::ab) : plain(m, n, tag::ab);
#if DNNL_VERSION_MAJOR >= 3
    dnnl::matmul::primitive_desc const chosen(engine_, left, right, out);
#else
    dnnl::matmul::primitive_desc const chosen(dnnl::matmul::desc(left, right, out), engine_);
#endif
    product_ = dnnl::matmul(chosen);
    memory factor = packs ? memory(chosen.weights_desc(), engine_) : wrap(right, p.x);
    if (packs) {
      memory given = wrap(plain(k, m, tag::ba), p.w.data);
      dnnl::reorder(given, factor).execute(stream_, given, factor);
      stream_.wait();
    }
    arguments_ = {
        {DNNL_ARG_SRC, wrap(left, packs ? p.x : p.w.data)}, {DNNL_ARG_WEIGHTS, factor}, {DNNL_ARG_DST, wrap(out, p.y)}};
  }
  void operator()() {
    product_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::matmul product_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

inline contender onednn(peer_product const& p) {
  return {"onednn", [product = std::make_shared<onednn_product>(p)] { (*product)(); }};
}
#endif

/// The peers of this build.
inline std::vector<contender> peers([[maybe_unused]] peer_product const& p) {
  std::vector<contender> found;
#if defined(PARE_BENCH_OPENBLAS)
  found.push_back(openblas(p));
#endif
#if defined(PARE_BENCH_ONEDNN)
  found.push_back(onednn(p));
#endif
  return found;
}

}  // namespace pare::bench
