// Sums over batch and space for each channel, in two stages and without atomics: a unit of pixels
// is summed by one warp (contiguous) or block (channels-last) and leaves a row of partial values; a
// second kernel adds the rows of a channel in order. Units depend on the shape alone, so do the
// bits.
#pragma once

#include "../ops/checks.h"
#include "elements.cuh"

namespace inpaint {

struct Units {
  int64_t n, c, s;
  int64_t pixels;     // of one unit
  int64_t per_image;  // rows of an image
  __host__ __device__ int64_t rows() const { return n * per_image; }
};

constexpr int64_t kRows = 1024;  // that a channel has at most, batch permitting
constexpr int64_t kUnitStep = 256;

inline Units make_units(const Rows& x) {
  Units u{x.n, x.c, x.s, 0, 0};
  const int64_t share = ceil_div(x.n * x.s, kRows);
  u.pixels = ceil_div(share > 0 ? share : 1, kUnitStep) * kUnitStep;
  u.per_image = ceil_div(x.s, u.pixels);
  return u;
}

// Memory for partial values, from torch's allocator: a graph may capture the call.
inline Status check_workspace(const TensorView& workspace, int64_t floats) {
  if (floats == 0) return {};
  INPAINT_TRY(check_dtype("workspace", workspace, DType::kFloat32));
  INPAINT_CHECK(workspace.ndim == 1 && workspace.size[0] >= floats && workspace.stride[0] == 1,
                "workspace: expected ", floats, " numbers, got ", shape_text(workspace));
  return {};
}

constexpr int kLanes = kWarp, kLayers = kThreads / kWarp;

// The part of a unit that one thread reads. kChannels of them at a time are one pack, in
// channels-last order; in contiguous order a pack holds pixels of one channel.
template <bool kChannelsLast, int kWidth>
struct UnitThread {
  static constexpr int kChannels = kChannelsLast ? kWidth : 1;
  int64_t n, row, c, s0, s1;

  // Runs body(thread) for every unit that this warp or block has to sum.
  template <class Body>
  __device__ __forceinline__ static void for_units(const Units& u, const Body& body) {
    const int64_t stretches = ceil_div(u.c, kChannelsLast ? kLanes * kWidth : 1);
    const int64_t first = kChannelsLast ? static_cast<int64_t>(blockIdx.x)
                                        : static_cast<int64_t>(blockIdx.x) * kLayers + threadIdx.y;
    const int64_t step = static_cast<int64_t>(gridDim.x) * (kChannelsLast ? 1 : kLayers);
    for (int64_t i = first; i < u.rows() * stretches; i += step) {
      UnitThread t;
      t.row = i / stretches;
      t.n = t.row / u.per_image;
      t.c = i % stretches * (kChannelsLast ? kLanes * kWidth : 1) +
            (kChannelsLast ? threadIdx.x * kWidth : 0);
      t.s0 = t.row % u.per_image * u.pixels;
      t.s1 = t.s0 + u.pixels < u.s ? t.s0 + u.pixels : u.s;
      body(t);
    }
  }

  // body(flat index of a pack, its first pixel)
  template <class Body>
  __device__ __forceinline__ void for_packs(const Units& u, const Body& body) const {
    if constexpr (kChannelsLast) {
      if (c >= u.c) return;
      for (int64_t s = s0 + threadIdx.y; s < s1; s += kLayers) body((n * u.s + s) * u.c + c, s);
    } else {
      for (int64_t s = s0 + threadIdx.x * kWidth; s < s1; s += kLanes * kWidth) {
        body((n * u.c + c) * u.s + s, s);
      }
    }
  }

  // The sums over the threads that share the channels, known to all of them.
  template <int kValues>
  __device__ __forceinline__ static void sum_for_all(float (&values)[kValues][kChannels],
                                                     float* shared) {
    if constexpr (kChannelsLast) {
      put(values, shared);
      for (int v = 0; v < kValues; ++v) {
        for (int k = 0; k < kChannels; ++k) values[v][k] = total(shared, v * kChannels + k);
      }
      __syncthreads();
    } else {
      for (int v = 0; v < kValues; ++v) {
        for (int d = kWarp / 2; d > 0; d /= 2) {
          values[v][0] += __shfl_xor_sync(0xffffffffu, values[v][0], d);
        }
      }
    }
  }

