// The kernels for any machine of the compiler's own target: SSE2 on x86-64, NEON on arm64.
#include "system_headers.h"
#include "kernels.h"

#define DLRM_LANES 4
#define DLRM_NAME "baseline"
namespace dlrm::baseline {
#include "bodies.h"
}
