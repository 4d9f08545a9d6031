// What the mask's ops hand to their kernels, for the ops that run several of them.
#pragma once

#include <memory>
#include <vector>

#include "../cpu/kernels.h"
#include "checks.h"

namespace inpaint {

// Checks and fills all that needs no look at the mask's values.
Status check_apply_mask(const TensorView& x, const TensorView& mask, const Channels& channels,
                        const TensorView& out, ApplyMaskArgs* args);

// Checks and fills `args`; `classes` is memory that they point to.
Status apply_mask_args(ParallelFor pool, const TensorView& x, const TensorView& mask,
                       const Channels& channels, const TensorView& out,
                       std::vector<uint8_t>* classes, ApplyMaskArgs* args);

// Checks and fills all but the memory that the CPU's kernel works in.
Status mask_update_problem(const TensorView& mask, const Channels& channels, const Window& window,
                           double eps, const TensorView& new_mask, const TensorView& ratio,
                           MaskUpdateArgs* args);

// That too; nothing is to be done if the mask's batch is empty.
Status mask_update_args(ParallelFor pool, const TensorView& mask, const Channels& channels,
                        const Window& window, double eps, const TensorView& new_mask,
                        const TensorView& ratio, std::unique_ptr<char[]>* workspace,
                        MaskUpdateArgs* args);

}  // namespace inpaint
