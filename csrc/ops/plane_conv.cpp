#include <new>

#include "../cpu/kernels.h"
#include "checks.h"

namespace inpaint {

namespace {

constexpr int64_t kMaxPlanes = 2;  // what the kernels are instantiated for

Status plane_conv_args(const TensorView& x, const TensorView& weight, const char* weight_name,
                       PlaneConvArgs* a, std::unique_ptr<char[]>* padded) {
  INPAINT_TRY(check_float("x", x));
  INPAINT_CHECK(x.ndim == 4, "x: expected (N, P, H, W), got ", shape_text(x));
  INPAINT_TRY(check_shape("x", x, {x.size[0], x.size[1], x.size[2], x.size[3]}));
  INPAINT_TRY(check_dtype(weight_name, weight, x.dtype));
  INPAINT_CHECK(weight.ndim == 4 && weight.size[1] == x.size[1] && weight.size[2] % 2 == 1 &&
                    weight.size[3] % 2 == 1,
                weight_name, ": expected (Q, ", x.size[1], ", odd, odd), got ", shape_text(weight));
  INPAINT_TRY(check_shape(weight_name, weight,
                          {weight.size[0], weight.size[1], weight.size[2], weight.size[3]}));
  a->n = x.size[0];
  a->in = x.size[1];
  a->h = x.size[2];
  a->w = x.size[3];
  a->outputs = weight.size[0];
  a->kh = weight.size[2];
  a->kw = weight.size[3];
  INPAINT_CHECK(a->in >= 1 && a->in <= kMaxPlanes && a->outputs >= 1 && a->outputs <= kMaxPlanes,
                weight_name, ": expected one or two planes in and out, got ", shape_text(weight));
  a->dtype = x.dtype;
  a->x = x.data;
  int64_t bytes = 0;
  INPAINT_CHECK(
      product({a->n, a->in, a->h + a->kh - 1, a->w + a->kw - 1, dtype_size(x.dtype)}, &bytes),
      weight_name, ": x ", shape_text(x), " padded for a window of shape ", shape_text(weight),
      " is beyond 64 bits");
  padded->reset(new (std::nothrow) char[bytes]);
  INPAINT_CHECK(*padded != nullptr, "plane_conv: out of memory");
  a->padded = padded->get();
  return {};
}

}  // namespace

Status plane_conv(ParallelFor pool, const TensorView& x, const TensorView& weight,
                  const TensorView& bias, const TensorView& out) {
  PlaneConvArgs a{};
  std::unique_ptr<char[]> padded;
  INPAINT_TRY(plane_conv_args(x, weight, "weight", &a, &padded));
  INPAINT_TRY(check_dtype("out", out, x.dtype));
  INPAINT_TRY(check_shape("out", out, {a.n, a.outputs, a.h, a.w}));
  if (bias.defined()) {
    INPAINT_TRY(check_dtype("bias", bias, x.dtype));
    INPAINT_TRY(check_shape("bias", bias, {a.outputs}));
  }
  a.pool = pool;
  a.weight = weight.data;
  a.bias = bias.data;
  a.out = out.data;
  return pool_status(cpu_kernels().plane_conv(a));
}

Status plane_conv_backward_weight(ParallelFor pool, const TensorView& grad, const TensorView& x,
                                  const TensorView& grad_weight) {
  PlaneConvArgs a{};
  std::unique_ptr<char[]> padded;
  INPAINT_TRY(plane_conv_args(x, grad_weight, "grad_weight", &a, &padded));
  INPAINT_TRY(check_dtype("grad", grad, x.dtype));
  INPAINT_TRY(check_shape("grad", grad, {a.n, a.outputs, a.h, a.w}));
  const int64_t units = a.n * ((a.h + kPlaneRows - 1) / kPlaneRows);
  const int64_t taps = grad_weight.numel();
  int64_t bytes = 0;
  INPAINT_CHECK(product({units, taps, int64_t{sizeof(double)}}, &bytes), "grad_weight: shape ",
                shape_text(grad_weight), " for each part of x ", shape_text(x),
                " is beyond 64 bits");
  std::unique_ptr<double[]> partials(new (std::nothrow) double[units * taps]);
  INPAINT_CHECK(partials != nullptr, "plane_conv_backward_weight: out of memory");
  a.pool = pool;
  a.grad = grad.data;
  a.partials = partials.get();
  INPAINT_TRY(pool_status(cpu_kernels().plane_conv_backward_weight(a)));
  for (int64_t i = 0; i < taps; ++i) {
    double sum = 0;
    for (int64_t u = 0; u < units; ++u) sum += partials[u * taps + i];
    if (x.dtype == DType::kFloat64) {
      static_cast<double*>(grad_weight.data)[i] = sum;
    } else {
      static_cast<float*>(grad_weight.data)[i] = static_cast<float>(sum);
    }
  }
  return {};
}

}  // namespace inpaint
