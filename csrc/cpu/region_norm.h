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
  int32_t count[2], first[2];
  INPAINT_INLINE int only() const { return count[1] == 0 ? 0 : (count[0] == 0 ? 1 : -1); }
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
  INPAINT_INLINE Choice(const T* rows, int64_t c, int64_t channel)
      : of{rows[channel], rows[c + channel]} {}
  INPAINT_INLINE Vec<T> lanes(typename Lanes<T>::Int labels) const {
    return labels ? splat<T>(of[1]) : splat<T>(of[0]);
  }
};

}  // namespace INPAINT_SIMD
}  // namespace inpaint
