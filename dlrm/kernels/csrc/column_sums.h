// Sums over rows that come out the same to the bit, however the rows are shared out.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <cstdint>

namespace dlrm {

// They are made of the sums of as many rows, whatever the number of threads.
constexpr int64_t kRowsPerSum = 128;

inline int64_t blocks_of_sums(int64_t rows) { return (rows + kRowsPerSum - 1) / kRowsPerSum; }

// The sum over the blocks of partial sums [blocks, width], in their order.
inline at::Tensor total_of_blocks(const at::Tensor& partial) {
  const int64_t width = partial.size(1);
  at::Tensor total = at::zeros({width}, partial.options());
  const float* sums = partial.const_data_ptr<float>();
  float* out = total.data_ptr<float>();
  for (int64_t block = 0; block < partial.size(0); ++block)
    for (int64_t c = 0; c < width; ++c) out[c] += sums[block * width + c];
  return total;
}

}  // namespace dlrm
