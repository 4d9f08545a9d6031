// The forward passes of region normalization: statistics of units, their merging, and apply.
#pragma once

#include "region_tables.cuh"

namespace inpaint {

namespace {

// Around the unit's mean m of each region: W = sum w, A = sum w d, B = sum w^2 d, Q = sum w^2 d^2
// and V = sum w^2, where d = x - m.
template <class S, bool kBlock>
struct UnitMoments {
  static constexpr int kValues = 8;
  const S* x;
  RegionProblem<kBlock> problem;
  float* partials;

  template <bool kChannelsLast, int kWidth>
  __device__ __forceinline__ void run(const Units& u, float* shared) const {
    using Thread = UnitThread<kChannelsLast, kWidth>;
    constexpr int kChannels = Thread::kChannels, kPixels = kChannelsLast ? 1 : kWidth;
    Thread::for_units(u, [&](const Thread& t) {
      float first[4][kChannels] = {};  // sum of w x, and W, by region
      t.for_packs(u, [&](int64_t at, int64_t s) {
        const Pack<S, kWidth> values = load_pack<kWidth>(x + at);
        const auto p = problem.template pixels<kPixels>(t.n, s);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const Shares w = p.shares(k);
          const int ch = kChannelsLast ? k : 0;
          const float value = p.framed(values.values[k], k);
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            if (r == 1 && problem.one_region()) continue;
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
        const auto p = problem.template pixels<kPixels>(t.n, s);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const Shares w = p.shares(k);
          const int ch = kChannelsLast ? k : 0;
          const float value = p.framed(values.values[k], k);
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            if (r == 1 && problem.one_region()) continue;
            const float d = value - first[r * 2][ch];
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
  int regions;          // 2, or 1: then there is one group
  const float* weight;  // (regions, C) or null
  const float* bias;
  double* mean;  // (groups, regions, C)
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
    for (int r = 0; r < a.regions; ++r) {
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

template <class S, bool kBlock, bool kChannelsLast>
struct Apply {
  const S* x;
  S* y;
  RegionProblem<kBlock> problem;
  RegionTables tables;

  __device__ __forceinline__ RowIndex row(int64_t n, int64_t outer) const { return {n, outer}; }
  template <int kWidth>
  __device__ __forceinline__ void elements(const RowIndex& here, int64_t at, int64_t inner) const {
    constexpr int kPixels = kChannelsLast ? 1 : kWidth;
    const int64_t n = here.n, outer = here.outer, group = n * problem.group_step;
    Pack<S, kWidth> values = load_pack<kWidth>(x + at);
    const auto p = problem.template pixels<kPixels>(n, kChannelsLast ? outer : inner);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const int64_t channel = kChannelsLast ? inner + k : outer;
      const Shares w = p.shares(k);
      const float value = p.framed(values.values[k], k);
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
      if (problem.maps != nullptr) out = out * (1.0f + p.gamma(k)) + p.beta(k);
      if (kBlock) out = problem.frame.activated(out, p.kept(k));
      values.values[k] = static_cast<S>(out);
    }
    store_pack<kWidth>(y + at, values);
  }
};

}  // namespace

}  // namespace inpaint
