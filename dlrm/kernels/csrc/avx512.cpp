// The kernels for machines with AVX-512.
#include "system_headers.h"
#include "kernels.h"

// clang has no such pragma; it makes the baseline alone.
#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,prefer-vector-width=512")
#define DLRM_LANES 16
#define DLRM_NAME "avx512"
namespace dlrm::avx512 {
#include "bodies.h"
}
#endif
