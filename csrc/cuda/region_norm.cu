// Region normalization: one pass of statistics, one that applies them, and two for the gradient. A
// unit is summed around its own means, so values far from zero lose nothing; a region is summed
// directly, never as the total minus the other. Labels may be soft: w = m and 1 - m,
//   mu = sum(w x) / sum(w),  var = sum(w^2 (x - mu)^2) / sum(w),  normalized = sum of w (x - mu)
//   rstd.
#include "../ops/region_checks.h"
#include "region_tables.cuh"

namespace inpaint {

namespace {

// Around the unit's mean m of each region: W = sum w, A = sum w d, B = sum w^2 d, Q = sum w^2 d^2
// and V = sum w^2, where d = x - m.
template <class S>
struct UnitMoments {
  static constexpr int kValues = 8;
  const S* x;
  RegionProblem problem;
  float* partials;

  template <bool kChannelsLast, int kWidth>
  __device__ __forceinline__ void run(const Units& u, float* shared) const {
    using Thread = UnitThread<kChannelsLast, kWidth>;
    constexpr int kChannels = Thread::kChannels;
    Thread::for_units(u, [&](const Thread& t) {
      float first[4][kChannels] = {};  // sum of w x, and W, by region
      t.for_packs(u, [&](int64_t at, int64_t s) {
        const Pack<S, kWidth> values = load_pack<kWidth>(x + at);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const Shares w(problem.share(t.n, s + (kChannelsLast ? 0 : k)));
          const int ch = kChannelsLast ? k : 0;
          const float value = values.values[k];
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            first[r * 2][ch] += w.of[r] == 0.0f ? 0.0f : w.of[r] * value;
            first[r * 2 + 1][ch] += w.of[r];
          }
        }
      });
      Thread::sum_for_all(first, shared);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int ch = 0; ch < kChannels; ++ch) {
          const float share = first[r * 2 + 1][ch];
          first[r * 2][ch] = share > 0.0f ? first[r * 2][ch] / share : 0.0f;
        }
      }
      float sums[8][kChannels] = {};
      t.for_packs(u, [&](int64_t at, int64_t s) {
        const Pack<S, kWidth> values = load_pack<kWidth>(x + at);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const Shares w(problem.share(t.n, s + (kChannelsLast ? 0 : k)));
          const int ch = kChannelsLast ? k : 0;
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const float d = static_cast<float>(values.values[k]) - first[r * 2][ch];
            const float wd = w.of[r] == 0.0f ? 0.0f : w.of[r] * d;
            sums[r * 4][ch] += wd;
            sums[r * 4 + 1][ch] += w.of[r] * wd;
            sums[r * 4 + 2][ch] += wd * wd;
            sums[r * 4 + 3][ch] += w.of[r] * w.of[r];
          }
        }
      });
      t.sum_and_write(u, sums, shared, partials, kMomentValues, kUnitA);
      if ((kChannelsLast ? threadIdx.y : threadIdx.x) == 0) {
        float* out = partials + t.row * kMomentValues * u.c + t.c;
        for (int v = 0; v < 4; ++v) {
          for (int ch = 0; ch < kChannels; ++ch) {
            if (t.c + ch < u.c) out[v * u.c + ch] = first[v][ch];
          }
        }
      }
    });
  }
};

struct FinishMoments {
  const float* partials;
  double eps;
  bool scale_eps;
  const float* weight;  // (2, C) or null
  const float* bias;
  double* mean;  // (groups, 2, C)
  double* rstd;
  RegionTables tables;
};

