// The operators of tables: tensors are checked here and taken apart to pointers.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <memory>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "kernels.h"

namespace {

using at::Tensor;

constexpr int64_t kMostRows = int64_t{1} << 31;
constexpr int64_t kMostIds = int64_t{1} << 32;

float* rows_of(const Tensor& tensor) {
  TORCH_CHECK(tensor.scalar_type() == at::kFloat && tensor.is_contiguous(),
              "rows and their state must be contiguous and float32");
  return tensor.data_ptr<float>();
}

bool is_long(const Tensor& numbers) {
  TORCH_CHECK(numbers.is_contiguous());
  TORCH_CHECK(numbers.scalar_type() == at::kLong || numbers.scalar_type() == at::kInt);
  return numbers.scalar_type() == at::kLong;
}

// A batch and its tables, as the kernels see them.
struct Lookup {
  std::vector<dlrm::Table> tables;
  std::vector<dlrm::Feature> features;
  dlrm::Bags bags = {};
  int64_t width = 0;  // of an output row

  Lookup(at::TensorList weights, at::IntArrayRef table_of_feature, const Tensor& ids,
         const Tensor& offsets, const std::optional<Tensor>& factors, int64_t pooling) {
    at::get_num_threads();  // Gives this thread torch's number of threads.
    for (const Tensor& weight : weights) {
      TORCH_CHECK(weight.dim() == 2 && weight.size(0) < kMostRows);
      tables.push_back({rows_of(weight), weight.size(0), weight.size(1), {}});
    }
    int64_t last = 0;
    for (const int64_t table : table_of_feature) {
      TORCH_CHECK(last <= table && table < (int64_t)tables.size());
      features.push_back({table, width});
      width += tables[table].dim;
      last = table;
    }
    const int64_t num_features = features.size(), num_bags = offsets.numel() - 1;
    TORCH_CHECK(num_features > 0 && num_bags >= 0 && num_bags % num_features == 0);
    TORCH_CHECK(ids.numel() < kMostIds && num_bags < kMostIds);
    bags = {tables.data(), (int64_t)tables.size(), features.data(), num_features,
            num_bags / num_features, ids.const_data_ptr(), offsets.const_data_ptr(),
            is_long(ids), is_long(offsets), ids.numel(), nullptr,
            (dlrm::Pooling)pooling};
    if (bags.pooling == dlrm::Pooling::none) width = tables[0].dim;
    if (factors) {
      TORCH_CHECK(factors->numel() == ids.numel() && bags.pooling == dlrm::Pooling::sum);
      bags.weights = rows_of(*factors);
    }
  }

