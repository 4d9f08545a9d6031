// The passes of region normalization as its entry points call them, compiled once without a block
// around the norm (region_norm.cu) and once with one (block_norm.cu).
#pragma once

#include "../ops/region_checks.h"

namespace inpaint {

// Statistics and apply; with `fixed` statistics apply alone.
template <bool kBlock>
Status region_forward(const char* op, int32_t device, void* stream, RegionCall* call,
                      const TensorView& workspace);

// What a backward runs: sums by region, left in the workspace, and the gradient of x, from them.
enum class Backward { kSums, kGradient, kBoth };

template <bool kBlock>
Status region_backward(const char* op, int32_t device, void* stream, Backward part,
                       RegionCall* call, const TensorView& workspace);

}  // namespace inpaint
