// The arithmetic of a partial convolution's window, one definition for host and device.
#pragma once

#include <cstdint>

#include "portable.h"

namespace inpaint {

// new = clamp(S, 0, 1)
template <class T>
INPAINT_HOST_DEVICE T updated_mask(T sum) {
  return sum <= T(0) ? T(0) : (sum < T(1) ? sum : T(1));
}

// ratio = K / (S + eps) * clamp(S, 0, 1). An empty window is selected, not computed, so that
// eps = 0 cannot divide zero by zero.
template <class T>
INPAINT_HOST_DEVICE T window_ratio(T sum, T cells, T eps) {
  return sum <= T(0) ? T(0) : cells / (sum + eps) * updated_mask(sum);
}

// A hole is selected away, never multiplied: 0 * NaN is NaN.
template <class T>
INPAINT_HOST_DEVICE T masked(T value, T mask) {
  return mask == T(0) ? T(0) : value * mask;
}

// The taps [first, last) of a window along one axis that fall inside [0, size), for a window
// whose tap 0 lies at `start`.
INPAINT_HOST_DEVICE void taps_inside(int64_t start, int64_t dilation, int64_t kernel, int64_t size,
                                     int64_t* first, int64_t* last) {
  int64_t lo = start < 0 ? (-start + dilation - 1) / dilation : 0;
  int64_t hi = start >= size ? 0 : (size - start + dilation - 1) / dilation;
  *first = lo < kernel ? lo : kernel;
  *last = hi < kernel ? hi : kernel;
  if (*last < *first) *last = *first;
}

}  // namespace inpaint