// Blocks of kLanes channels; the grid's y axis is the statistics group.
__global__ void __launch_bounds__(kThreads) finish_moments(const Units u, const FinishMoments a) {
  __shared__ double shared[kThreads];
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kLanes + threadIdx.x;
  const bool there = c < u.c;
  for (int64_t group = blockIdx.y; group < a.tables.groups; group += gridDim.y) {
    const int64_t rows = u.rows() / a.tables.groups, begin = group * rows, end = begin + rows;
    const double pixels = static_cast<double>(u.n / a.tables.groups) * static_cast<double>(u.s);
    for (int r = 0; r < 2; ++r) {
      const auto value = [&](int64_t row, int v) {
        return static_cast<double>(a.partials[(row * kMomentValues + v) * u.c + c]);
      };
      const double share = sum_rows(begin, end, shared, [&](int64_t row) {
        return there ? value(row, r * 2 + kUnitW) : 0.0;
      });
      const double total = sum_rows(begin, end, shared, [&](int64_t row) {
        return there ? value(row, r * 2 + kUnitMean) * value(row, r * 2 + kUnitW) +
                           value(row, r * 4 + kUnitA)
                     : 0.0;
      });
      const double mu = share > 0 ? total / share : 0.0;
      const double squares = sum_rows(begin, end, shared, [&](int64_t row) {
        if (!there || value(row, r * 2 + kUnitW) <= 0) return 0.0;
        const double offset = value(row, r * 2 + kUnitMean) - mu;
        return value(row, r * 4 + kUnitQ) + 2 * offset * value(row, r * 4 + kUnitB) +
               offset * offset * value(row, r * 4 + kUnitV);
      });
      if (!there || threadIdx.y != 0) continue;
      const double eps = a.scale_eps && share > 0 ? a.eps * pixels / share : a.eps;
      const double rstd = share > 0 ? 1.0 / sqrt((squares < 0 ? 0 : squares) / share + eps) : 0.0;
      const int64_t at = a.tables.at(group, r, c), rc = r * u.c + c;
      a.mean[at] = mu;
      a.rstd[at] = rstd;
      fill_tables(a.tables, at, mu, rstd, a.weight ? a.weight[rc] : 1.0, a.bias ? a.bias[rc] : 0.0);
    }
  }
}

// For the backward: tables from the statistics that the forward kept.
__global__ void __launch_bounds__(kThreads) tables_of(const RegionTables tables, const double* mean,
                                                      const double* rstd, const float* weight) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < tables.step();
       i += step) {
    fill_tables(tables, i, mean[i], rstd[i], weight ? weight[i % (2 * tables.c)] : 1.0, 0.0);
  }
}

struct RowIndex {
  int64_t n, outer;  // the channel, or the pixel
};

template <class S, bool kChannelsLast>
struct Apply {
  const S* x;
  S* y;
  RegionProblem problem;
  RegionTables tables;

  __device__ __forceinline__ RowIndex row(int64_t n, int64_t outer) const { return {n, outer}; }
  template <int kWidth>
  __device__ __forceinline__ void elements(const RowIndex& here, int64_t at, int64_t inner) const {
    const int64_t n = here.n, outer = here.outer;
    Pack<S, kWidth> values = load_pack<kWidth>(x + at);
    const int64_t group = n * problem.group_step;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const int64_t pixel = kChannelsLast ? outer : inner + k;
      const int64_t channel = kChannelsLast ? inner + k : outer;
      const Shares w(problem.share(n, pixel));
      const float value = values.values[k];
      float out;
      if (w.one_region()) {
        const int64_t i = tables.at(group, w.region(), channel);
        out = (value - tables.get(kMean, i)) * tables.get(kScale, i) + tables.get(kShift, i);
      } else {
        float normalized = 0.0f, gain = 0.0f, offset = 0.0f;
        for (int r = 0; r < 2; ++r) {
          const int64_t i = tables.at(group, r, channel);
          const float d = value - tables.get(kMean, i) - tables.get(kLost, i);
          normalized += w.of[r] * d * tables.get(kRstd, i);
          gain += w.of[r] * tables.get(kGain, i);
          offset += w.of[r] * tables.get(kOffset, i);
        }
        out = normalized * gain + offset;
      }
      if (problem.maps != nullptr) {
        out = out * (1.0f + problem.gamma(n, pixel)) + problem.beta(n, pixel);
      }
      values.values[k] = static_cast<S>(out);
    }
    store_pack<kWidth>(y + at, values);
  }
};

