// What the learned form of region normalization (RN_L) adds: reductions over the channels of a
// pixel. The mean and the maximum that its attention map is made from, and the gradients of gamma
// and beta.
#include "region_passes.h"
#include "region_tables.cuh"

namespace inpaint {

namespace {

// Pixels are threads in contiguous order: neighbours read neighbouring pixels of a plane. In
// channels-last order they are warps, whose lanes read neighbouring channels.
// Body: Value start(n, pixel), add(Value*, flat index, channel), merge(Value*, Value from a lane
// with other channels), finish(Value, n, pixel).
template <class Body, bool kChannelsLast>
__global__ void __launch_bounds__(kThreads, 4) reduce_channels(const Rows x, const Body body) {
  constexpr int kShare = kChannelsLast ? kWarp : 1;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kShare;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x / kShare;
  const int lane = kChannelsLast ? static_cast<int>(threadIdx.x % kWarp) : 0;
  for (int64_t p = first; p < x.n * x.s; p += step) {
    const int64_t n = p / x.s, pixel = p % x.s;
    auto value = body.start(n, pixel);
    for (int64_t c = lane; c < x.c; c += kShare) {
      const int64_t at = kChannelsLast ? p * x.c + c : (n * x.c + c) * x.s + pixel;
      body.add(&value, at, c);
    }
    if constexpr (kChannelsLast) {
      for (int d = kWarp / 2; d > 0; d /= 2) body.merge(&value, d);
    }
    if (lane == 0) body.finish(value, n, pixel);
  }
}

template <class Body>
void run_channels(Launcher& launcher, const Rows& x, const Body& body) {
  const int64_t threads = x.n * x.s * (x.channels_last ? kWarp : 1);
  const dim3 grid(grid_size(ceil_div(threads, kThreads), 1 << 20)), block(kThreads);
  if (x.channels_last) {
    launcher.run(reduce_channels<Body, true>, grid, block, x, body);
  } else {
    launcher.run(reduce_channels<Body, false>, grid, block, x, body);
  }
}

__device__ __forceinline__ float from_lane(float value, int distance) {
  return __shfl_down_sync(0xffffffffu, value, distance);
}
__device__ __forceinline__ int from_lane(int value, int distance) {
  return __shfl_down_sync(0xffffffffu, value, distance);
}

// torch.max's choice: the first of equal values, and a NaN before anything else.
template <class S>
struct Pool {
  const S* x;
  float* pooled;    // (n, 2, s)
  int32_t* argmax;  // (n, s)
  int64_t c, s;

  struct Value {
    float sum, best;
    int32_t channel;  // -1: none yet
  };
  __device__ __forceinline__ Value start(int64_t, int64_t) const { return {0.0f, 0.0f, -1}; }
  __device__ __forceinline__ static void take(Value* v, float value, int32_t channel) {
    if (channel < 0) return;
    const bool nan = value != value, best_nan = v->best != v->best;
    const bool first = v->channel < 0;
    const bool better = first || (nan && !best_nan) || (!best_nan && value > v->best);
    const bool tie = !first && (value == v->best || (nan && best_nan)) && channel < v->channel;
    if (better || tie) {
      v->best = value;
      v->channel = channel;
    }
  }
  __device__ __forceinline__ void add(Value* v, int64_t at, int64_t channel) const {
    const float value = x[at];
    v->sum += value;
    take(v, value, static_cast<int32_t>(channel));
  }
  __device__ __forceinline__ void merge(Value* v, int distance) const {
    v->sum += from_lane(v->sum, distance);
    const float best = from_lane(v->best, distance);
    const int channel = from_lane(v->channel, distance);
    take(v, best, channel);
  }
  __device__ __forceinline__ void finish(const Value& v, int64_t n, int64_t pixel) const {
    pooled[n * 2 * s + pixel] = v.sum / static_cast<float>(c);
    pooled[(n * 2 + 1) * s + pixel] = v.best;
    argmax[n * s + pixel] = v.channel;
  }
};

// Sums over channels of grad * normalized and of grad; in a block, of the gradient that has come
// back through new mask and activation.
template <class S, bool kBlock>
struct MapGradients {
  const S* x;
  const S* grad;
  RegionProblem<kBlock> problem;
  const double* mean;  // (2, C)
  const double* rstd;
  float* grad_maps;  // (n, 2, s)
  int64_t c;

