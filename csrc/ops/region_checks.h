// One call of region normalization on a GPU: its tensors, checked, and its sizes.
#pragma once

#include "checks.h"

namespace inpaint {

struct RegionCall {
  TensorView x, mask, mean, rstd, out;        // out: y, or grad_x
  TensorView weight, bias;                    // bias in the backward of a block alone
  TensorView grad, grad_weight, grad_bias;    // backward
  TensorView maps;                            // attention: gamma and beta, or undefined
  TensorView grad_maps, grad_pooled, argmax;  // attention, backward
  TensorView ratio, new_mask;                 // in a block, or undefined
  double eps = 0, slope = 1;
  bool scale_eps = true, instance = false;
  bool fixed = false;  // mean and rstd are given
  int regions = 2;     // one in a block without a mask
  int64_t n = 0, c = 0, s = 0, mask_n_stride = 0, ratio_n_stride = 0, new_mask_n_stride = 0;
  bool channels_last = false;

  void surround(const Surround& block) {
    ratio = block.ratio;
    new_mask = block.new_mask;
    slope = block.slope;
  }
};

// Checks every tensor that is there, and fills the sizes. Masks are float32 planes.
Status check_region_call(RegionCall* call);

// The planes of a block, if there is one: each (N|1, 1, ...) in the dtype that x is computed in.
Status check_surround(const TensorView& x, const Surround& surround, int64_t* ratio_n_stride,
                      int64_t* new_mask_n_stride);

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
