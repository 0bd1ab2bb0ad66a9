// The kernels for machines with AVX2.
#include "system_headers.h"
#include "kernels.h"

// clang has no such pragma; it makes the baseline alone.
#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC target("avx2,fma")
#define DLRM_LANES 8
#define DLRM_NAME "avx2"
namespace dlrm::avx2 {
#include "bodies.h"
}
#endif
