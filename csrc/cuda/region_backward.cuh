// The backward passes of region normalization: sums of units, their merging, and the gradient of x.
#pragma once

#include "region_tables.cuh"

namespace inpaint {

namespace {

// Tables from statistics that the forward kept, or that were given: (groups, 2, C), or (1, 1, C).
__global__ void __launch_bounds__(kThreads)
    tables_of(const RegionTables tables, int regions, const double* mean, const double* rstd,
              const float* weight, const float* bias) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t rows = tables.groups * regions * tables.c;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < rows;
       i += step) {
    const int64_t rc = i % (2 * tables.c);
    fill_tables(tables, i, mean[i], rstd[i], weight ? weight[rc] : 1.0, bias ? bias[rc] : 0.0);
  }
}

// With u = w g gain the gradient of w (x - mu) rstd, seen from the normalized value, and d = x -
// mu: sums of u, u d, w^2 d, g normalized w, g w and w by region. g is what reaches the affine map.
template <class S, bool kBlock>
struct UnitSums {
  static constexpr int kValues = kSumValues;
  const S* x;
  const S* grad;
  RegionProblem<kBlock> problem;
  RegionTables tables;
  float* partials;

  template <bool kChannelsLast, int kWidth>
  __device__ __forceinline__ void run(const Units& u, float* shared) const {
    using Thread = UnitThread<kChannelsLast, kWidth>;
    constexpr int kChannels = Thread::kChannels, kPixels = kChannelsLast ? 1 : kWidth;
    Thread::for_units(u, [&](const Thread& t) {
      float sums[kValues][kChannels] = {};
      const int64_t group = t.n * problem.group_step;
      t.for_packs(u, [&](int64_t at, int64_t s) {
        const Pack<S, kWidth> xs = load_pack<kWidth>(x + at), gs = load_pack<kWidth>(grad + at);
        const auto p = problem.template pixels<kPixels>(t.n, s);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const int ch = kChannelsLast ? k : 0;
          const Arriving here(problem, tables, p, k, group, t.c + ch, xs.values[k], gs.values[k]);
          const Shares w = p.shares(k);
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const float wr = w.of[r], through = wr * here.grad * here.gain;
            if (wr == 0.0f) continue;
            sums[r * kSumsOfRegion + kSumU][ch] += through;
            sums[r * kSumsOfRegion + kSumUD][ch] += through * here.d[r];
            sums[r * kSumsOfRegion + kSumWWD][ch] += wr * wr * here.d[r];
            sums[r * kSumsOfRegion + kSumGN][ch] += here.grad * here.normalized * wr;
            sums[r * kSumsOfRegion + kSumGW][ch] += here.grad * wr;
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
    finish_sums(const Units u, const float* partials, int regions, const RegionTables tables,
                const RegionTables means, float* grad_weight, float* grad_bias) {
  __shared__ double shared[kThreads];
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kLanes + threadIdx.x;
  const bool there = c < u.c;
  const int64_t rows = u.rows() / tables.groups;
  for (int r = 0; r < regions; ++r) {
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

template <class S, bool kBlock, bool kChannelsLast>
struct ApplyGradient {
  const S* x;
  const S* grad;
  S* grad_x;
  RegionProblem<kBlock> problem;
  RegionTables tables, means;
  PooledGradient pooled;
  bool fixed;  // given statistics do not depend on x

  __device__ __forceinline__ RowIndex row(int64_t n, int64_t outer) const { return {n, outer}; }
  template <int kWidth>
  __device__ __forceinline__ void elements(const RowIndex& here, int64_t at, int64_t inner) const {
    constexpr int kPixels = kChannelsLast ? 1 : kWidth;
    const int64_t n = here.n, outer = here.outer, group = n * problem.group_step;
    const Pack<S, kWidth> xs = load_pack<kWidth>(x + at);
    Pack<S, kWidth> values = load_pack<kWidth>(grad + at);
    const auto p = problem.template pixels<kPixels>(n, kChannelsLast ? outer : inner);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const int64_t pixel = kChannelsLast ? outer : inner + k;
      const int64_t channel = kChannelsLast ? inner + k : outer;
      const Arriving now(problem, tables, p, k, group, channel, xs.values[k], values.values[k]);
      const Shares w = p.shares(k);
      float out = 0.0f;
      for (int r = 0; r < 2; ++r) {
        const float wr = w.of[r];
        if (wr == 0.0f) continue;
        const int64_t i = tables.at(group, r, channel);
        float through = now.grad * now.gain;
        if (!(kBlock && fixed)) {
          through = through - means.get(kMeanU, i) -
                    means.get(kMeanUD, i) * (wr * now.d[r] - means.get(kMeanWWD, i));
        }
        out += tables.get(kRstd, i) * wr * through;
      }
      if (pooled.grad_pooled != nullptr) {
        const float* of_mean = pooled.grad_pooled + n * 2 * problem.s;
        out += of_mean[pixel] * pooled.share;
        if (pooled.argmax[n * problem.s + pixel] == channel) out += of_mean[problem.s + pixel];
      }
      values.values[k] = static_cast<S>(p.framed(out, k));
    }
    store_pack<kWidth>(grad_x + at, values);
  }
};

}  // namespace

}  // namespace inpaint
