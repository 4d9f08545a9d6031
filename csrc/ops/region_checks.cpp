#include "region_checks.h"

namespace inpaint {

Status check_map(const char* name, const TensorView& t, const TensorView& x, int64_t planes) {
  int64_t stride = 0;
  INPAINT_TRY(check_dtype(name, t, compute_dtype(x.dtype)));
  INPAINT_TRY(check_planes(name, t, x, planes, &stride));
  INPAINT_CHECK(t.size[0] == x.size[0], name, ": expected batch ", x.size[0], ", got ",
                shape_text(t));
  return {};
}

Status check_argmax(const TensorView& argmax, const TensorView& x) {
  int64_t stride = 0;
  INPAINT_TRY(check_dtype("argmax", argmax, DType::kInt32));
  INPAINT_TRY(check_planes("argmax", argmax, x, 1, &stride));
  INPAINT_CHECK(argmax.size[0] == x.size[0], "argmax: expected batch ", x.size[0], ", got ",
                shape_text(argmax));
  return {};
}

Status check_channel_pool(const TensorView& x, const TensorView& pooled, const TensorView& argmax,
                          Dense* dense) {
  INPAINT_TRY(check_dense("x", x, dense));
  INPAINT_TRY(check_map("pooled", pooled, x, 2));
  INPAINT_TRY(check_argmax(argmax, x));
  INPAINT_CHECK(dense->c <= INT32_MAX, "x ", shape_text(x),
                ": more channels than argmax, of int32, can name");
  return {};
}

Status check_statistics(const TensorView& mean, const TensorView& rstd, int64_t groups,
                        int64_t rows, int64_t c) {
  INPAINT_TRY(check_dtype("mean", mean, DType::kFloat64));
  INPAINT_TRY(check_dtype("rstd", rstd, DType::kFloat64));
  INPAINT_TRY(check_shape("mean", mean, {groups, rows, c}));
  return check_shape("rstd", rstd, {groups, rows, c});
}

Status check_affine(const char* name, const TensorView& t, const TensorView& x, int64_t rows) {
  if (!t.defined()) return {};
  INPAINT_TRY(check_dtype(name, t, compute_dtype(x.dtype)));
  return check_shape(name, t, {rows, x.size[1]});
}

Status check_surround(const TensorView& x, const Surround& surround, int64_t* ratio_n_stride,
                      int64_t* new_mask_n_stride) {
  if (!surround.ratio.defined()) return {};
  INPAINT_TRY(check_dtype("ratio", surround.ratio, compute_dtype(x.dtype)));
  INPAINT_TRY(check_dtype("new_mask", surround.new_mask, compute_dtype(x.dtype)));
  INPAINT_TRY(check_planes("ratio", surround.ratio, x, 1, ratio_n_stride));
  return check_planes("new_mask", surround.new_mask, x, 1, new_mask_n_stride);
}

Status check_region_call(RegionCall* call) {
  RegionCall& a = *call;
  Dense dense;
  INPAINT_TRY(check_dense("x", a.x, &dense));
  INPAINT_TRY(
      check_surround(a.x, {a.ratio, a.new_mask, a.slope}, &a.ratio_n_stride, &a.new_mask_n_stride));
  if (a.mask.defined()) {
    INPAINT_TRY(check_dtype("mask", a.mask, DType::kFloat32));
    INPAINT_TRY(check_planes("mask", a.mask, a.x, 1, &a.mask_n_stride));
  }
  a.regions = a.mask.defined() ? 2 : 1;
  INPAINT_TRY(check_statistics(a.mean, a.rstd, a.instance ? dense.n : 1, a.regions, dense.c));
  INPAINT_TRY(check_affine("weight", a.weight, a.x, a.regions));
  INPAINT_TRY(check_affine("bias", a.bias, a.x, a.regions));
  INPAINT_TRY(check_affine("grad_weight", a.grad_weight, a.x, a.regions));
  INPAINT_TRY(check_affine("grad_bias", a.grad_bias, a.x, a.regions));
  if (a.out.defined()) INPAINT_TRY(check_like("out", a.out, "x", a.x));
  if (a.grad.defined()) INPAINT_TRY(check_like("grad", a.grad, "x", a.x));
  if (a.maps.defined()) INPAINT_TRY(check_map("maps", a.maps, a.x, 2));
  if (a.grad_maps.defined()) INPAINT_TRY(check_map("grad_maps", a.grad_maps, a.x, 2));
  if (a.grad_pooled.defined()) {
    INPAINT_TRY(check_map("grad_pooled", a.grad_pooled, a.x, 2));
    INPAINT_TRY(check_argmax(a.argmax, a.x));
  }
  a.n = dense.n;
  a.c = dense.c;
  a.s = dense.s;
  a.channels_last = dense.channels_last;
  return {};
}

}  // namespace inpaint
