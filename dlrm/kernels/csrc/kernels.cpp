#include "kernels.h"

#include <cstring>

namespace dlrm {

namespace baseline {
extern const Kernels table;
}
#if defined(__x86_64__) && !defined(__clang__)
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
#endif

// The kernels called by name, or the best there are where no name is given; null where
// this machine cannot run them.
static const Kernels* find(const char* name) {
#if defined(__x86_64__) && !defined(__clang__)
  __builtin_cpu_init();
  const bool wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool widest =
      wide && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  if (widest && (!name || !std::strcmp(name, "avx512"))) return &avx512::table;
  if (wide && (!name || !std::strcmp(name, "avx2"))) return &avx2::table;
#endif
  return !name || !std::strcmp(name, "baseline") ? &baseline::table : nullptr;
}

static const Kernels*& chosen() {
  static const Kernels* kernels = find(nullptr);
  return kernels;
}

const Kernels& kernels() { return *chosen(); }

bool use_instruction_set(const char* name) {
  const Kernels* found = find(name);
  if (found) chosen() = found;
  return found != nullptr;
}

}  // namespace dlrm
