// What surrounds the dense convolution: the epilogue, in place on the raw result, and its backward
// with the bias gradient.
#include "../ops/partial_conv_args.h"
#include "units.cuh"

namespace inpaint {

namespace {

template <class S, bool kChannelsLast, bool kBias>
struct Epilogue {
  S* y;
  const float* ratio;
  const float* new_mask;
  const S* bias;
  int64_t ratio_n_stride, mask_n_stride;

  struct Row {
    int64_t ratio_at, mask_at, channel;
  };
  __device__ __forceinline__ Row row(int64_t n, int64_t outer) const {
    const int64_t pixel = kChannelsLast ? outer : 0;
    return {n * ratio_n_stride + pixel, n * mask_n_stride + pixel, outer};
  }
  template <int kWidth>
  __device__ __forceinline__ void elements(const Row& here, int64_t at, int64_t inner) const {
    Pack<S, kWidth> values = load_pack<kWidth>(y + at);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const int64_t pixel = kChannelsLast ? 0 : inner + k;
      float value = static_cast<float>(values.values[k]) * ratio[here.ratio_at + pixel];
      if (kBias) {
        const float offset = bias[kChannelsLast ? inner + k : here.channel];
        value = (value + offset) * new_mask[here.mask_at + pixel];
      }
      values.values[k] = static_cast<S>(value);
    }
    store_pack<kWidth>(y + at, values);
  }
};

// Without a bias there is nothing to sum, and the new mask is in the ratio already.
template <class S, bool kChannelsLast>
struct ScaleGradient {
  const S* grad;
  S* raw;
  const float* ratio;
  int64_t ratio_n_stride;

  __device__ __forceinline__ int64_t row(int64_t n, int64_t outer) const {
    return n * ratio_n_stride + (kChannelsLast ? outer : 0);
  }
  template <int kWidth>
  __device__ __forceinline__ void elements(int64_t ratio_at, int64_t at, int64_t inner) const {
    Pack<S, kWidth> values = load_pack<kWidth>(grad + at);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const float factor = ratio[ratio_at + (kChannelsLast ? 0 : inner + k)];
      values.values[k] = static_cast<S>(static_cast<float>(values.values[k]) * factor);
    }
    store_pack<kWidth>(raw + at, values);
  }
};

// The gradient of the raw result, and each unit's sums for the bias.
template <class S>
struct BiasGradient {
  static constexpr int kValues = 1;
  const S* grad;
  S* raw;
  const float* ratio;
  const float* new_mask;
  int64_t ratio_n_stride, mask_n_stride;
  float* partials;

  template <bool kChannelsLast, int kWidth>
  __device__ __forceinline__ void run(const Units& u, float* shared) const {
    using Thread = UnitThread<kChannelsLast, kWidth>;
    Thread::for_units(u, [&](const Thread& t) {
      float sums[1][Thread::kChannels] = {};
      t.for_packs(u, [&](int64_t at, int64_t s) {
        Pack<S, kWidth> values = load_pack<kWidth>(grad + at);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const int64_t pixel = s + (kChannelsLast ? 0 : k);
          const float g =
              static_cast<float>(values.values[k]) * new_mask[t.n * mask_n_stride + pixel];
          sums[0][kChannelsLast ? k : 0] += g;
          values.values[k] = static_cast<S>(g * ratio[t.n * ratio_n_stride + pixel]);
        }
        store_pack<kWidth>(raw + at, values);
      });
      t.sum_and_write(u, sums, shared, partials, 1, 0);
    });
  }
};

template <class S>
__global__ void __launch_bounds__(kThreads)
    finish_bias_gradient(const Units units, const float* __restrict__ partials,
                         S* __restrict__ grad_bias) {
  __shared__ double shared[kThreads];
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kLanes + threadIdx.x;
  const double sum = sum_rows(0, units.rows(), shared, [&](int64_t row) {
    return c < units.c ? static_cast<double>(partials[row * units.c + c]) : 0.0;
  });
  if (threadIdx.y == 0 && c < units.c) grad_bias[c] = static_cast<S>(static_cast<float>(sum));
}

