// How the passes of region normalization follow each other.
#pragma once

#include "region_backward.cuh"
#include "region_forward.cuh"
#include "region_passes.h"

namespace inpaint {

namespace {

// Whether packs of pixels may be read from the planes as well.
bool planes_aligned(const RegionCall& a) {
  return a.channels_last || (aligned(a.mask.data) && aligned(a.maps.data) &&
                             aligned(a.ratio.data) && aligned(a.new_mask.data));
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

void run_tables(Launcher& launcher, const RegionCall& a, const Layout& layout) {
  launcher.run(tables_of, dim3(grid_size(ceil_div(layout.tables.step(), kThreads))), dim3(kThreads),
               layout.tables, a.regions, static_cast<const double*>(a.mean.data),
               static_cast<const double*>(a.rstd.data), floats(a.weight), floats(a.bias));
}

template <class S, bool kBlock>
void run_moments(Launcher& launcher, const RegionCall& a, const Layout& layout) {
  const S* x = static_cast<const S*>(a.x.data);
  run_units<S>(launcher, layout.units, a.channels_last, aligned(x) && planes_aligned(a),
               UnitMoments<S, kBlock>{x, problem_of<kBlock>(a), layout.partials});
  launcher.run(finish_moments,
               dim3(grid_size(ceil_div(a.c, kLanes), 1 << 30), grid_size(layout.tables.groups)),
               dim3(kLanes, kLayers), layout.units,
               FinishMoments{layout.partials, a.eps, a.scale_eps, a.regions, floats(a.weight),
                             floats(a.bias), static_cast<double*>(a.mean.data),
                             static_cast<double*>(a.rstd.data), layout.tables});
}

template <class S, bool kBlock>
void run_apply(Launcher& launcher, const RegionCall& a, const Layout& layout) {
  const S* x = static_cast<const S*>(a.x.data);
  S* y = static_cast<S*>(a.out.data);
  const Rows rows{a.n, a.c, a.s, a.channels_last};
  const RegionProblem<kBlock> problem = problem_of<kBlock>(a);
  const bool is_aligned = aligned(x) && aligned(y) && planes_aligned(a);
  if (a.channels_last) {
    run_elementwise<S>(launcher, rows, is_aligned,
                       Apply<S, kBlock, true>{x, y, problem, layout.tables});
  } else {
    run_elementwise<S>(launcher, rows, is_aligned,
                       Apply<S, kBlock, false>{x, y, problem, layout.tables});
  }
}

template <class S, bool kBlock>
void run_sums(Launcher& launcher, const RegionCall& a, const Layout& layout) {
  const S* x = static_cast<const S*>(a.x.data);
  const S* grad = static_cast<const S*>(a.grad.data);
  run_units<S>(launcher, layout.units, a.channels_last,
               aligned(x) && aligned(grad) && planes_aligned(a),
               UnitSums<S, kBlock>{x, grad, problem_of<kBlock>(a), layout.tables, layout.partials});
  launcher.run(finish_sums, dim3(grid_size(ceil_div(a.c, kLanes), 1 << 30)), dim3(kLanes, kLayers),
               layout.units, static_cast<const float*>(layout.partials), a.regions, layout.tables,
               layout.means, static_cast<float*>(a.grad_weight.data),
               static_cast<float*>(a.grad_bias.data));
}

template <class S, bool kBlock>
void run_gradient(Launcher& launcher, const RegionCall& a, const Layout& layout) {
  const S* x = static_cast<const S*>(a.x.data);
  const S* grad = static_cast<const S*>(a.grad.data);
  S* out = static_cast<S*>(a.out.data);
  const Rows rows{a.n, a.c, a.s, a.channels_last};
  const RegionProblem<kBlock> problem = problem_of<kBlock>(a);
  const PooledGradient pooled{floats(a.grad_pooled), static_cast<const int32_t*>(a.argmax.data),
                              1.0f / static_cast<float>(a.c)};
  const bool is_aligned = aligned(x) && aligned(grad) && aligned(out) && planes_aligned(a);
  if (a.channels_last) {
    run_elementwise<S>(launcher, rows, is_aligned,
                       ApplyGradient<S, kBlock, true>{x, grad, out, problem, layout.tables,
                                                      layout.means, pooled, a.fixed});
  } else {
    run_elementwise<S>(launcher, rows, is_aligned,
                       ApplyGradient<S, kBlock, false>{x, grad, out, problem, layout.tables,
                                                       layout.means, pooled, a.fixed});
  }
}

// Runs body(zero of the element type, launcher, layout) for a call whose tensors are right and not
// empty.
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

template <bool kBlock>
Status region_forward(const char* op, int32_t device, void* stream, RegionCall* call,
                      const TensorView& workspace) {
  INPAINT_CHECK(call->out.defined(), "y: missing");
  return run_region(op, device, stream, call, workspace,
                    [&](auto zero, Launcher& launcher, const Layout& layout) {
                      using S = decltype(zero);
                      if (call->fixed) {
                        run_tables(launcher, *call, layout);
                      } else {
                        run_moments<S, kBlock>(launcher, *call, layout);
                      }
                      run_apply<S, kBlock>(launcher, *call, layout);
                    });
}

template <bool kBlock>
Status region_backward(const char* op, int32_t device, void* stream, Backward part,
                       RegionCall* call, const TensorView& workspace) {
  INPAINT_CHECK(call->grad.defined(), "grad: missing");
  INPAINT_CHECK(call->out.defined() || part == Backward::kSums, "grad_x: missing");
  return run_region(op, device, stream, call, workspace,
                    [&](auto zero, Launcher& launcher, const Layout& layout) {
                      using S = decltype(zero);
                      if (part != Backward::kGradient) {
                        run_tables(launcher, *call, layout);
                        // Given statistics ask for sums only if weight and bias have a gradient.
                        if (!call->fixed || call->grad_weight.defined()) {
                          run_sums<S, kBlock>(launcher, *call, layout);
                        }
                      }
                      if (part != Backward::kSums) {
                        run_gradient<S, kBlock>(launcher, *call, layout);
                      }
                    });
}

}  // namespace inpaint
