// The operators between the matrix products of dense layers.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "column_sums.h"
#include "kernels.h"
#include "over_rows.h"

namespace {

using at::Tensor;

using dlrm::kRowsPerSum;

void check_matrix(const Tensor& matrix) {
  TORCH_CHECK(matrix.scalar_type() == at::kFloat && matrix.dim() == 2);
  TORCH_CHECK(matrix.is_contiguous(), "a matrix must be contiguous");
}

void check_like(const Tensor& matrix, const Tensor& other) {
  check_matrix(matrix);
  TORCH_CHECK(matrix.sizes() == other.sizes(), "matrices must have one shape");
}

void check_bias(const Tensor& bias, const Tensor& matrix) {
  TORCH_CHECK(bias.scalar_type() == at::kFloat && bias.is_contiguous());
  TORCH_CHECK(bias.dim() == 1 && bias.numel() == matrix.size(1));
}

// Call task(first, count, sums) for all blocks of rows; return the sum of their sums.
template <typename Task>
Tensor column_sums(const Tensor& like, int64_t rows, int64_t width, const Task& task) {
  const int64_t blocks = dlrm::blocks_of_sums(rows);
  Tensor partial = at::zeros({blocks, width}, like.options());
  float* sums = partial.data_ptr<float>();
  dlrm::over_rows(blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kRowsPerSum;
      task(first, std::min(kRowsPerSum, rows - first), sums + block * width);
    }
  });
  return dlrm::total_of_blocks(partial);
}

void add_bias_(Tensor& values, const Tensor& bias, bool relu) {
  check_matrix(values);
  check_bias(bias, values);
  const int64_t width = values.size(1);
  float* data = values.data_ptr<float>();
  dlrm::over_rows(values.size(0), kRowsPerSum, [&](int64_t begin, int64_t end) {
    dlrm::kernels().dense.add_bias(data + begin * width, bias.const_data_ptr<float>(),
                                   relu, end - begin, width);
  });
}

Tensor mask_and_sum(const Tensor& gradient, const std::optional<Tensor>& outputs,
                    Tensor& into) {
  TORCH_CHECK(gradient.scalar_type() == at::kFloat && gradient.dim() == 2);
  TORCH_CHECK(gradient.stride(1) == 1 || gradient.size(1) <= 1 || !gradient.numel());
  if (outputs) {
    check_like(*outputs, gradient);
    check_like(into, gradient);
  }
  const int64_t width = gradient.size(1), stride = gradient.stride(0);
  const float* given = gradient.const_data_ptr<float>();
  const float* seen = outputs ? outputs->const_data_ptr<float>() : nullptr;
  float* out = outputs ? into.data_ptr<float>() : nullptr;
  return column_sums(gradient, gradient.size(0), width,
                     [&](int64_t first, int64_t count, float* sums) {
                       const int64_t at = first * width;
                       dlrm::kernels().dense.mask_and_sum(
                           given + first * stride, stride, seen ? seen + at : nullptr,
                           out ? out + at : nullptr, sums, count, width);
                     });
}

Tensor cross(const Tensor& product, const Tensor& bias, const Tensor& first,
             const Tensor& values) {
  check_matrix(product);
  check_bias(bias, product);
  check_like(first, product);
  check_like(values, product);
  Tensor out = at::empty_like(product);
  const int64_t width = product.size(1);
  float* data = out.data_ptr<float>();
  dlrm::over_rows(product.size(0), kRowsPerSum, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * width;
    dlrm::kernels().dense.cross(product.const_data_ptr<float>() + at,
                                bias.const_data_ptr<float>(),
                                first.const_data_ptr<float>() + at,
                                values.const_data_ptr<float>() + at, data + at,
                                end - begin, width);
  });
  return out;
}

// The product's gradient, and the bias's; the first input's is written or added.
std::tuple<Tensor, Tensor> cross_backward(const Tensor& gradient, const Tensor& product,
                                          const Tensor& bias, const Tensor& first,
                                          Tensor& first_gradient, bool adds) {
  check_matrix(gradient);
  check_bias(bias, gradient);
  for (const Tensor& other : {product, first, first_gradient}) check_like(other, gradient);
  Tensor of_product = at::empty_like(gradient);
  const int64_t width = gradient.size(1);
  float* product_out = of_product.data_ptr<float>();
  float* first_out = first_gradient.data_ptr<float>();
  Tensor of_bias = column_sums(
      gradient, gradient.size(0), width, [&](int64_t row, int64_t count, float* sums) {
        const int64_t at = row * width;
        dlrm::kernels().dense.cross_backward(
            gradient.const_data_ptr<float>() + at, product.const_data_ptr<float>() + at,
            bias.const_data_ptr<float>(), first.const_data_ptr<float>() + at,
            product_out + at, first_out + at, adds, sums, count, width);
      });
  return {of_product, of_bias};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(dlrm, m) {
  m.def("add_bias_(Tensor(a!) values, Tensor bias, bool relu) -> ()");
  m.def("mask_and_sum(Tensor gradient, Tensor? outputs, Tensor(a!) into) -> Tensor");
  m.def("cross(Tensor product, Tensor bias, Tensor first, Tensor values) -> Tensor");
  m.def(
      "cross_backward(Tensor gradient, Tensor product, Tensor bias, Tensor first, "
      "Tensor(a!) first_gradient, bool adds) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(dlrm, CPU, m) {
  m.impl("add_bias_", &add_bias_);
  m.impl("mask_and_sum", &mask_and_sum);
  m.impl("cross", &cross);
  m.impl("cross_backward", &cross_backward);
}
