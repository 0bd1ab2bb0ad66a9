// The operators of the dot interaction.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "kernels.h"
#include "over_rows.h"

namespace {

using at::Tensor;

constexpr int64_t kRowsPerTask = 32;

void check_rows(const Tensor& matrix) {
  TORCH_CHECK(matrix.scalar_type() == at::kFloat && matrix.dim() == 2);
  const bool in_rows = matrix.stride(1) == 1 || matrix.size(1) <= 1 || !matrix.numel();
  TORCH_CHECK(in_rows, "rows must be contiguous");
}

dlrm::Pairs pairs_of(const std::optional<Tensor>& first, const Tensor& others,
                     int64_t width, int64_t num_kept, int64_t padding) {
  check_rows(others);
  TORCH_CHECK(width > 0 && padding >= 0 && others.size(1) % width == 0);
  if (first) {
    check_rows(*first);
    TORCH_CHECK(first->size(0) == others.size(0) && first->size(1) == width);
  }
  const int64_t num_others = others.size(1) / width;
  const int64_t count = num_others + (first ? 1 : 0);
  TORCH_CHECK(num_kept >= 0 && num_kept <= count);
  return {first ? first->const_data_ptr<float>() : nullptr,
          first ? first->stride(0) : 0,
          others.const_data_ptr<float>(),
          others.stride(0),
          num_others,
          width,
          num_kept,
          num_kept * width + count * (count - 1) / 2 + padding};
}

Tensor dot_pairs(const std::optional<Tensor>& first, const Tensor& others, int64_t width,
                 int64_t num_kept, int64_t padding) {
  const dlrm::Pairs pairs = pairs_of(first, others, width, num_kept, padding);
  Tensor matrix = at::empty({others.size(0), pairs.num_columns}, others.options());
  float* out = matrix.data_ptr<float>();
  dlrm::over_rows(others.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
    dlrm::kernels().interaction.forward(pairs, out, begin, end);
  });
  return matrix;
}

// The gradient of the first vector, empty without one, and of the others.
std::tuple<Tensor, Tensor> dot_pairs_backward(const Tensor& gradient,
                                              const std::optional<Tensor>& first,
                                              const Tensor& others, int64_t width,
                                              int64_t num_kept, int64_t padding) {
  const dlrm::Pairs pairs = pairs_of(first, others, width, num_kept, padding);
  check_rows(gradient);
  TORCH_CHECK(gradient.size(0) == others.size(0));
  TORCH_CHECK(gradient.size(1) == pairs.num_columns);
  Tensor of_first = at::empty({first ? others.size(0) : 0, width}, others.options());
  Tensor of_others = at::empty(others.sizes(), others.options());
  float* first_out = of_first.data_ptr<float>();
  float* others_out = of_others.data_ptr<float>();
  dlrm::over_rows(others.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
    dlrm::kernels().interaction.backward(pairs, gradient.const_data_ptr<float>(),
                                         gradient.stride(0), first_out, others_out,
                                         begin, end);
  });
  return {of_first, of_others};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(dlrm, m) {
  m.def(
      "dot_pairs(Tensor? first, Tensor others, int width, int num_kept, int padding) "
      "-> Tensor");
  m.def(
      "dot_pairs_backward(Tensor gradient, Tensor? first, Tensor others, int width, "
      "int num_kept, int padding) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(dlrm, CPU, m) {
  m.impl("dot_pairs", &dot_pairs);
  m.impl("dot_pairs_backward", &dot_pairs_backward);
}
