// Linear layers behind one another, each thread taking rows of its own through all of them.
//
// A matrix product that threads share ends with all of them waiting for the last, and what
// one has written another reads. Rows of one thread stay in its cache from layer to layer,
// and threads meet once a pass.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <exception>
#include <tuple>
#include <vector>

#include "column_sums.h"
#include "kernels.h"
#include "over_rows.h"

namespace {

using at::Tensor;
using at::TensorList;

using dlrm::kRowsPerSum;
// Input columns below which a weight's gradient is computed turned over: several times as
// fast in MKL. As in dlrm/layers/dense_passes.py.
constexpr int64_t kNarrow = 32;

void check_chain(const Tensor& input, TensorList weights, int64_t parts) {
  TORCH_CHECK(!weights.empty() && parts >= 1);
  TORCH_CHECK(input.scalar_type() == at::kFloat && input.dim() == 2);
  int64_t width = input.size(1);
  for (const Tensor& weight : weights) {
    TORCH_CHECK(weight.scalar_type() == at::kFloat && weight.dim() == 2);
    TORCH_CHECK(weight.size(1) == width, "layers must follow one another");
    width = weight.size(0);
  }
}

// Call task(part, first row, number of rows) for all parts, each on one thread.
template <typename Task>
void over_parts(int64_t rows, int64_t parts, const Task& task) {
  const int64_t blocks = dlrm::blocks_of_sums(rows);
  const int64_t size = (blocks + parts - 1) / parts * kRowsPerSum;
  std::vector<std::exception_ptr> errors(parts);
  dlrm::over_rows(parts, 1, [&](int64_t begin, int64_t end) {
    at::AutoDispatchBelowADInplaceOrView guard;
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = std::min(rows, part * size);
      try {
        task(part, first, std::min(size, rows - first));
      } catch (...) {
        errors[part] = std::current_exception();
      }
    }
  });
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

// Each layer's output [B, O] after its ReLU; the last has one only where asked for.
std::vector<Tensor> linear_chain(const Tensor& input, TensorList weights, TensorList biases,
                                 bool last_relu, int64_t parts) {
  check_chain(input, weights, parts);
  TORCH_CHECK(biases.size() == weights.size());
  const int64_t rows = input.size(0);
  std::vector<Tensor> outputs;
  for (size_t layer = 0; layer < weights.size(); ++layer) {
    const int64_t width = weights[layer].size(0);
    TORCH_CHECK(biases[layer].scalar_type() == at::kFloat && biases[layer].is_contiguous());
    TORCH_CHECK(biases[layer].numel() == width);
    outputs.push_back(at::empty({rows, width}, input.options()));
  }
  over_parts(rows, parts, [&](int64_t, int64_t first, int64_t count) {
    Tensor values = input.narrow(0, first, count);
    for (size_t layer = 0; layer < weights.size(); ++layer) {
      Tensor output = outputs[layer].narrow(0, first, count);
      at::mm_out(output, values, weights[layer].t());
      const bool relu = last_relu || layer + 1 < weights.size();
      dlrm::kernels().dense.add_bias(output.data_ptr<float>(),
                                     biases[layer].const_data_ptr<float>(), relu, count,
                                     output.size(1));
      values = output;
    }
  });
  return outputs;
}

// The gradients by the input, which is empty where not asked for, and by each layer's
// weight and bias in turn. There are as many outputs as layers have a ReLU.
std::tuple<Tensor, std::vector<Tensor>> linear_chain_backward(
    const Tensor& gradient, const Tensor& input, TensorList weights, TensorList outputs,
    bool of_input, int64_t parts) {
  check_chain(input, weights, parts);
  const int64_t rows = input.size(0), layers = weights.size();
  TORCH_CHECK(gradient.scalar_type() == at::kFloat && gradient.is_contiguous());
  TORCH_CHECK(gradient.size(0) == rows && gradient.size(1) == weights.back().size(0));
  TORCH_CHECK(static_cast<int64_t>(outputs.size()) >= layers - 1);
  const bool last_relu = static_cast<int64_t>(outputs.size()) == layers;
  const int64_t blocks = dlrm::blocks_of_sums(rows);

  std::vector<Tensor> of_outputs, of_biases;
  std::vector<std::vector<Tensor>> of_weights(layers);
  for (int64_t layer = 0; layer < layers; ++layer) {
    const int64_t out = weights[layer].size(0), in = weights[layer].size(1);
    const bool given = layer == layers - 1 && !last_relu;
    of_outputs.push_back(given ? gradient : at::empty({rows, out}, input.options()));
    const bool turned = in < kNarrow && kNarrow < out;
    for (int64_t part = 0; part < parts; ++part)
      of_weights[layer].push_back(turned ? at::empty({in, out}, input.options())
                                         : at::empty({out, in}, input.options()));
    of_biases.push_back(at::zeros({blocks, out}, input.options()));
  }
  Tensor input_gradient = at::empty(of_input ? input.sizes() : at::IntArrayRef{0, 0},
                                    input.options());

  over_parts(rows, parts, [&](int64_t part, int64_t first, int64_t count) {
    for (int64_t layer = layers - 1; layer >= 0; --layer) {
      const bool last = layer == layers - 1, relu = !last || last_relu;
      const int64_t width = weights[layer].size(0);
      Tensor own = of_outputs[layer].narrow(0, first, count);
      // What comes from outside is left as it is: others may read it.
      const float* from = (last ? gradient : of_outputs[layer]).const_data_ptr<float>();
      const float* seen = relu ? outputs[layer].const_data_ptr<float>() : nullptr;
      float* into = relu ? of_outputs[layer].data_ptr<float>() : nullptr;
      for (int64_t row = first; row < first + count; row += kRowsPerSum) {
        const int64_t at = row * width;
        dlrm::kernels().dense.mask_and_sum(
            from + at, width, seen ? seen + at : nullptr, into ? into + at : nullptr,
            of_biases[layer].data_ptr<float>() + row / kRowsPerSum * width,
            std::min(kRowsPerSum, first + count - row), width);
      }
      const Tensor below = (layer ? outputs[layer - 1] : input).narrow(0, first, count);
      Tensor& of_weight = of_weights[layer][part];
      if (of_weight.size(0) == width)
        at::mm_out(of_weight, own.t(), below);
      else
        at::mm_out(of_weight, below.t(), own);
      if (layer == 0 && !of_input) break;
      Tensor next = (layer ? of_outputs[layer - 1] : input_gradient).narrow(0, first, count);
      at::mm_out(next, own, weights[layer]);
    }
  });

  std::vector<Tensor> found;
  for (int64_t layer = 0; layer < layers; ++layer) {
    Tensor of_weight = of_weights[layer][0];
    for (int64_t part = 1; part < parts; ++part) of_weight.add_(of_weights[layer][part]);
    if (of_weight.sizes() != weights[layer].sizes()) of_weight = of_weight.t().contiguous();
    found.push_back(of_weight);
    found.push_back(dlrm::total_of_blocks(of_biases[layer]));
  }
  return {input_gradient, found};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(dlrm, m) {
  m.def(
      "linear_chain(Tensor input, Tensor[] weights, Tensor[] biases, bool last_relu, "
      "int parts) -> Tensor[]");
  m.def(
      "linear_chain_backward(Tensor gradient, Tensor input, Tensor[] weights, "
      "Tensor[] outputs, bool of_input, int parts) -> (Tensor, Tensor[])");
}

TORCH_LIBRARY_IMPL(dlrm, CPU, m) {
  m.impl("linear_chain", &linear_chain);
  m.impl("linear_chain_backward", &linear_chain_backward);
}
