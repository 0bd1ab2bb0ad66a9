// All kernels, for the namespace and the number of lanes that the including file sets.
// No include guard: each instruction set takes its own copy.
#include "vectors.inc"
#include "id_types.inc"
#include "embedding_pool.inc"
#include "row_step.inc"
#include "row_uses.inc"
#include "embedding_update.inc"
#include "interaction.inc"
#include "dense.inc"

extern const Kernels table;
const Kernels table = {DLRM_NAME, embedding_kernels, interaction_kernels, dense_kernels};
