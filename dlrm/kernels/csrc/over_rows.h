// Rows shared out among torch's threads.
#pragma once

#include <ATen/Parallel.h>
#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace dlrm {

// Call task(begin, end) for parts of [0, count), each of at least grain rows.
//
// Not at::parallel_for: that is inline, so that each library has its own note of whether
// this thread knows its number of threads. A library that is first used after some other
// thread has set its own number would take that for this thread's too, for all of torch.
template <typename Task>
void over_rows(int64_t count, int64_t grain, const Task& task) {
  const int64_t parts = std::min<int64_t>(at::get_num_threads(), (count + grain - 1) / grain);
  if (parts <= 1 || at::in_parallel_region()) {
    if (count > 0) task(0, count);
    return;
  }
#pragma omp parallel num_threads(parts)
  {
    const int64_t team = omp_get_num_threads(), part = omp_get_thread_num();
    const int64_t size = (count + team - 1) / team, begin = std::min(count, part * size);
    if (begin < count) task(begin, std::min(count, begin + size));
  }
}

}  // namespace dlrm