// With u = w g gain the gradient of w (x - mu) rstd, seen from the normalized value, and d = x -
// mu: sums of u, u d, w^2 d, g normalized w, g w and w by region.
template <class S>
struct UnitSums {
  static constexpr int kValues = kSumValues;
  const S* x;
  const S* grad;
  RegionProblem problem;
  RegionTables tables;
  float* partials;

  template <bool kChannelsLast, int kWidth>
  __device__ __forceinline__ void run(const Units& u, float* shared) const {
    using Thread = UnitThread<kChannelsLast, kWidth>;
    constexpr int kChannels = Thread::kChannels;
    Thread::for_units(u, [&](const Thread& t) {
      float sums[kValues][kChannels] = {};
      const int64_t group = t.n * problem.group_step;
      t.for_packs(u, [&](int64_t at, int64_t s) {
        const Pack<S, kWidth> xs = load_pack<kWidth>(x + at), gs = load_pack<kWidth>(grad + at);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const int64_t pixel = s + (kChannelsLast ? 0 : k),
                        channel = t.c + (kChannelsLast ? k : 0);
          const int ch = kChannelsLast ? k : 0;
          const Shares w(problem.share(t.n, pixel));
          const float g = gs.values[k], value = xs.values[k];
          float d[2], normalized = 0.0f, gain = 0.0f;
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            // Statistics of a region that the pixel is not in are not looked at: they may be NaN.
            d[r] = 0.0f;
            if (w.of[r] == 0.0f) continue;
            const int64_t i = tables.at(group, r, channel);
            d[r] = value - tables.get(kMean, i) - tables.get(kLost, i);
            normalized += w.of[r] * d[r] * tables.get(kRstd, i);
            gain += w.of[r] * tables.get(kGain, i);
          }
          if (problem.maps != nullptr) gain = 1.0f + problem.gamma(t.n, pixel);
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const float wr = w.of[r], through = wr * g * gain;
            if (wr == 0.0f) continue;
            sums[r * kSumsOfRegion + kSumU][ch] += through;
            sums[r * kSumsOfRegion + kSumUD][ch] += through * d[r];
            sums[r * kSumsOfRegion + kSumWWD][ch] += wr * wr * d[r];
            sums[r * kSumsOfRegion + kSumGN][ch] += g * normalized * wr;
            sums[r * kSumsOfRegion + kSumGW][ch] += g * wr;
            sums[r * kSumsOfRegion + kSumW][ch] += wr;
          }
        }
      });
      t.sum_and_write(u, sums, shared, partials, kSumValues, 0);
    });
  }
};

// The means that the gradient of x needs, and the gradients of weight and bias (or null).
__global__ void __launch_bounds__(kThreads)
    finish_sums(const Units u, const float* partials, const RegionTables tables,
                const RegionTables means, float* grad_weight, float* grad_bias) {
  __shared__ double shared[kThreads];
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kLanes + threadIdx.x;
  const bool there = c < u.c;
  const int64_t rows = u.rows() / tables.groups;
  for (int r = 0; r < 2; ++r) {
    double weight_sum = 0, bias_sum = 0;
    for (int64_t group = 0; group < tables.groups; ++group) {
      double sums[kSumsOfRegion];
      for (int v = 0; v < kSumsOfRegion; ++v) {
        sums[v] = sum_rows(group * rows, (group + 1) * rows, shared, [&](int64_t row) {
          const int64_t at = (row * kSumValues + r * kSumsOfRegion + v) * u.c + c;
          return there ? static_cast<double>(partials[at]) : 0.0;
        });
      }
      weight_sum += sums[kSumGN];
      bias_sum += sums[kSumGW];
      if (!there || threadIdx.y != 0) continue;
      const int64_t i = tables.at(group, r, c);
      const double share = sums[kSumW] > 0 ? sums[kSumW] : 1.0;
      const double rstd = tables.get(kRstd, i);
      means.set(kMeanU, i, sums[kSumU] / share);
      means.set(kMeanUD, i, rstd * rstd * sums[kSumUD] / share);
      means.set(kMeanWWD, i, sums[kSumWWD] / share);
    }
    if (there && threadIdx.y == 0 && grad_weight != nullptr) {
      grad_weight[r * u.c + c] = static_cast<float>(weight_sum);
      grad_bias[r * u.c + c] = static_cast<float>(bias_sum);
    }
  }
}

