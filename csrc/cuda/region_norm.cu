// Region normalization: one pass of statistics, one that applies them, and two for the gradient. A
// unit is summed around its own means, so values far from zero lose nothing; a region is summed
// directly, never as the total minus the other. Labels may be soft; with w = m and 1 - m,
//   mu = sum(w x) / sum(w)      var = sum(w^2 (x - mu)^2) / sum(w)
//   normalized = sum over regions of w (x - mu) / sqrt(var + eps * pixels / sum(w))
#include "../ops/region_checks.h"
#include "region_backward.cuh"
#include "region_forward.cuh"

namespace inpaint {

namespace {

const float* floats(const TensorView& t) { return static_cast<const float*>(t.data); }

RegionProblem problem_of(const RegionCall& a) {
  return {floats(a.mask), a.mask_n_stride, a.instance ? 1 : 0, floats(a.maps), a.s};
}

// Floats of workspace: partial values of the units, tables, and means of the backward.
struct Layout {
  Units units;
  RegionTables tables, means;
  float* partials;
  int64_t floats;
  Layout(const RegionCall& a, void* workspace)
      : units(make_units({a.n, a.c, a.s, a.channels_last})), floats(0) {
    float* at = static_cast<float*>(workspace);
    const int64_t groups = a.instance ? a.n : 1, step = groups * 2 * a.c;
    partials = at;
    tables = {at + units.rows() * kMomentValues * a.c, a.c, groups};
    means = {tables.values + kRegionValues * step, a.c, groups};
    floats = units.rows() * kMomentValues * a.c + (kRegionValues + kGradientValues) * step;
  }
};

template <class S>
void run_forward(Launcher& launcher, const RegionCall& a, const Layout& layout) {
  const S* x = static_cast<const S*>(a.x.data);
  S* y = static_cast<S*>(a.out.data);
  const Rows rows{a.n, a.c, a.s, a.channels_last};
  const RegionProblem problem = problem_of(a);
  run_units<S>(launcher, layout.units, a.channels_last, aligned(x),
               UnitMoments<S>{x, problem, layout.partials});
  launcher.run(finish_moments,
               dim3(grid_size(ceil_div(a.c, kLanes), 1 << 30), grid_size(layout.tables.groups)),
               dim3(kLanes, kLayers), layout.units,
               FinishMoments{layout.partials, a.eps, a.scale_eps, floats(a.weight), floats(a.bias),
                             static_cast<double*>(a.mean.data), static_cast<double*>(a.rstd.data),
                             layout.tables});
  const bool is_aligned = aligned(x) && aligned(y);
  if (a.channels_last) {
    run_elementwise<S>(launcher, rows, is_aligned, Apply<S, true>{x, y, problem, layout.tables});
  } else {
    run_elementwise<S>(launcher, rows, is_aligned, Apply<S, false>{x, y, problem, layout.tables});
  }
}

template <class S>
void run_sums(Launcher& launcher, const RegionCall& a, const Layout& layout) {
  const S* x = static_cast<const S*>(a.x.data);
  const S* grad = static_cast<const S*>(a.grad.data);
  launcher.run(tables_of, dim3(grid_size(ceil_div(layout.tables.step(), kThreads))), dim3(kThreads),
               layout.tables, static_cast<const double*>(a.mean.data),
               static_cast<const double*>(a.rstd.data), floats(a.weight));
  run_units<S>(launcher, layout.units, a.channels_last, aligned(x) && aligned(grad),
               UnitSums<S>{x, grad, problem_of(a), layout.tables, layout.partials});
  launcher.run(finish_sums, dim3(grid_size(ceil_div(a.c, kLanes), 1 << 30)), dim3(kLanes, kLayers),
               layout.units, static_cast<const float*>(layout.partials), layout.tables,
               layout.means, static_cast<float*>(a.grad_weight.data),
               static_cast<float*>(a.grad_bias.data));
}

template <class S>
void run_gradient(Launcher& launcher, const RegionCall& a, const Layout& layout) {
  const S* x = static_cast<const S*>(a.x.data);
  const S* grad = static_cast<const S*>(a.grad.data);
  S* out = static_cast<S*>(a.out.data);
  const Rows rows{a.n, a.c, a.s, a.channels_last};
  const RegionProblem problem = problem_of(a);
  const PooledGradient pooled{floats(a.grad_pooled), static_cast<const int32_t*>(a.argmax.data),
                              1.0f / static_cast<float>(a.c)};
  const bool is_aligned = aligned(x) && aligned(grad) && aligned(out);
  if (a.channels_last) {
    run_elementwise<S>(
        launcher, rows, is_aligned,
        ApplyGradient<S, true>{x, grad, out, problem, layout.tables, layout.means, pooled});
  } else {
    run_elementwise<S>(
        launcher, rows, is_aligned,
        ApplyGradient<S, false>{x, grad, out, problem, layout.tables, layout.means, pooled});
  }
}

}  // namespace

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

namespace {

// Runs body<S>(launcher, layout) for a call whose tensors are right and not empty.
template <class Body>
Status run_region(const char* op, int32_t device, void* stream, RegionCall* a,
                  const TensorView& workspace, const Body& body) {
  INPAINT_TRY(check_region_call(a));
  const Layout layout(*a, workspace.data);
  INPAINT_TRY(check_workspace(workspace, layout.floats));
  if (a->x.numel() == 0) return {};  // the caller cleared what is returned
  Launcher launcher(op, device, stream);
  const Status known =
      for_half_or_float("x", a->x.dtype, [&](auto zero) { body(zero, launcher, layout); });
  return known.ok() ? launcher.status() : known;
}

}  // namespace

Status cuda_region_norm_forward(int32_t device, void* stream, const TensorView& x,
                                const TensorView& mask, const TensorView& weight,
                                const TensorView& bias, const TensorView& maps, double eps,
                                bool scale_eps, bool instance, const TensorView& y,
                                const TensorView& mean, const TensorView& rstd,
                                const TensorView& workspace) {
  INPAINT_CHECK(y.defined(), "y: missing");
  RegionCall a;
  a.x = x;
  a.mask = mask;
  a.weight = weight;
  a.bias = bias;
  a.maps = maps;
  a.eps = eps;
  a.scale_eps = scale_eps;
  a.instance = instance;
  a.out = y;
  a.mean = mean;
  a.rstd = rstd;
  return run_region("cuda_region_norm_forward", device, stream, &a, workspace,
                    [&](auto zero, Launcher& launcher, const Layout& layout) {
                      run_forward<decltype(zero)>(launcher, a, layout);
                    });
}

Status cuda_region_norm_backward(int32_t device, void* stream, const TensorView& grad,
                                 const TensorView& x, const TensorView& mask,
                                 const TensorView& weight, const TensorView& mean,
                                 const TensorView& rstd, bool instance, const TensorView& grad_x,
                                 const TensorView& grad_weight, const TensorView& grad_bias,
                                 const TensorView& workspace) {
  INPAINT_CHECK(grad.defined() && grad_x.defined() && grad_weight.defined() && grad_bias.defined(),
                "grad, grad_x, grad_weight, grad_bias: missing");
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
  return run_region("cuda_region_norm_backward", device, stream, &a, workspace,
                    [&](auto zero, Launcher& launcher, const Layout& layout) {
                      using S = decltype(zero);
                      run_sums<S>(launcher, a, layout);
                      run_gradient<S>(launcher, a, layout);
                    });
}

namespace {

RegionCall attention_call(const TensorView& grad, const TensorView& x, const TensorView& mask,
                          const TensorView& maps, const TensorView& mean, const TensorView& rstd) {
  RegionCall a;
  a.grad = grad;
  a.x = x;
  a.mask = mask;
  a.maps = maps;
  a.mean = mean;
  a.rstd = rstd;
  return a;
}

}  // namespace

Status cuda_attention_region_norm_sums(int32_t device, void* stream, const TensorView& grad,
                                       const TensorView& x, const TensorView& mask,
                                       const TensorView& maps, const TensorView& mean,
                                       const TensorView& rstd, const TensorView& workspace) {
  INPAINT_CHECK(grad.defined() && maps.defined(), "grad, maps: missing");
  RegionCall a = attention_call(grad, x, mask, maps, mean, rstd);
  return run_region("cuda_attention_region_norm_sums", device, stream, &a, workspace,
                    [&](auto zero, Launcher& launcher, const Layout& layout) {
                      run_sums<decltype(zero)>(launcher, a, layout);
                    });
}

Status cuda_attention_region_norm_input(int32_t device, void* stream, const TensorView& grad,
                                        const TensorView& x, const TensorView& mask,
                                        const TensorView& maps, const TensorView& mean,
                                        const TensorView& rstd, const TensorView& grad_pooled,
                                        const TensorView& argmax, const TensorView& grad_x,
                                        const TensorView& workspace) {
  INPAINT_CHECK(grad.defined() && maps.defined() && grad_pooled.defined() && grad_x.defined(),
                "grad, maps, grad_pooled, grad_x: missing");
  RegionCall a = attention_call(grad, x, mask, maps, mean, rstd);
  a.grad_pooled = grad_pooled;
  a.argmax = argmax;
  a.out = grad_x;
  return run_region("cuda_attention_region_norm_input", device, stream, &a, workspace,
                    [&](auto zero, Launcher& launcher, const Layout& layout) {
                      run_gradient<decltype(zero)>(launcher, a, layout);
                    });
}

}  // namespace inpaint
