// What the passes of region normalization know of a region and channel, in float32, and where it
// lies in the workspace: (values, statistics groups, 2 regions, C).
#pragma once

#include "../ops/region_checks.h"
#include "units.cuh"

namespace inpaint {

enum RegionValue {
  kMean,  // rounded
  kLost,  // what it lost by that
  kRstd,
  kGain,    // weight
  kOffset,  // bias
  kScale,   // rstd * gain, and
  kShift,   // offset - lost * scale: all that a pixel of one region needs
  kRegionValues
};
enum GradientValue { kMeanU, kMeanUD, kMeanWWD, kGradientValues };

// Partial values of a unit: forward [mean, W] by region, then [A, B, Q, V]; backward by region.
constexpr int kMomentValues = 12;
enum Moment { kUnitMean, kUnitW, kUnitA = 4, kUnitB, kUnitQ, kUnitV };
constexpr int kSumValues = 12;
enum Sum { kSumU, kSumUD, kSumWWD, kSumGN, kSumGW, kSumW, kSumsOfRegion };

struct RegionTables {
  float* values;
  int64_t c, groups;
  __host__ __device__ int64_t step() const { return groups * 2 * c; }
  __device__ __forceinline__ int64_t at(int64_t group, int region, int64_t channel) const {
    return (group * 2 + region) * c + channel;
  }
  __device__ __forceinline__ float get(int value, int64_t index) const {
    return values[value * step() + index];
  }
  __device__ __forceinline__ void set(int value, int64_t index, double number) const {
    values[value * step() + index] = static_cast<float>(number);
  }
};

__device__ __forceinline__ void fill_tables(const RegionTables& tables, int64_t index, double mean,
                                            double rstd, double gain, double offset) {
  const double lost = mean - static_cast<double>(static_cast<float>(mean));
  tables.set(kMean, index, mean);
  tables.set(kLost, index, lost);
  tables.set(kRstd, index, rstd);
  tables.set(kGain, index, gain);
  tables.set(kOffset, index, offset);
  tables.set(kScale, index, rstd * gain);
  tables.set(kShift, index, offset - lost * rstd * gain);
}

// A pixel's share in each region: the mask and one minus it.
struct Shares {
  float of[2];
  __device__ __forceinline__ explicit Shares(float m) : of{m, 1.0f - m} {}
  __device__ __forceinline__ bool one_region() const { return of[0] == 0.0f || of[1] == 0.0f; }
  __device__ __forceinline__ int region() const { return of[0] == 0.0f ? 1 : 0; }
};

// A row of an elementwise pass.
struct RowIndex {
  int64_t n, outer;  // the channel, or the pixel
};

// What a block adds to a norm: `ratio` on the way in, activation and new mask on the way out.
struct Frame {
  const float* ratio;  // (n or 1, s)
  const float* new_mask;
  int64_t ratio_n_stride, new_mask_n_stride;
  float slope;
  // ReLU by selection: zero times infinity is no zero.
  __device__ __forceinline__ float activated(float u, float kept) const {
    return (slope == 0.0f ? (u < 0.0f ? 0.0f : u) : (u > 0.0f ? u : u * slope)) * kept;
  }
  // The gradient of u, given that of the result.
  __device__ __forceinline__ float gradient(float grad, float u, float kept) const {
    const float through = grad * kept;
    return u > 0.0f ? through : (slope == 0.0f ? 0.0f : through * slope);
  }
};

// Neighbouring values of a plane, sixteen bytes at a time: kPixels is 1, 4 or 8.
template <int kPixels, class T>
__device__ __forceinline__ void load_plane(const T* from, T (&values)[kPixels]) {
  constexpr int kStep = kPixels < 4 ? kPixels : 4;
#pragma unroll
  for (int i = 0; i < kPixels; i += kStep) {
    const Pack<T, kStep> part = load_pack<kStep>(from + i);
#pragma unroll
    for (int k = 0; k < kStep; ++k) values[i + k] = part.values[k];
  }
}

// The pixels of one pack: in channels-last order they are one and the same.
template <bool kBlock, int kPixels>
struct Pixels {
  static constexpr int kFramed = kBlock ? kPixels : 1;
  float labels[kPixels], gammas[kPixels], betas[kPixels], ratios[kFramed], kepts[kFramed];
  __device__ __forceinline__ static int of(int k) { return kPixels == 1 ? 0 : k; }
  __device__ __forceinline__ Shares shares(int k) const { return Shares(labels[of(k)]); }
  __device__ __forceinline__ float gamma(int k) const { return gammas[of(k)]; }
  __device__ __forceinline__ float beta(int k) const { return betas[of(k)]; }
  __device__ __forceinline__ float kept(int k) const { return kepts[of(k)]; }
  // What is normalized, from x; and the gradient of x, from that of what is normalized.
  __device__ __forceinline__ float framed(float x, int k) const {
    return kBlock ? x * ratios[of(k)] : x;
  }
};

// Everything a kernel asks about the problem.
template <bool kBlock>
struct RegionProblem {
  const float* mask;  // (n or 1, s); null in a block of one region
  int64_t mask_n_stride;
  int64_t group_step;  // 1 with instance statistics: the group is the image; else 0
  const float* maps;   // gamma and beta per pixel, (n, 2, s), or null
  int64_t s;
  Frame frame;

