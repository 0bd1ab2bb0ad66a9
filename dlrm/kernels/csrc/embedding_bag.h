// Tables of float32 rows behind one lookup: what their kernels are told and what they do.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dlrm {

struct Table {
  float* weight;     // [num_rows, dim]
  int64_t num_rows;  // below 2^31
  int64_t dim;
  float* state[2];   // of the optimizer, [num_rows] or [num_rows, dim]
};

// Features of one table stand side by side.
struct Feature {
  int64_t table;
  int64_t column;  // where its vectors start in an output row
};

enum class Pooling { sum, mean, none };

// A batch of bags, feature by feature, then example by example: bag f * batch_size + b.
// There are fewer than 2^32 bags and ids.
struct Bags {
  const Table* tables;
  int64_t num_tables;
  const Feature* features;
  int64_t num_features;
  int64_t batch_size;
  const void* ids;      // [N], each a row of its feature's table
  const void* offsets;  // [bags + 1]
  bool ids_are_long;    // int64, else int32
  bool offsets_are_long;
  int64_t num_ids;
  const float* weights;  // [N], or null; with Pooling::sum alone
  Pooling pooling;
};

enum class Optimizer { sgd, adagrad, rowwise_adagrad, adam, partial_rowwise_adam };

// One step of an optimizer, by the formulas of dlrm/embeddings/row_updates.py.
struct Step {
  Optimizer optimizer;
  float lr;
  float eps;
  float weight_decay;
  float beta1;
  float beta2;
  float rest1;  // 1 - beta1, and below of beta2, rounded once: 1 - 0.999f is 1e-5 off
  float rest2;
  float correction1;  // 1 - beta1^t
  float correction2;
};

struct EmbeddingKernels {
  // Write each bag's sum or mean to output[example * stride + column], or where nothing is
  // pooled each id's row to output[id * stride]. Returns whether all ids are rows of
  // their tables; the output is of no use where they are not.
  bool (*pool)(const Bags& bags, float* output, int64_t stride);

  // Write the gradient of each id's weight, from that of the output, which pool's stride.
  void (*weight_gradients)(const Bags& bags, const float* gradient, int64_t stride,
                           float* output);

  // Bytes that update works in.
  size_t (*update_scratch)(const Bags& bags);

  // Take one step on every row in use, with the sum of its uses' gradients.
  void (*update)(const Bags& bags, const float* gradient, int64_t stride,
                 const Step& step, void* scratch);
};

}  // namespace dlrm
