// What the epilogue and its backward hand to their kernels on every device.
#pragma once

#include "../cpu/kernels.h"
#include "checks.h"

namespace inpaint {

// Checks y (or grad, called `name`), ratio, new_mask and the bias (or its gradient) if there is
// one, and fills all but the pointers to y and bias.
Status epilogue_args(const char* name, const TensorView& y, const TensorView& ratio,
                     const TensorView& new_mask, const char* bias_name, const TensorView& bias,
                     EpilogueArgs* a);

}  // namespace inpaint