  __device__ __forceinline__ bool one_region() const { return kBlock && mask == nullptr; }
  template <int kPixels>
  __device__ __forceinline__ Pixels<kBlock, kPixels> pixels(int64_t n, int64_t pixel) const {
    Pixels<kBlock, kPixels> p;
    if (one_region()) {
#pragma unroll
      for (int k = 0; k < kPixels; ++k) p.labels[k] = 1.0f;
    } else {
      load_plane(mask + n * mask_n_stride + pixel, p.labels);
    }
    if (maps != nullptr) {
      load_plane(maps + n * 2 * s + pixel, p.gammas);
      load_plane(maps + (n * 2 + 1) * s + pixel, p.betas);
    }
    if constexpr (kBlock) {
      load_plane(frame.ratio + n * frame.ratio_n_stride + pixel, p.ratios);
      load_plane(frame.new_mask + n * frame.new_mask_n_stride + pixel, p.kepts);
    }
    return p;
  }
};

inline const float* floats(const TensorView& t) { return static_cast<const float*>(t.data); }

template <bool kBlock>
RegionProblem<kBlock> problem_of(const RegionCall& a) {
  return {floats(a.mask),
          a.mask_n_stride,
          a.instance ? 1 : 0,
          floats(a.maps),
          a.s,
          {floats(a.ratio), floats(a.new_mask), a.ratio_n_stride, a.new_mask_n_stride,
           static_cast<float>(a.slope)}};
}

// A value and the gradient of what became of it, as both backward passes see them.
struct Arriving {
  float d[2];        // z - mu of the regions that the pixel is in
  float normalized;  // sum of w d rstd
  float gain;        // of the affine map
  float grad;        // that reaches the affine map

  template <bool kBlock, int kPixels>
  __device__ __forceinline__ Arriving(const RegionProblem<kBlock>& problem,
                                      const RegionTables& tables, const Pixels<kBlock, kPixels>& p,
                                      int k, int64_t group, int64_t channel, float x, float g)
      : normalized(0.0f), gain(0.0f), grad(g) {
    const bool has_maps = problem.maps != nullptr;
    const Shares w = p.shares(k);
    const float z = p.framed(x, k);
    float offset = 0.0f;
    if (has_maps) {
      gain = 1.0f + p.gamma(k);
      offset = p.beta(k);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      // Statistics of a region that the pixel is not in are not looked at: they may be NaN.
      d[r] = 0.0f;
      if (w.of[r] == 0.0f) continue;
      const int64_t i = tables.at(group, r, channel);
      d[r] = z - tables.get(kMean, i) - tables.get(kLost, i);
      normalized += w.of[r] * d[r] * tables.get(kRstd, i);
      if (has_maps) continue;
      gain += w.of[r] * tables.get(kGain, i);
      if (kBlock) offset += w.of[r] * tables.get(kOffset, i);
    }
    if (kBlock) grad = problem.frame.gradient(g, normalized * gain + offset, p.kept(k));
  }
};

}  // namespace inpaint
