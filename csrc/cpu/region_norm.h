// Pieces that the plain and the attention form of region normalization share.
#pragma once

#include "../common/moments.h"
#include "simd.h"

namespace inpaint {
namespace INPAINT_SIMD {

constexpr int64_t kFlush = 128;  // channels-last: pixels summed before float64 takes over

INPAINT_INLINE int64_t units_of(const RegionNormArgs& a) {
  return (a.regions.chunks + kUnitChunks - 1) / kUnitChunks;
}

// A stretch of pixels of one image: one chunk, and what is known of its regions.
struct Chunk {
  int64_t s0, s1;         // pixels of the image
  const uint8_t* labels;  // of the image, indexed by pixel
  int32_t count[2];
  int64_t first[2];
};

INPAINT_INLINE Chunk chunk_at(const RegionNormArgs& a, int64_t n, int64_t chunk) {
  Chunk out;
  out.s0 = chunk * kChunk;
  out.s1 = min_of(out.s0 + kChunk, a.s);
  out.labels = a.regions.labels + n * a.regions.n_stride;
  const int64_t at = n * a.regions.chunk_n_stride + chunk * 2;
  for (int r = 0; r < 2; ++r) {
    out.count[r] = a.regions.counts[at + r];
    out.first[r] = a.regions.first[at + r];
  }
  return out;
}

// One of the per-region, per-channel tables for an image: row r starts at r * c.
template <class T>
INPAINT_INLINE const T* table(const RegionNormArgs& a, const void* values, int64_t n) {
  return static_cast<const T*>(values) + n * a.stat_n_stride;
}

// A table's two entries for one channel as one value per lane, chosen by the lane's label.
template <class T>
struct Choice {
  T of[2];
  Vec<T> wide[2];
  INPAINT_INLINE Choice(const T* rows, int64_t c, int64_t channel)
      : of{rows[channel], rows[c + channel]}, wide{splat<T>(of[0]), splat<T>(of[1])} {}
  // `region` is 0 or 1, or -1 to choose by lane.
  INPAINT_INLINE Vec<T> at(int region, typename Lanes<T>::Int labels) const {
    return region == 0 ? wide[0] : (region == 1 ? wide[1] : (labels ? wide[1] : wide[0]));
  }
};

// Sums of two quantities by region: added whole where a vector lies in one region.
template <class T>
struct RegionSums {
  Vec<T> a[2] = {{}, {}}, b[2] = {{}, {}};
  template <int region>
  INPAINT_INLINE void add(const Vec<T>& x, const Vec<T>& y) {
    a[region] += x;
    b[region] += y;
  }
  INPAINT_INLINE void add_mixed(typename Lanes<T>::Int hole, const Vec<T>& x, const Vec<T>& y) {
    const Vec<T> zero{};
    a[0] += hole ? zero : x;
    b[0] += hole ? zero : y;
    a[1] += hole ? x : zero;
    b[1] += hole ? y : zero;
  }
  // Adds the sums to out: a of region 0, b of region 0, a of region 1, b of region 1.
  INPAINT_INLINE void collect(double out[4]) const {
    for (int r = 0; r < 2; ++r) {
      out[r * 2] += horizontal_sum<T>(a[r]);
      out[r * 2 + 1] += horizontal_sum<T>(b[r]);
    }
  }
};

}  // namespace INPAINT_SIMD
}  // namespace inpaint
