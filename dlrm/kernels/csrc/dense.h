// What stands between the matrix products of dense layers, row by row.
#pragma once

#include <cstdint>

namespace dlrm {

struct DenseKernels {
  // values = max(values + bias, 0), or values + bias.
  void (*add_bias)(float* values, const float* bias, bool relu, int64_t rows,
                   int64_t width);
  // into = gradient where outputs are above 0, else 0; sums += into's columns. Without
  // outputs, sums alone. into may be the gradient itself.
  void (*mask_and_sum)(const float* gradient, int64_t gradient_stride,
                       const float* outputs, float* into, float* sums, int64_t rows,
                       int64_t width);
  // out = first * (product + bias) + values.
  void (*cross)(const float* product, const float* bias, const float* first,
                const float* values, float* out, int64_t rows, int64_t width);
  // product_gradient = gradient * first; sums += its columns; first_gradient =
  // gradient * (product + bias), added to what is there where asked for.
  void (*cross_backward)(const float* gradient, const float* product, const float* bias,
                         const float* first, float* product_gradient,
                         float* first_gradient, bool adds, float* sums, int64_t rows,
                         int64_t width);
};

}  // namespace dlrm
