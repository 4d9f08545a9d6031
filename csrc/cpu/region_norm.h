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

// What a block adds to a norm, for one image: `ratio` on the way in, activation and new mask on the
// way out. V is a number or a vector of them.
template <class T, bool kBlock>
struct Frame {
  const T* ratio = nullptr;
  const T* new_mask = nullptr;
  T slope = T(0);
  INPAINT_INLINE Frame(const RegionNormArgs& a, int64_t n) {
    if (!kBlock) return;
    ratio = static_cast<const T*>(a.ratio) + n * a.ratio_n_stride;
    new_mask = static_cast<const T*>(a.new_mask) + n * a.new_mask_n_stride;
    slope = static_cast<T>(a.slope);
  }
  template <class S>
  INPAINT_INLINE Vec<T> input(const S* x, int64_t s) const {
    return kBlock ? load(x + s) * load(ratio + s) : load(x + s);
  }
  template <class S>
  INPAINT_INLINE T input_at(const S* x, int64_t s) const {
    const T value = x[s];
    return kBlock ? value * ratio[s] : value;
  }
  // Of a pixel in channels-last order.
  INPAINT_INLINE T factor(int64_t s) const { return kBlock ? ratio[s] : T(1); }
  INPAINT_INLINE T kept(int64_t s) const { return kBlock ? new_mask[s] : T(1); }
  // Of a vector of pixels in contiguous order.
  INPAINT_INLINE Vec<T> factor_by(int64_t s) const { return kBlock ? load(ratio + s) : Vec<T>{}; }
  INPAINT_INLINE Vec<T> kept_by(int64_t s) const { return kBlock ? load(new_mask + s) : Vec<T>{}; }
  template <class V>
  INPAINT_INLINE V activated(V u, V kept) const {
    if (!kBlock) return u;
    // ReLU by selection: zero times infinity is no zero.
    const V zero{};
    return (slope == T(0) ? (u < zero ? zero : u) : (u > zero ? u : u * slope)) * kept;
  }
  // The gradient of u, given that of the result.
  template <class V>
  INPAINT_INLINE V gradient(V grad, V u, V kept) const {
    if (!kBlock) return grad;
    const V through = grad * kept, zero{};
    return u > zero ? through : (slope == T(0) ? zero : through * slope);
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
