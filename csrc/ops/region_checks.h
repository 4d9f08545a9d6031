// One call of region normalization on a GPU: its tensors, checked, and its sizes.
#pragma once

#include "checks.h"

namespace inpaint {

struct RegionCall {
  TensorView x, mask, mean, rstd, out;        // out: y, or grad_x
  TensorView weight, bias;                    // forward; weight also backward
  TensorView grad, grad_weight, grad_bias;    // backward
  TensorView maps;                            // attention: gamma and beta, or undefined
  TensorView grad_maps, grad_pooled, argmax;  // attention, backward
  double eps = 0;
  bool scale_eps = true, instance = false;
  int64_t n = 0, c = 0, s = 0, mask_n_stride = 0;
  bool channels_last = false;
};

// Checks every tensor that is there, and fills the sizes. Masks are float32 planes.
Status check_region_call(RegionCall* call);

// (N, planes, ...) as x has pixels, contiguous, in the dtype that x is computed in.
Status check_map(const char* name, const TensorView& t, const TensorView& x, int64_t planes);
Status check_argmax(const TensorView& argmax, const TensorView& x);
Status check_channel_pool(const TensorView& x, const TensorView& pooled, const TensorView& argmax,
                          Dense* dense);
// (groups, rows, c) in float64: a row for each region.
Status check_statistics(const TensorView& mean, const TensorView& rstd, int64_t groups,
                        int64_t rows, int64_t c);
// (rows, C) in the dtype that x is computed in, or undefined.
Status check_affine(const char* name, const TensorView& t, const TensorView& x, int64_t rows);

}  // namespace inpaint