// What RN_L's attention adds to the gradient of x.
struct PooledGradient {
  const float* grad_pooled;  // (n, 2, s), of the mean and the maximum over channels; or null
  const int32_t* argmax;     // (n, s)
  float share;               // 1 / C
};

template <class S, bool kChannelsLast>
struct ApplyGradient {
  const S* x;
  const S* grad;
  S* grad_x;
  RegionProblem problem;
  RegionTables tables, means;
  PooledGradient pooled;

  __device__ __forceinline__ RowIndex row(int64_t n, int64_t outer) const { return {n, outer}; }
  template <int kWidth>
  __device__ __forceinline__ void elements(const RowIndex& here, int64_t at, int64_t inner) const {
    const int64_t n = here.n, outer = here.outer;
    const Pack<S, kWidth> xs = load_pack<kWidth>(x + at);
    Pack<S, kWidth> values = load_pack<kWidth>(grad + at);
    const int64_t group = n * problem.group_step;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const int64_t pixel = kChannelsLast ? outer : inner + k;
      const int64_t channel = kChannelsLast ? inner + k : outer;
      const Shares w(problem.share(n, pixel));
      const float g = values.values[k];
      float gain = 0.0f, out = 0.0f;
      if (problem.maps != nullptr) {
        gain = 1.0f + problem.gamma(n, pixel);
      } else {
        for (int r = 0; r < 2; ++r) {
          if (w.of[r] != 0.0f) gain += w.of[r] * tables.get(kGain, tables.at(group, r, channel));
        }
      }
      for (int r = 0; r < 2; ++r) {
        const float wr = w.of[r];
        if (wr == 0.0f) continue;
        const int64_t i = tables.at(group, r, channel);
        const float d =
            static_cast<float>(xs.values[k]) - tables.get(kMean, i) - tables.get(kLost, i);
        out += tables.get(kRstd, i) * wr *
               (g * gain - means.get(kMeanU, i) -
                means.get(kMeanUD, i) * (wr * d - means.get(kMeanWWD, i)));
      }
      if (pooled.grad_pooled != nullptr) {
        const float* of_mean = pooled.grad_pooled + n * 2 * problem.s;
        out += of_mean[pixel] * pooled.share;
        if (pooled.argmax[n * problem.s + pixel] == channel) out += of_mean[problem.s + pixel];
      }
      values.values[k] = static_cast<S>(out);
    }
    store_pack<kWidth>(grad_x + at, values);
  }
};

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

Status cuda_attention_region_norm_sums(int32_t device, void* stream, const TensorView& grad,
                                       const TensorView& x, const TensorView& mask,
                                       const TensorView& maps, const TensorView& mean,
                                       const TensorView& rstd, const TensorView& workspace) {
  INPAINT_CHECK(grad.defined() && maps.defined(), "grad, maps: missing");
  RegionCall a;
  a.grad = grad;
  a.x = x;
  a.mask = mask;
  a.maps = maps;
  a.mean = mean;
  a.rstd = rstd;
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
  RegionCall a;
  a.grad = grad;
  a.x = x;
  a.mask = mask;
  a.maps = maps;
  a.mean = mean;
  a.rstd = rstd;
  a.grad_pooled = grad_pooled;
  a.argmax = argmax;
  a.out = grad_x;
  return run_region("cuda_attention_region_norm_input", device, stream, &a, workspace,
                    [&](auto zero, Launcher& launcher, const Layout& layout) {
                      run_gradient<decltype(zero)>(launcher, a, layout);
                    });
}

}  // namespace inpaint
