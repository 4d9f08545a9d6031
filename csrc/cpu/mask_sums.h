// Sums of mask values: what the mask update and the prologue, which counts on its way, share.
#pragma once

#include "simd.h"

namespace inpaint {
namespace INPAINT_SIMD {

template <class M, class T>
INPAINT_INLINE T mask_value(M m) {
  if constexpr (sizeof(M) == 1) {
    return m != 0 ? T(1) : T(0);
  } else {
    return static_cast<T>(m);
  }
}

template <class M, class T>
INPAINT_INLINE void add_row(T* __restrict acc, const M* __restrict row, int64_t stride, int64_t w,
                            T weight) {
  if (stride == 1) {
    INPAINT_IVDEP
    for (int64_t i = 0; i < w; ++i) acc[i] += mask_value<M, T>(row[i]) * weight;
  } else {
    for (int64_t i = 0; i < w; ++i) acc[i] += mask_value<M, T>(row[i * stride]) * weight;
  }
}

// The sum over a pixel's channels, which lie together.
template <class M, class T>
INPAINT_INLINE T sum_channels(const M* pixel, int64_t count) {
  if constexpr (sizeof(M) == 1) {
    int64_t valid = 0;
    for (int64_t g = 0; g < count; ++g) valid += pixel[g] != 0;
    return static_cast<T>(valid);
  } else {
    using C = Compute<M>;
    Vec<C> lanes{};
    int64_t g = 0;
    for (; g + Lanes<C>::count <= count; g += Lanes<C>::count) lanes += load(pixel + g);
    double sum = horizontal_sum<C>(lanes);
    for (; g < count; ++g) sum += static_cast<double>(pixel[g]);
    return static_cast<T>(sum);
  }
}

}  // namespace INPAINT_SIMD
}  // namespace inpaint