  struct Value {
    float gamma, beta;
    Pixels<kBlock, 1> pixel;
  };
  __device__ __forceinline__ Value start(int64_t n, int64_t pixel) const {
    return {0.0f, 0.0f, problem.template pixels<1>(n, pixel)};
  }
  __device__ __forceinline__ void add(Value* v, int64_t at, int64_t channel) const {
    const Pixels<kBlock, 1>& p = v->pixel;
    const int64_t i = p.shares(0).region() * c + channel;
    const float mu = static_cast<float>(mean[i]);
    const float lost = static_cast<float>(mean[i] - static_cast<double>(mu));
    const float normalized = (p.framed(x[at], 0) - mu - lost) * static_cast<float>(rstd[i]);
    float g = grad[at];
    if (kBlock) {
      const float u = normalized * (1.0f + p.gamma(0)) + p.beta(0);
      g = problem.frame.gradient(g, u, p.kept(0));
    }
    v->gamma += g * normalized;
    v->beta += g;
  }
  __device__ __forceinline__ void merge(Value* v, int distance) const {
    v->gamma += from_lane(v->gamma, distance);
    v->beta += from_lane(v->beta, distance);
  }
  __device__ __forceinline__ void finish(const Value& v, int64_t n, int64_t pixel) const {
    grad_maps[n * 2 * problem.s + pixel] = v.gamma;
    grad_maps[(n * 2 + 1) * problem.s + pixel] = v.beta;
  }
};

template <bool kBlock>
Status map_gradients(Launcher& launcher, const RegionCall& a) {
  return for_half_or_float("x", a.x.dtype, [&](auto zero) {
    using S = decltype(zero);
    run_channels(
        launcher, {a.n, a.c, a.s, a.channels_last},
        MapGradients<S, kBlock>{static_cast<const S*>(a.x.data), static_cast<const S*>(a.grad.data),
                                problem_of<kBlock>(a), static_cast<const double*>(a.mean.data),
                                static_cast<const double*>(a.rstd.data),
                                static_cast<float*>(a.grad_maps.data), a.c});
  });
}

Status attention_call(const TensorView& x, const Surround& surround, const TensorView& mask,
                      const TensorView& maps, const TensorView& mean, const TensorView& rstd,
                      RegionCall* a) {
  INPAINT_CHECK(mask.defined() && maps.defined(), "mask, maps: missing");
  a->x = x;
  a->surround(surround);
  a->mask = mask;
  a->maps = maps;
  a->mean = mean;
  a->rstd = rstd;
  return {};
}

}  // namespace

Status cuda_channel_pool(int32_t device, void* stream, const TensorView& x,
                         const TensorView& pooled, const TensorView& argmax) {
  Dense dense;
  INPAINT_TRY(check_channel_pool(x, pooled, argmax, &dense));
  if (x.numel() == 0) return {};
  Launcher launcher("cuda_channel_pool", device, stream);
  const Rows rows{dense.n, dense.c, dense.s, dense.channels_last};
  const Status known = for_half_or_float("x", x.dtype, [&](auto zero) {
    using S = decltype(zero);
    run_channels(launcher, rows,
                 Pool<S>{static_cast<const S*>(x.data), static_cast<float*>(pooled.data),
                         static_cast<int32_t*>(argmax.data), dense.c, dense.s});
  });
  return known.ok() ? launcher.status() : known;
}

Status cuda_attention_region_norm_forward(int32_t device, void* stream, const TensorView& x,
                                          const Surround& surround, const TensorView& mask,
                                          const TensorView& maps, double eps, const TensorView& y,
                                          const TensorView& mean, const TensorView& rstd,
                                          const TensorView& workspace) {
  RegionCall a;
  INPAINT_TRY(attention_call(x, surround, mask, maps, mean, rstd, &a));
  a.eps = eps;
  a.out = y;
  const auto run = surround.ratio.defined() ? region_forward<true> : region_forward<false>;
  return run("cuda_attention_region_norm_forward", device, stream, &a, workspace);
}

Status cuda_attention_region_norm_maps(int32_t device, void* stream, const TensorView& grad,
                                       const TensorView& x, const Surround& surround,
                                       const TensorView& mask, const TensorView& maps,
                                       const TensorView& mean, const TensorView& rstd,
                                       const TensorView& grad_maps) {
  INPAINT_CHECK(grad.defined() && grad_maps.defined(), "grad, grad_maps: missing");
  RegionCall a;
  INPAINT_TRY(attention_call(x, surround, mask, maps, mean, rstd, &a));
  a.grad = grad;
  a.grad_maps = grad_maps;
  INPAINT_TRY(check_region_call(&a));
  if (x.numel() == 0) return {};
  Launcher launcher("cuda_attention_region_norm_maps", device, stream);
  const Status known =
      a.ratio.defined() ? map_gradients<true>(launcher, a) : map_gradients<false>(launcher, a);
  return known.ok() ? launcher.status() : known;
}

Status cuda_attention_region_norm_sums(int32_t device, void* stream, const TensorView& grad,
                                       const TensorView& x, const Surround& surround,
                                       const TensorView& mask, const TensorView& maps,
                                       const TensorView& mean, const TensorView& rstd,
                                       const TensorView& workspace) {
  RegionCall a;
  INPAINT_TRY(attention_call(x, surround, mask, maps, mean, rstd, &a));
  a.grad = grad;
  const auto run = surround.ratio.defined() ? region_backward<true> : region_backward<false>;
  return run("cuda_attention_region_norm_sums", device, stream, Backward::kSums, &a, workspace);
}

Status cuda_attention_region_norm_input(int32_t device, void* stream, const TensorView& grad,
                                        const TensorView& x, const Surround& surround,
                                        const TensorView& mask, const TensorView& maps,
                                        const TensorView& mean, const TensorView& rstd,
                                        const TensorView& grad_pooled, const TensorView& argmax,
                                        const TensorView& grad_x, const TensorView& workspace) {
  INPAINT_CHECK(grad_pooled.defined(), "grad_pooled: missing");
  RegionCall a;
  INPAINT_TRY(attention_call(x, surround, mask, maps, mean, rstd, &a));
  a.grad = grad;
  a.grad_pooled = grad_pooled;
  a.argmax = argmax;
  a.out = grad_x;
  const auto run = surround.ratio.defined() ? region_backward<true> : region_backward<false>;
  return run("cuda_attention_region_norm_input", device, stream, Backward::kGradient, &a,
             workspace);
}

}  // namespace inpaint
