// The kernels of one instruction set, and the choice among those that were compiled.
//
// A kernel is plain C++ on pointers and knows nothing of torch. Its body is compiled once
// an instruction set, from bodies.h, and reached through a table of function pointers.
#pragma once

#include "dense.h"
#include "embedding_bag.h"
#include "interaction.h"

namespace dlrm {

struct Kernels {
  const char* instruction_set;
  EmbeddingKernels embedding;
  InteractionKernels interaction;
  DenseKernels dense;
};

// Those of the best instruction set that this machine has.
const Kernels& kernels();

// Take those of a named instruction set, for tests; says whether this machine has it.
bool use_instruction_set(const char* name);

}  // namespace dlrm
