// A norm in a block, on a convolution's raw result: the passes of region normalization, in which
// the ratio is applied as x is read, activation and new mask as the result is written.
#include "region_passes.cuh"

namespace inpaint {

template Status region_forward<true>(const char*, int32_t, void*, RegionCall*, const TensorView&);
template Status region_backward<true>(const char*, int32_t, void*, Backward, RegionCall*,
                                      const TensorView&);

namespace {

Status block_call(const TensorView& x, const Surround& surround, const TensorView& mask,
                  const TensorView& weight, const TensorView& bias, const TensorView& mean,
                  const TensorView& rstd, bool fixed, RegionCall* a) {
  INPAINT_CHECK(surround.ratio.defined() && surround.new_mask.defined(),
                "ratio, new_mask: missing");
  INPAINT_CHECK(!fixed || !mask.defined(), "fixed: statistics are given for one region only");
  a->x = x;
  a->surround(surround);
  a->mask = mask;
  a->weight = weight;
  a->bias = bias;
  a->mean = mean;
  a->rstd = rstd;
  a->fixed = fixed;
  return {};
}

}  // namespace

Status cuda_block_norm_forward(int32_t device, void* stream, const TensorView& x,
                               const Surround& surround, const TensorView& mask,
                               const TensorView& weight, const TensorView& bias, double eps,
                               bool scale_eps, bool fixed, const TensorView& y,
                               const TensorView& mean, const TensorView& rstd,
                               const TensorView& workspace) {
  RegionCall a;
  INPAINT_TRY(block_call(x, surround, mask, weight, bias, mean, rstd, fixed, &a));
  a.eps = eps;
  a.scale_eps = scale_eps;
  a.out = y;
  return region_forward<true>("cuda_block_norm_forward", device, stream, &a, workspace);
}

Status cuda_block_norm_backward(int32_t device, void* stream, const TensorView& grad,
                                const TensorView& x, const Surround& surround,
                                const TensorView& mask, const TensorView& weight,
                                const TensorView& bias, const TensorView& mean,
                                const TensorView& rstd, bool fixed, const TensorView& grad_x,
                                const TensorView& grad_weight, const TensorView& grad_bias,
                                const TensorView& workspace) {
  INPAINT_CHECK(grad_weight.defined() == grad_bias.defined(),
                "grad_weight, grad_bias: expected both or neither");
  RegionCall a;
  INPAINT_TRY(block_call(x, surround, mask, weight, bias, mean, rstd, fixed, &a));
  a.grad = grad;
  a.out = grad_x;
  a.grad_weight = grad_weight;
  a.grad_bias = grad_bias;
  return region_backward<true>("cuda_block_norm_backward", device, stream, Backward::kBoth, &a,
                               workspace);
}

}  // namespace inpaint
