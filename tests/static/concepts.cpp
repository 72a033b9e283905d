// SPDX-License-Identifier: Apache-2.0
// For each concept: an archetype that has what the concept asks for and nothing else, with which the library's
// functions are instantiated (they may not use more), and types that are not models.
#include <string>
#include <vector>

#include <Eigen/SparseCore>

#include <pare/allocate/allocator.hpp>
#include <pare/interop/eigen.hpp>
#include <pare/pare.hpp>

namespace archetype {

using pare::extents;
using pare::index_t;

/// A matrix that knows its elements' place and nothing else; not copyable.
struct grid {
  float* data;
  grid(grid const&) = delete;
};

struct pattern {
  [[nodiscard]] extents unit() const { return {1, 1}; }
  [[nodiscard]] index_t keep() const { return 0; }
  [[nodiscard]] index_t of() const { return 0; }
  friend bool operator==(pattern, pattern) = default;
};

struct statistic {
  explicit statistic(index_t) {}
  void add(pare::matrix_span<float const>) {}
  void merge(statistic const&) {}
};

struct criterion {
  using needs = pare::statistics<statistic>;
  explicit criterion(int) {}
  void score(pare::matrix_span<float const> const&, needs const&, pare::score_sink<float>) const {}
};

struct allocator {
  static constexpr bool needs_scores = true;
  [[nodiscard]] std::vector<pare::sparsity> allocate(std::vector<pare::layer_info> const& layers,
                                                     pare::sparsity s) const {
    return std::vector<pare::sparsity>(layers.size(), s);
  }
};

/// Stores nothing; movable only.
class format {
 public:
  using value_type = float;
  template <class P>
  static constexpr bool stores = true;
  static bool accepts(pare::mask const&) { return true; }
  static char const* name() { return "archetype"; }
  format(pare::matrix_span<float const> w, pare::mask const&) : shape_(w.shape()) {}
  format(format&&) = default;
  format& operator=(format&&) = default;
  [[nodiscard]] extents shape() const { return shape_; }
  [[nodiscard]] index_t nnz() const { return 0; }
  [[nodiscard]] index_t row_nnz(index_t) const { return 0; }
  [[nodiscard]] std::size_t bytes() const { return 0; }
  template <class F>
  void for_each_in_row(index_t, F&& f) const {
    if (shape_.size() < 0) f(index_t{0}, 0.0f);
  }

 private:
  extents shape_;
};

struct execution {
  [[nodiscard]] int concurrency() noexcept { return 1; }
  template <class Body>
  void parallel(index_t parts, Body&& body) {
    for (index_t p = 0; p < parts; ++p) body(p);
  }
};

struct epilogue {
  static constexpr bool is_epilogue = true;
  explicit epilogue(int) {}
  template <class V>
  V operator()(V v, index_t, index_t) const {
    return v;
  }
};

struct network {
  std::vector<pare::linear*> layers() { return {}; }
  [[nodiscard]] std::vector<pare::linear const*> layers() const { return {}; }
  [[nodiscard]] bool keeps_dense_by_default(pare::linear const&) const { return false; }
};

}  // namespace archetype

template <>
struct pare::matrix_traits<archetype::grid> {
  using element_type = float;
  static matrix_span<float> span(archetype::grid& g) { return {g.data, 2, 2}; }
  static matrix_span<float const> span(archetype::grid const& g) { return {g.data, 2, 2}; }
};

