// Which implementations there are, and which of them this processor runs.
#pragma once

#include <vector>

#include "contract.h"

namespace irbin {

// Every implementation compiled in, fastest first.
const std::vector<const Implementation*>& implementations();

// The features of this processor that its operating system lets programs use.
uint32_t features();

// Null where this processor has none.
const BfloatKernels* bfloat_kernels();

// The fastest there is for this implementation; null where it finishes elsewhere.
FinishedPairs* finished_pairs(const Implementation&);

inline bool is_supported(const Implementation& one) { return (one.needs & ~features()) == 0; }

}  // namespace irbin