  // The gradient of what pool returned, its rows contiguous in themselves.
  Tensor checked(const Tensor& gradient) const {
    const bool pooled = bags.pooling != dlrm::Pooling::none;
    const int64_t num_rows = pooled ? bags.batch_size : bags.num_ids;
    TORCH_CHECK(gradient.dim() == 2 && gradient.size(0) == num_rows);
    TORCH_CHECK(gradient.size(1) == width && gradient.scalar_type() == at::kFloat);
    return gradient.stride(1) == 1 ? gradient : gradient.contiguous();
  }
};

Tensor pool(at::TensorList tables, at::IntArrayRef table_of_feature, const Tensor& ids,
            const Tensor& offsets, const std::optional<Tensor>& weights,
            int64_t pooling) {
  const Lookup lookup(tables, table_of_feature, ids, offsets, weights, pooling);
  const bool pooled = lookup.bags.pooling != dlrm::Pooling::none;
  const int64_t num_rows = pooled ? lookup.bags.batch_size : lookup.bags.num_ids;
  Tensor output = at::empty({num_rows, lookup.width}, tables[0].options());
  const bool good = dlrm::kernels().embedding.pool(
      lookup.bags, output.data_ptr<float>(), lookup.width);
  TORCH_CHECK_INDEX(good, "An id is out of its table's range.");
  return output;
}

Tensor weight_gradients(at::TensorList tables, at::IntArrayRef table_of_feature,
                        const Tensor& ids, const Tensor& offsets,
                        const Tensor& gradient) {
  const Lookup lookup(tables, table_of_feature, ids, offsets, std::nullopt, 0);
  const Tensor given = lookup.checked(gradient);
  Tensor output = at::empty({ids.numel()}, given.options());
  dlrm::kernels().embedding.weight_gradients(lookup.bags, given.const_data_ptr<float>(),
                                             given.stride(0), output.data_ptr<float>());
  return output;
}

// Memory that is kept from step to step: mapped anew it would cost more than the sort.
void* scratch(size_t size) {
  thread_local std::unique_ptr<char[]> memory;
  thread_local size_t held = 0;
  if (size > held) {
    memory.reset();
    held = size + size / 4;
    memory.reset(new char[held + 64]);
  }
  return (void*)(((uintptr_t)memory.get() + 63) / 64 * 64);
}

void update(at::TensorList tables, at::TensorList first_states,
            at::TensorList second_states, at::IntArrayRef table_of_feature,
            const Tensor& ids, const Tensor& offsets,
            const std::optional<Tensor>& weights, int64_t pooling,
            const Tensor& gradient, int64_t optimizer, at::ArrayRef<double> constants) {
  Lookup lookup(tables, table_of_feature, ids, offsets, weights, pooling);
  const at::TensorList states[] = {first_states, second_states};
  for (int which = 0; which < 2; ++which) {
    for (size_t t = 0; t < states[which].size(); ++t)
      lookup.tables.at(t).state[which] = rows_of(states[which][t]);
  }
  TORCH_CHECK(constants.size() == 9);
  const auto constant = [&](int which) { return (float)constants[which]; };
  const dlrm::Step step = {(dlrm::Optimizer)optimizer,
                           constant(0), constant(1), constant(2), constant(3), constant(4),
                           constant(5), constant(6), constant(7), constant(8)};
  const Tensor given = lookup.checked(gradient);
  const dlrm::EmbeddingKernels& kernels = dlrm::kernels().embedding;
  kernels.update(lookup.bags, given.const_data_ptr<float>(), given.stride(0), step,
                 scratch(kernels.update_scratch(lookup.bags)));
}

// Ask for large pages under a tensor that is not written to yet: random rows of a large
// table else cost a walk of the page table each.
void advise_huge_pages(const Tensor& tensor) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHuge = 2 << 20;
  const uintptr_t start = (uintptr_t)tensor.const_data_ptr();
  const uintptr_t first = (start + kHuge - 1) / kHuge * kHuge;
  const uintptr_t last = (start + tensor.nbytes()) / kHuge * kHuge;
  // Advice that the kernel does not take changes nothing.
  if (first < last) (void)madvise((void*)first, last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(dlrm, m) {
  m.def(
      "embedding_pool(Tensor[] tables, int[] table_of_feature, Tensor ids, "
      "Tensor offsets, Tensor? weights, int pooling) -> Tensor");
  m.def(
      "embedding_weight_gradients(Tensor[] tables, int[] table_of_feature, Tensor ids, "
      "Tensor offsets, Tensor gradient) -> Tensor");
  m.def(
      "embedding_update(Tensor(a!)[] tables, Tensor(b!)[] first_states, "
      "Tensor(c!)[] second_states, int[] table_of_feature, Tensor ids, Tensor offsets, "
      "Tensor? weights, int pooling, Tensor gradient, int optimizer, "
      "float[] constants) -> ()");
  m.def("advise_huge_pages(Tensor tensor) -> ()");
}

TORCH_LIBRARY_IMPL(dlrm, CPU, m) {
  m.impl("embedding_pool", &pool);
  m.impl("embedding_weight_gradients", &weight_gradients);
  m.impl("embedding_update", &update);
  m.impl("advise_huge_pages", &advise_huge_pages);
}
