// SPDX-License-Identifier: Apache-2.0
// The dense libraries of others, where they are found: OpenBLAS, oneDNN and Eigen, one thread each.
#pragma once

#include <memory>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <pare/core/dtype.hpp>
#include <pare/core/matrix.hpp>

#include <Eigen/Core>

#include "contender.hpp"

#if defined(PARE_BENCH_OPENBLAS)
#include <cblas.h>
#endif
#if defined(PARE_BENCH_ONEDNN)
#include <dnnl.hpp>
#endif

namespace pare::bench {

/// Y = W X of one size. w (M, K) row-major; `token_major`: x is (N, K) and y (N, M), else (K, N) and (M, N), without
/// gaps. y must be a matrix of the peer's own; everything must outlive the contender.
template <weight_value T>
struct peer_product_of {
  matrix_span<T const> w;
  T const* x;  // peers that know bf16 want it for both factors
  float* y;
  index_t columns;
  bool token_major;
};
using peer_product = peer_product_of<float>;

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
  template <weight_value T>
  explicit onednn_product(peer_product_of<T> const& p) {
    using dnnl::memory;
    using tag = memory::format_tag;
    using type = memory::data_type;
    constexpr type in = std::is_same_v<T, float> ? type::f32 : type::bf16;
    auto const plain = [](index_t rows, index_t cols, tag t, type of) { return memory::desc({rows, cols}, of, t); };
    auto const wrap = [&](memory::desc const& d, void const* data) {
      return memory(d, engine_, const_cast<void*>(data));  // sources are only read
    };
    index_t const m = p.w.rows;
    index_t const k = p.w.cols;
    index_t const n = p.columns;
    bool const packs = p.token_major || n == 1;
    memory::desc const left = packs ? plain(n, k, tag::ab, in) : plain(m, k, tag::ab, in);
    memory::desc const right = packs ? plain(k, m, tag::any, in) : plain(k, n, tag::ab, in);
    memory::desc const out = packs ? plain(n, m, tag::ab, type::f32) : plain(m, n, tag::ab, type::f32);
#if DNNL_VERSION_MAJOR >= 3
    dnnl::matmul::primitive_desc const chosen(engine_, left, right, out);
#else
    dnnl::matmul::primitive_desc const chosen(dnnl::matmul::desc(left, right, out), engine_);
#endif
    product_ = dnnl::matmul(chosen);
    memory factor = packs ? memory(chosen.weights_desc(), engine_) : wrap(right, p.x);
    if (packs) {
      memory given = wrap(plain(k, m, tag::ba, in), p.w.data);
      dnnl::reorder(given, factor).execute(stream_, given, factor);
      stream_.wait();
    }
    void const* const source = packs ? p.x : p.w.data;
    arguments_ = {{DNNL_ARG_SRC, wrap(left, source)}, {DNNL_ARG_WEIGHTS, factor}, {DNNL_ARG_DST, wrap(out, p.y)}};
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

template <weight_value T>
contender onednn(peer_product_of<T> const& p) {
  return {"onednn", [product = std::make_shared<onednn_product>(p)] { (*product)(); }};
}
#endif

template <int Order>
using eigen_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Order>;

inline contender eigen(peer_product const& p) {
  return {"eigen", [p] {
            using rows = eigen_matrix<Eigen::RowMajor>;
            using cols = eigen_matrix<Eigen::ColMajor>;
            Eigen::Map<rows const> const w(p.w.data, p.w.rows, p.w.cols);
            if (p.columns == 1) {
              Eigen::Map<Eigen::VectorXf const> const x(p.x, p.w.cols);
              Eigen::Map<Eigen::VectorXf>(p.y, p.w.rows).noalias() = w * x;
            } else if (p.token_major) {
              Eigen::Map<cols const> const x(p.x, p.w.cols, p.columns);
              Eigen::Map<cols>(p.y, p.w.rows, p.columns).noalias() = w * x;
            } else {
              Eigen::Map<rows const> const x(p.x, p.w.cols, p.columns);
              Eigen::Map<rows>(p.y, p.w.rows, p.columns).noalias() = w * x;
            }
          }};
}

/// The peers of this build that multiply weights of type T.
template <weight_value T>
std::vector<contender> peers([[maybe_unused]] peer_product_of<T> const& p) {
  std::vector<contender> found;
  if constexpr (std::is_same_v<T, float>) {
#if defined(PARE_BENCH_OPENBLAS)
    found.push_back(openblas(p));
#endif
    found.push_back(eigen(p));
  }
#if defined(PARE_BENCH_ONEDNN)
  try {
    found.push_back(onednn(p));
  } catch (dnnl::error const&) {
    // no kernel for this type on this CPU
  }
#endif
  return found;
}

/// Names and versions, with the kernels where the library chooses among them.
inline std::vector<std::pair<std::string, std::string>> dense_peer_versions() {
  std::vector<std::pair<std::string, std::string>> found;
#if defined(PARE_BENCH_OPENBLAS)
  found.emplace_back("openblas", std::string(openblas_get_config()) + ", kernels " + openblas_get_corename());
#endif
#if defined(PARE_BENCH_ONEDNN)
  auto const* const version = dnnl::version();
  found.emplace_back("onednn", std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
                                   std::to_string(version->patch));
#endif
  found.emplace_back("eigen", std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
                                  std::to_string(EIGEN_MINOR_VERSION));
  return found;
}

}  // namespace pare::bench
