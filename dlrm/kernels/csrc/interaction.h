// The dot interaction: what its kernels are told of a batch and what they do.
#pragma once

#include <cstdint>

namespace dlrm {

// F vectors a row, the first one perhaps a tensor of its own, and the matrix that holds
// in each row: the kept vectors, the products of all pairs, then columns of zeros.
struct Pairs {
  const float* first;       // or null; rows of width floats
  int64_t first_stride;     // floats from row to row
  const float* others;      // [rows, num_others * width]
  int64_t others_stride;
  int64_t num_others;
  int64_t width;            // of a vector
  int64_t num_kept;         // the first of the F vectors
  int64_t num_columns;      // of the matrix, the zeros too
};

struct InteractionKernels {
  // Write rows [begin, end) of the matrix.
  void (*forward)(const Pairs& pairs, float* matrix, int64_t begin, int64_t end);
  // Write the vectors' gradient from that of rows [begin, end) of the matrix.
  void (*backward)(const Pairs& pairs, const float* gradient, int64_t gradient_stride,
                   float* first, float* others, int64_t begin, int64_t end);
};

}  // namespace dlrm