namespace {

using pare::index_t;
using pare::mask;
using pare::sparsity;

static_assert(pare::matrix_view<archetype::grid> && pare::matrix_view<archetype::grid const>);
static_assert(pare::sparsity_pattern<archetype::pattern>);
static_assert(pare::input_statistic<archetype::statistic>);
static_assert(pare::criterion<archetype::criterion>);
static_assert(pare::budget_allocator<archetype::allocator>);
static_assert(pare::sparse_format<archetype::format>);
static_assert(pare::execution<archetype::execution>);
static_assert(pare::epilogue<archetype::epilogue>);
static_assert(pare::network<archetype::network>);

/// Never called: it compiles, so the functions ask for no more than their concepts say.
[[maybe_unused]] void instantiate(archetype::grid& g, archetype::network& net, archetype::execution& exec) {
  archetype::criterion const by(1);
  archetype::criterion::needs stats(2);
  stats.add(pare::as_span(g));
  auto const scores = pare::score(g, by, stats);
  mask const keep =
      pare::select(scores, archetype::pattern{}, sparsity{0.5}, pare::default_scope<archetype::criterion>());
  (void)pare::admits(archetype::pattern{}, keep);
  (void)pare::nonzeros(g);
  pare::apply(keep, g);
  auto f = pare::compress<archetype::format>(g, keep);
  auto const other = pare::convert<pare::csr<float>>(f);
  auto const again = pare::convert<archetype::format>(other);
  pare::reference::matmul(again, pare::as_span(g), pare::as_mutable_span(g), archetype::epilogue(1));
  pare::matmul(f, g, g, archetype::epilogue(1) | pare::relu{} | archetype::epilogue(2), exec);
  auto const p = pare::prepare(std::move(f));
  pare::matmul(p, g, g, archetype::epilogue(1), exec);
  (void)pare::any_operand(pare::prepare(pare::compress<archetype::format>(g, keep)));
  pare::calibration<archetype::criterion::needs> const seen(net);
  (void)pare::prune(net, by, archetype::pattern{}, sparsity{0.5}, seen, archetype::allocator{});
  pare::prepare(net, {});
  pare::run_on(net, exec);
  (void)pare::count_weights(net);
  using layer = pare::pipeline<archetype::criterion, archetype::pattern, archetype::format, pare::relu>;
  auto const one = layer::from(g, sparsity{0.5}, stats, by);
  one(g, g, exec);
  one(archetype::epilogue(1), g, g, exec);
}

// --- matrix_view
static_assert(pare::matrix_view<Eigen::MatrixXf> && pare::matrix_view<Eigen::Map<Eigen::MatrixXf const>>);
static_assert(pare::matrix_view<decltype(std::declval<Eigen::MatrixXf&>().block(0, 0, 1, 1))>);
static_assert(
    !pare::matrix_view<decltype(std::declval<Eigen::MatrixXf&>() + std::declval<Eigen::MatrixXf&>())>);  // lazy
static_assert(!pare::matrix_view<Eigen::SparseMatrix<float>>);
static_assert(!pare::matrix_view<std::vector<float>> && !pare::matrix_view<float*>);
template <class M>
concept writable = requires(M& m) {
  { pare::matrix_traits<M>::span(m) } -> std::same_as<pare::matrix_span<float>>;
};
static_assert(writable<Eigen::MatrixXf> && !writable<Eigen::Map<Eigen::MatrixXf const>> &&
              !writable<Eigen::MatrixXf const>);
static_assert(std::is_convertible_v<pare::matrix_span<float>, pare::matrix_span<float const>>);
static_assert(!std::is_convertible_v<pare::matrix_span<float const>, pare::matrix_span<float>>);

// --- sparsity_pattern
struct pattern_with_int_unit : archetype::pattern {
  [[nodiscard]] int unit() const { return 1; }
};
struct pattern_without_equality {
  [[nodiscard]] pare::extents unit() const { return {1, 1}; }
  [[nodiscard]] index_t keep() const { return 0; }
  [[nodiscard]] index_t of() const { return 0; }
};
static_assert(!pare::sparsity_pattern<pattern_with_int_unit> && !pare::sparsity_pattern<pattern_without_equality>);
static_assert(!pare::sparsity_pattern<sparsity> && !std::is_convertible_v<double, sparsity>);
static_assert(!std::is_convertible_v<int, pare::any_pattern>);

// --- input_statistic, criterion
struct statistic_without_merge {
  explicit statistic_without_merge(index_t) {}
  void add(pare::matrix_span<float const>) {}
};
struct criterion_without_needs {
  void score(pare::matrix_span<float const> const&, pare::statistics<> const&, pare::score_sink<float>) const {}
};
struct criterion_that_changes {
  using needs = pare::statistics<>;
  void score(pare::matrix_span<float const> const&, needs const&, pare::score_sink<float>) {}  // not const
};
struct criterion_of_doubles {
  using needs = pare::statistics<>;
  void score(pare::matrix_span<float const> const&, needs const&, pare::score_sink<double>) const {}
};
static_assert(!pare::input_statistic<statistic_without_merge> && !pare::input_statistic<int>);
static_assert(!pare::criterion<criterion_without_needs> && !pare::criterion<criterion_that_changes> &&
              !pare::criterion<criterion_of_doubles>);
static_assert(pare::provides<pare::statistics<pare::input_norms>, pare::statistics<>>);
static_assert(pare::provides<pare::statistics<archetype::statistic, pare::input_norms>, pare::wanda::needs>);
static_assert(!pare::provides<pare::statistics<>, pare::wanda::needs>);
static_assert(!pare::provides<pare::statistics<archetype::statistic>, pare::wanda::needs>);

// --- budget_allocator
struct allocator_of_doubles {
  static constexpr bool needs_scores = false;
  [[nodiscard]] std::vector<double> allocate(std::vector<pare::layer_info> const&, sparsity) const { return {}; }
};
struct allocator_without_flag {
  [[nodiscard]] std::vector<sparsity> allocate(std::vector<pare::layer_info> const&, sparsity) const { return {}; }
};
static_assert(!pare::budget_allocator<allocator_of_doubles> && !pare::budget_allocator<allocator_without_flag>);
static_assert(pare::budget_allocator<pare::uniform> && pare::budget_allocator<pare::erk> &&
              pare::budget_allocator<pare::global>);

// --- sparse_format
struct format_of_integers : archetype::format {
  using value_type = int;
};
struct format_without_construction {
  using value_type = float;
};
static_assert(!pare::sparse_format<format_of_integers> && !pare::sparse_format<format_without_construction>);
static_assert(!pare::sparse_format<pare::matrix<float>> && !pare::sparse_format<mask>);

// --- execution, epilogue
struct execution_without_threads {
  void parallel(index_t, void (*)(index_t)) {}
};
struct execution_that_may_throw {
  int concurrency() { return 1; }  // not noexcept
  void parallel(index_t, void (*)(index_t)) {}
};
struct epilogue_without_flag {
  float operator()(float v, index_t, index_t) const { return v; }
};
struct epilogue_without_place {
  static constexpr bool is_epilogue = true;
  float operator()(float v) const { return v; }
};
static_assert(!pare::execution<execution_without_threads> && !pare::execution<execution_that_may_throw>);
static_assert(pare::execution<pare::thread_pool> && pare::execution<pare::execution_ref> &&
              pare::execution<pare::sequential>);
static_assert(!pare::epilogue<epilogue_without_flag> && !pare::epilogue<epilogue_without_place>);
static_assert(!pare::epilogue<float (*)(float, index_t, index_t)>);

// --- kernels: all in the registry are models, and one kind is not the other
struct kernel_with_state : pare::generic_spmm<pare::csr<float>> {
  int state = 0;
};
static_assert(!pare::spmm_kernel<kernel_with_state>);
static_assert(!pare::spmm_kernel<pare::generic_gemv<pare::csr<float>>> &&
              !pare::gemv_kernel<pare::generic_spmm<pare::csr<float>>>);
static_assert(!pare::gemv_kernel<pare::csr<float>>);
template <class... K>
constexpr bool all_kernels(pare::type_list<K...>) {
  return (((pare::spmm_kernel<K> ? 1 : 0) + (pare::few_columns_kernel<K> ? 1 : 0) + (pare::gemv_kernel<K> ? 1 : 0) +
               (pare::int8_kernel<K> ? 1 : 0) + (pare::int8_spmm_kernel<K> ? 1 : 0) ==
           1) &&
          ...);
}
template <class... O>
constexpr bool all_operands(pare::type_list<O...>) {
  return ((pare::operand<O> && all_kernels(typename pare::kernels_of<O>::list{})) && ...);
}
template <class... F>
constexpr bool all_sound(pare::type_list<F...>) {
  return ((pare::sparse_format<F> && all_operands(typename pare::operands_of<F>::type{})) && ...);
}
static_assert(all_sound(pare::format_list<float>{}) && all_sound(pare::format_list<pare::bf16>{}) &&
              all_sound(pare::type_list<pare::quantised<64>, pare::quantised<128>>{}));

// --- network
struct network_that_gives_values : archetype::network {
  std::vector<pare::linear> layers() { return {}; }
};
struct network_without_default {
  std::vector<pare::linear*> layers() { return {}; }
  [[nodiscard]] std::vector<pare::linear const*> layers() const { return {}; }
};
static_assert(!pare::network<network_that_gives_values> && !pare::network<network_without_default> &&
              !pare::network<pare::linear>);

}  // namespace
