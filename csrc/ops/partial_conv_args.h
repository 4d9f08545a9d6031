// What the epilogue and its backward hand to their kernels on every device.
#pragma once

#include "../cpu/kernels.h"
#include "checks.h"

namespace inpaint {

// Checks y (or grad, called `name`), ratio and new_mask, and fills all but pointers to y and bias.
Status epilogue_args(const char* name, const TensorView& y, const TensorView& ratio,
                     const TensorView& new_mask, EpilogueArgs* a);

}  // namespace inpaint