  // The sums into rows of `partials`: (rows, stride values, C), from value `offset` on.
  template <int kValues>
  __device__ __forceinline__ void sum_and_write(const Units& u, float (&values)[kValues][kChannels],
                                                float* shared, float* partials, int stride,
                                                int offset) const {
    float* out = partials + (row * stride + offset) * u.c + c;
    if constexpr (kChannelsLast) {
      put(values, shared);
      constexpr int kSums = kValues * kChannels;
      for (int i = threadIdx.y; i < kSums; i += kLayers) {
        if (c < u.c) out[i / kChannels * u.c + i % kChannels] = total(shared, i);
      }
      __syncthreads();
    } else {
      sum_for_all(values, shared);
      if (threadIdx.x != 0) return;
      for (int v = 0; v < kValues; ++v) out[v * u.c] = values[v][0];
    }
  }

  // Floats of shared memory for sums of `values` values.
  static constexpr int shared_size(int values) {
    return kChannelsLast ? values * kChannels * kThreads : 1;
  }

 private:
  template <int kValues>
  __device__ __forceinline__ static void put(const float (&values)[kValues][kChannels],
                                             float* shared) {
    for (int v = 0; v < kValues; ++v) {
      for (int k = 0; k < kChannels; ++k) {
        shared[(v * kChannels + k) * kThreads + threadIdx.y * kLanes + threadIdx.x] = values[v][k];
      }
    }
    __syncthreads();
  }
  __device__ __forceinline__ static float total(const float* shared, int index) {
    float sum = 0;
    for (int y = 0; y < kLayers; ++y) sum += shared[index * kThreads + y * kLanes + threadIdx.x];
    return sum;
  }
};

// Body: run<kChannelsLast, kWidth>(units, shared) with kValues values at most.
template <class Body, bool kChannelsLast, int kWidth>
__global__ void __launch_bounds__(kThreads, 2) reduce_units(const Units units, const Body body) {
  __shared__ float shared[UnitThread<kChannelsLast, kWidth>::shared_size(Body::kValues)];
  body.template run<kChannelsLast, kWidth>(units, shared);
}

// Packs of sixteen bytes of pixels, or of two channels.
template <class S, class Body>
void run_units(Launcher& launcher, const Units& u, bool channels_last, bool is_aligned,
               const Body& body) {
  constexpr int kPixels = full_width<S>();
  const dim3 block(kLanes, kLayers);
  const auto grid = [&](int64_t units) { return dim3(grid_size(units, 1 << 20)); };
  if (channels_last) {
    const int width = u.c % 2 == 0 && is_aligned ? 2 : 1;
    const int64_t blocks = u.rows() * ceil_div(u.c, static_cast<int64_t>(kLanes) * width);
    if (width == 2) {
      launcher.run(reduce_units<Body, true, 2>, grid(blocks), block, u, body);
    } else {
      launcher.run(reduce_units<Body, true, 1>, grid(blocks), block, u, body);
    }
    return;
  }
  const int64_t blocks = ceil_div(u.rows() * u.c, kLayers);
  if (is_aligned && u.s % kPixels == 0) {
    launcher.run(reduce_units<Body, false, kPixels>, grid(blocks), block, u, body);
  } else {
    launcher.run(reduce_units<Body, false, 1>, grid(blocks), block, u, body);
  }
}

// The second stage: (rows, stride values, C) partial values of each channel by blocks of kLanes
// channels. Each thread adds every kLayers-th row in float64, then the threads of a channel are
// added in order: `sum(row values -> double)` for one quantity at a time.
template <class Value>
__device__ __forceinline__ double sum_rows(int64_t begin, int64_t end, double* shared,
                                           const Value& value) {
  double sum = 0;
  for (int64_t row = begin + threadIdx.y; row < end; row += kLayers) sum += value(row);
  shared[threadIdx.y * kLanes + threadIdx.x] = sum;
  __syncthreads();
  sum = 0;
  for (int y = 0; y < kLayers; ++y) sum += shared[y * kLanes + threadIdx.x];
  __syncthreads();
  return sum;
}

}  // namespace inpaint
