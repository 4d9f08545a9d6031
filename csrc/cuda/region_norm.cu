// Region normalization: one pass of statistics, one that applies them, and two for the gradient. A
// unit is summed around its own means, so values far from zero lose nothing; a region is summed
// directly, never as the total minus the other. Labels may be soft; with w = m and 1 - m,
//   mu = sum(w x) / sum(w)      var = sum(w^2 (x - mu)^2) / sum(w)
//   normalized = sum over regions of w (x - mu) / sqrt(var + eps * pixels / sum(w))
#include "region_passes.cuh"

namespace inpaint {

template Status region_forward<false>(const char*, int32_t, void*, RegionCall*, const TensorView&);
template Status region_backward<false>(const char*, int32_t, void*, Backward, RegionCall*,
                                       const TensorView&);

Status cuda_region_workspace(const TensorView& x, bool instance, int64_t* count) {
  Dense dense;
  INPAINT_TRY(check_dense("x", x, &dense));
  RegionCall a;
  a.n = dense.n;
  a.c = dense.c;
  a.s = dense.s;
  a.instance = instance;
  *count = Layout(a, nullptr).floats;
  return {};
}

Status cuda_region_norm_forward(int32_t device, void* stream, const TensorView& x,
                                const TensorView& mask, const TensorView& weight,
                                const TensorView& bias, double eps, bool scale_eps, bool instance,
                                const TensorView& y, const TensorView& mean, const TensorView& rstd,
                                const TensorView& workspace) {
  INPAINT_CHECK(mask.defined(), "mask: missing");
  RegionCall a;
  a.x = x;
  a.mask = mask;
  a.weight = weight;
  a.bias = bias;
  a.eps = eps;
  a.scale_eps = scale_eps;
  a.instance = instance;
  a.out = y;
  a.mean = mean;
  a.rstd = rstd;
  return region_forward<false>("cuda_region_norm_forward", device, stream, &a, workspace);
}

Status cuda_region_norm_backward(int32_t device, void* stream, const TensorView& grad,
                                 const TensorView& x, const TensorView& mask,
                                 const TensorView& weight, const TensorView& mean,
                                 const TensorView& rstd, bool instance, const TensorView& grad_x,
                                 const TensorView& grad_weight, const TensorView& grad_bias,
                                 const TensorView& workspace) {
  INPAINT_CHECK(mask.defined(), "mask: missing");
  INPAINT_CHECK(grad_weight.defined() && grad_bias.defined(), "grad_weight, grad_bias: missing");
  RegionCall a;
  a.grad = grad;
  a.x = x;
  a.mask = mask;
  a.weight = weight;
  a.mean = mean;
  a.rstd = rstd;
  a.instance = instance;
  a.out = grad_x;
  a.grad_weight = grad_weight;
  a.grad_bias = grad_bias;
  return region_backward<false>("cuda_region_norm_backward", device, stream, Backward::kBoth, &a,
                                workspace);
}

}  // namespace inpaint
