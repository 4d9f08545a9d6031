// What the passes of region normalization know of a region and channel, in float32, and where it
// lies in the workspace: (values, statistics groups, 2 regions, C).
#pragma once

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

// Everything a kernel asks about the problem.
struct RegionProblem {
  const float* mask;  // (n or 1, s)
  int64_t mask_n_stride;
  int64_t group_step;  // 1 with instance statistics: the group is the image; else 0
  const float* maps;   // gamma and beta per pixel, (n, 2, s), or null
  int64_t s;
  __device__ __forceinline__ float share(int64_t n, int64_t pixel) const {
    return mask[n * mask_n_stride + pixel];
  }
  __device__ __forceinline__ float gamma(int64_t n, int64_t pixel) const {
    return maps[n * 2 * s + pixel];
  }
  __device__ __forceinline__ float beta(int64_t n, int64_t pixel) const {
    return maps[(n * 2 + 1) * s + pixel];
  }
};

}  // namespace inpaint
