// Convolution of a few planes by a small odd window, stride 1, "same" zero padding: RN_L's
// attention, gamma and beta. Libraries of dense convolutions are made for many channels; at one or
// two they spend tens of times what these few multiplications cost.
#include "simd.h"

namespace inpaint {
namespace INPAINT_SIMD {
namespace {

INPAINT_INLINE int64_t padded_width(const PlaneConvArgs& a) { return a.w + a.kw - 1; }
INPAINT_INLINE int64_t padded_height(const PlaneConvArgs& a) { return a.h + a.kh - 1; }

// A copy of the planes with their zero border, so that the loops below know none.
template <class T>
bool pad(const PlaneConvArgs& a) {
  const int64_t rows = padded_height(a), width = padded_width(a);
  return parallel_for(a.pool, a.n * a.in * rows, width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      T* __restrict out = static_cast<T*>(a.padded) + t * width;
      const int64_t y = t % rows - a.kh / 2, plane = t / rows, left = a.kw / 2;
      if (y < 0 || y >= a.h) {
        for (int64_t x = 0; x < width; ++x) out[x] = T(0);
        continue;
      }
      const T* in = static_cast<const T*>(a.x) + (plane * a.h + y) * a.w;
      for (int64_t x = 0; x < left; ++x) out[x] = T(0);
      for (int64_t x = 0; x < a.w; ++x) out[left + x] = in[x];
      for (int64_t x = left + a.w; x < width; ++x) out[x] = T(0);
    }
  });
}

template <class T>
INPAINT_INLINE const T* padded_row(const PlaneConvArgs& a, int64_t n, int64_t plane, int64_t y) {
  return static_cast<const T*>(a.padded) +
         ((n * a.in + plane) * padded_height(a) + y) * padded_width(a);
}

template <class T>
INPAINT_INLINE T weight_at(const PlaneConvArgs& a, int64_t q, int64_t p, int64_t ky, int64_t kx) {
  return static_cast<const T*>(a.weight)[((q * a.in + p) * a.kh + ky) * a.kw + kx];
}

template <class T, int kOut>
void forward_row(const PlaneConvArgs& a, int64_t n, int64_t y) {
  constexpr int kLanes = Lanes<T>::count;
  constexpr int kWide = 2;  // vectors in flight for each output plane
  const T* bias = static_cast<const T*>(a.bias);
  T* out = static_cast<T*>(a.out) + (n * kOut * a.h + y) * a.w;
  const int64_t plane = a.h * a.w;
  int64_t x = 0;
  for (; x + kWide * kLanes <= a.w; x += kWide * kLanes) {
    Vec<T> sum[kOut][kWide];
    for (int q = 0; q < kOut; ++q) {
      for (int v = 0; v < kWide; ++v) sum[q][v] = splat<T>(bias ? bias[q] : T(0));
    }
    for (int64_t p = 0; p < a.in; ++p) {
      for (int64_t ky = 0; ky < a.kh; ++ky) {
        const T* row = padded_row<T>(a, n, p, y + ky) + x;
        for (int64_t kx = 0; kx < a.kw; ++kx) {
          for (int v = 0; v < kWide; ++v) {
            const Vec<T> in = load(row + kx + v * kLanes);
            for (int q = 0; q < kOut; ++q) sum[q][v] += in * weight_at<T>(a, q, p, ky, kx);
          }
        }
      }
    }
    for (int q = 0; q < kOut; ++q) {
      for (int v = 0; v < kWide; ++v) store(out + q * plane + x + v * kLanes, sum[q][v]);
    }
  }
  for (; x < a.w; ++x) {
    for (int q = 0; q < kOut; ++q) {
      T sum = bias ? bias[q] : T(0);
      for (int64_t p = 0; p < a.in; ++p) {
        for (int64_t ky = 0; ky < a.kh; ++ky) {
          const T* row = padded_row<T>(a, n, p, y + ky) + x;
          for (int64_t kx = 0; kx < a.kw; ++kx) sum += row[kx] * weight_at<T>(a, q, p, ky, kx);
        }
      }
      out[q * plane + x] = sum;
    }
  }
}

template <class T>
bool forward(const PlaneConvArgs& a) {
  const int64_t row_work = capped(a.w) * a.in * capped(a.kh);
  return pad<T>(a) && parallel_for(a.pool, a.n * a.h, row_work, [&](int64_t begin, int64_t end) {
           for (int64_t t = begin; t < end; ++t) {
             if (a.outputs == 1) {
               forward_row<T, 1>(a, t / a.h, t % a.h);
             } else {
               forward_row<T, 2>(a, t / a.h, t % a.h);
             }
           }
         });
}

// out[q][p][ky][kx] += sum over a row of grad[q] * padded[p] shifted by the tap.
template <class T>
void weight_row(const PlaneConvArgs& a, int64_t n, int64_t y, double* out) {
  constexpr int kLanes = Lanes<T>::count;
  for (int64_t q = 0; q < a.outputs; ++q) {
    const T* grad = static_cast<const T*>(a.grad) + ((n * a.outputs + q) * a.h + y) * a.w;
    for (int64_t p = 0; p < a.in; ++p) {
      for (int64_t ky = 0; ky < a.kh; ++ky) {
        const T* row = padded_row<T>(a, n, p, y + ky);
        double* taps = out + ((q * a.in + p) * a.kh + ky) * a.kw;
        for (int64_t kx = 0; kx < a.kw; ++kx) {
          Vec<T> sum{};
          int64_t x = 0;
          for (; x + kLanes <= a.w; x += kLanes) sum += load(grad + x) * load(row + kx + x);
          double total = horizontal_sum<T>(sum);
          for (; x < a.w; ++x) total += static_cast<double>(grad[x] * row[kx + x]);
          taps[kx] += total;
        }
      }
    }
  }
}

template <class T>
bool backward_weight(const PlaneConvArgs& a) {
  const int64_t units = (a.h + kPlaneRows - 1) / kPlaneRows;
  const int64_t taps = a.outputs * a.in * a.kh * a.kw;
  return pad<T>(a) && parallel_for(a.pool, a.n * units, kPlaneRows * capped(a.w) * capped(taps),
                                   [&](int64_t begin, int64_t end) {
                                     for (int64_t t = begin; t < end; ++t) {
                                       double* out = a.partials + t * taps;
                                       for (int64_t i = 0; i < taps; ++i) out[i] = 0;
                                       const int64_t first = t % units * kPlaneRows,
                                                     last = min_of(first + kPlaneRows, a.h);
                                       for (int64_t y = first; y < last; ++y)
                                         weight_row<T>(a, t / units, y, out);
                                     }
                                   });
}

}  // namespace

bool plane_conv(const PlaneConvArgs& a) {
  return a.dtype == DType::kFloat64 ? forward<double>(a) : forward<float>(a);
}

bool plane_conv_backward_weight(const PlaneConvArgs& a) {
  return a.dtype == DType::kFloat64 ? backward_weight<double>(a) : backward_weight<float>(a);
}

}  // namespace INPAINT_SIMD
}  // namespace inpaint