template <class S>
void run_epilogue(Launcher& launcher, const EpilogueArgs& a) {
  const Rows rows{a.n, a.c, a.s, a.channels_last};
  S* y = static_cast<S*>(a.y);
  const float* ratio = static_cast<const float*>(a.ratio);
  const float* new_mask = static_cast<const float*>(a.new_mask);
  const S* bias = static_cast<const S*>(a.bias);
  const auto run = [&](auto body) { run_elementwise<S>(launcher, rows, aligned(y), body); };
  const int64_t rs = a.ratio_n_stride, ms = a.mask_n_stride;
  if (a.channels_last) {
    if (bias != nullptr) {
      run(Epilogue<S, true, true>{y, ratio, new_mask, bias, rs, ms});
    } else {
      run(Epilogue<S, true, false>{y, ratio, new_mask, bias, rs, ms});
    }
  } else if (bias != nullptr) {
    run(Epilogue<S, false, true>{y, ratio, new_mask, bias, rs, ms});
  } else {
    run(Epilogue<S, false, false>{y, ratio, new_mask, bias, rs, ms});
  }
}

template <class S>
void run_epilogue_backward(Launcher& launcher, const EpilogueArgs& a, const Units& units,
                           float* partials) {
  const Rows rows{a.n, a.c, a.s, a.channels_last};
  const S* grad = static_cast<const S*>(a.grad);
  S* raw = static_cast<S*>(a.y);
  const float* ratio = static_cast<const float*>(a.ratio);
  const bool is_aligned = aligned(grad) && aligned(raw);
  if (a.grad_bias == nullptr) {
    if (a.channels_last) {
      run_elementwise<S>(launcher, rows, is_aligned,
                         ScaleGradient<S, true>{grad, raw, ratio, a.ratio_n_stride});
    } else {
      run_elementwise<S>(launcher, rows, is_aligned,
                         ScaleGradient<S, false>{grad, raw, ratio, a.ratio_n_stride});
    }
    return;
  }
  run_units<S>(launcher, units, a.channels_last, is_aligned,
               BiasGradient<S>{grad, raw, ratio, static_cast<const float*>(a.new_mask),
                               a.ratio_n_stride, a.mask_n_stride, partials});
  launcher.run(finish_bias_gradient<S>, dim3(grid_size(ceil_div(units.c, kLanes))),
               dim3(kLanes, kLayers), units, static_cast<const float*>(partials),
               static_cast<S*>(a.grad_bias));
}

}  // namespace

Status cuda_partial_conv_epilogue(int32_t device, void* stream, const TensorView& y,
                                  const TensorView& ratio, const TensorView& new_mask,
                                  const TensorView& bias) {
  EpilogueArgs a{};
  INPAINT_TRY(epilogue_args("y", y, ratio, new_mask, "bias", bias, &a));
  if (y.numel() == 0) return {};
  a.y = y.data;
  a.bias = bias.data;
  Launcher launcher("cuda_partial_conv_epilogue", device, stream);
  const Status known = for_half_or_float(
      "y", a.dtype, [&](auto zero) { run_epilogue<decltype(zero)>(launcher, a); });
  return known.ok() ? launcher.status() : known;
}

Status cuda_partial_conv_epilogue_backward(int32_t device, void* stream, const TensorView& grad,
                                           const TensorView& ratio, const TensorView& new_mask,
                                           const TensorView& grad_raw, const TensorView& grad_bias,
                                           const TensorView& workspace) {
  EpilogueArgs a{};
  INPAINT_TRY(epilogue_args("grad", grad, ratio, new_mask, "grad_bias", grad_bias, &a));
  INPAINT_TRY(check_like("grad_raw", grad_raw, "grad", grad));
  const Units units = make_units({a.n, a.c, a.s, a.channels_last});
  INPAINT_TRY(check_workspace(workspace, grad_bias.defined() ? units.rows() * a.c : 0));
  if (grad.numel() == 0) return {};  // the caller cleared the gradient of the bias
  a.grad = grad.data;
  a.y = grad_raw.data;
  a.grad_bias = grad_bias.data;
  Launcher launcher("cuda_partial_conv_epilogue_backward", device, stream);
  const Status known = for_half_or_float("grad", a.dtype, [&](auto zero) {
    run_epilogue_backward<decltype(zero)>(launcher, a, units, static_cast<float*>(workspace.data));
  });
  return known.ok() ? launcher.status() : known;
}

}  // namespace inpaint
