// What surrounds the dense convolution: the epilogue, in place on the raw result, and its backward
// with the bias gradient.
#include "simd.h"

namespace inpaint {
namespace INPAINT_SIMD {
namespace {

INPAINT_INLINE int64_t blocks_of(int64_t s) { return (s + kEpilogueUnit - 1) / kEpilogueUnit; }

template <class T, bool kBias>
INPAINT_INLINE T finish(T raw, T ratio, T new_mask, T bias) {
  return kBias ? (raw * ratio + bias) * new_mask : raw * ratio;
}

template <class T, bool kBias>
void finish_row(T* y, const T* ratio, const T* new_mask, T bias, int64_t count) {
  INPAINT_IVDEP
  for (int64_t i = 0; i < count; ++i) {
    y[i] = finish<T, kBias>(y[i], ratio[i], kBias ? new_mask[i] : T(1), bias);
  }
}

template <class T, bool kBias>
bool forward_short(const EpilogueArgs& a) {
  return parallel_for(a.pool, a.n * a.c, a.s, [&](int64_t begin, int64_t end) {
    while (begin < end) {  // one image at a time
      const int64_t n = begin / a.c, last = min_of(end, (n + 1) * a.c);
      const T* ratio = static_cast<const T*>(a.ratio) + n * a.ratio_n_stride;
      const T* new_mask = static_cast<const T*>(a.new_mask) + n * a.mask_n_stride;
      T* y = static_cast<T*>(a.y);
      if (kBias) {
        const T* bias = static_cast<const T*>(a.bias);
        for (; begin < last; ++begin) {
          finish_row<T, true>(y + begin * a.s, ratio, new_mask, bias[begin - n * a.c], a.s);
        }
      } else {
        T row[kShortPlane];
        const int64_t planes = repeat_plane(ratio, a.s, row);
        for (; begin < last; begin += planes) {
          finish_row<T, false>(y + begin * a.s, row, nullptr, T(0),
                               min_of(planes, last - begin) * a.s);
        }
        begin = last;
      }
    }
  });
}

template <class T, bool kBias>
bool forward(const EpilogueArgs& a) {
  const T* bias = static_cast<const T*>(a.bias);
  if (!a.channels_last) {
    if (a.s <= kShortPlane) return forward_short<T, kBias>(a);
    const int64_t blocks = blocks_of(a.s), block = blocks > 1 ? kEpilogueUnit : a.s;
    return parallel_for(a.pool, a.n * a.c * blocks, block, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t s0 = t % blocks * block, plane = t / blocks, n = plane / a.c;
        finish_row<T, kBias>(static_cast<T*>(a.y) + plane * a.s + s0,
                             static_cast<const T*>(a.ratio) + n * a.ratio_n_stride + s0,
                             static_cast<const T*>(a.new_mask) + n * a.mask_n_stride + s0,
                             kBias ? bias[plane % a.c] : T(0), min_of(block, a.s - s0));
      }
    });
  }
  return parallel_for(a.pool, a.n * a.s, a.c, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const T ratio = static_cast<const T*>(a.ratio)[p / a.s * a.ratio_n_stride + p % a.s];
      const T new_mask = static_cast<const T*>(a.new_mask)[p / a.s * a.mask_n_stride + p % a.s];
      T* y = static_cast<T*>(a.y) + p * a.c;
      INPAINT_IVDEP
      for (int64_t c = 0; c < a.c; ++c) {
        y[c] = finish<T, kBias>(y[c], ratio, new_mask, kBias ? bias[c] : T(0));
      }
    }
  });
}

// One plane's part of a unit: the gradient of the raw result, and the sum for the bias in float64
// blocks of kChunk.
template <class T>
double backward_row(const T* __restrict grad, const T* __restrict ratio,
                    const T* __restrict new_mask, T* __restrict out, int64_t count) {
  constexpr int kLanes = Lanes<T>::count;
  double total = 0;
  for (int64_t i = 0; i < count;) {
    const int64_t stop = min_of(i + kChunk, count);
    Vec<T> sum{};
    for (; i + kLanes <= stop; i += kLanes) {
      const Vec<T> g = load(grad + i) * load(new_mask + i);
      sum += g;
      store(out + i, g * load(ratio + i));
    }
    double tail = 0;
    for (; i < stop; ++i) {
      const T g = grad[i] * new_mask[i];
      tail += static_cast<double>(g);
      out[i] = g * ratio[i];
    }
    total += horizontal_sum<T>(sum) + tail;
  }
  return total;
}

template <class T>
bool backward_bias(const EpilogueArgs& a) {
  const int64_t blocks = blocks_of(a.s);
  if (!a.channels_last) {
    return parallel_for(
        a.pool, a.n * blocks * a.c, min_of(a.s, kEpilogueUnit), [&](int64_t begin, int64_t end) {
          for (int64_t t = begin; t < end; ++t) {
            const int64_t s0 = t % blocks * kEpilogueUnit, plane = t / blocks;
            const int64_t n = plane / a.c, c = plane % a.c, offset = plane * a.s + s0;
            a.partials[(n * blocks + t % blocks) * a.c + c] =
                backward_row<T>(static_cast<const T*>(a.grad) + offset,
                                static_cast<const T*>(a.ratio) + n * a.ratio_n_stride + s0,
                                static_cast<const T*>(a.new_mask) + n * a.mask_n_stride + s0,
                                static_cast<T*>(a.y) + offset, min_of(kEpilogueUnit, a.s - s0));
          }
        });
  }
  return parallel_for(
      a.pool, a.n * blocks, min_of(a.s, kEpilogueUnit) * a.c, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          const int64_t n = t / blocks, s0 = t % blocks * kEpilogueUnit;
          const int64_t s1 = min_of(s0 + kEpilogueUnit, a.s);
          double* __restrict sums = a.partials + t * a.c;
          for (int64_t c = 0; c < a.c; ++c) sums[c] = 0;
          for (int64_t s = s0; s < s1; ++s) {
            const T ratio = static_cast<const T*>(a.ratio)[n * a.ratio_n_stride + s];
            const T new_mask = static_cast<const T*>(a.new_mask)[n * a.mask_n_stride + s];
            const T* __restrict grad = static_cast<const T*>(a.grad) + (n * a.s + s) * a.c;
            T* __restrict out = static_cast<T*>(a.y) + (n * a.s + s) * a.c;
            INPAINT_IVDEP
            for (int64_t c = 0; c < a.c; ++c) {
              const T g = grad[c] * new_mask;
              sums[c] += static_cast<double>(g);
              out[c] = g * ratio;
            }
          }
        }
      });
}

// Without a bias there is nothing to sum, and the new mask is in the ratio already.
template <class T>
bool backward(const EpilogueArgs& a) {
  if (a.grad_bias != nullptr) return backward_bias<T>(a);
  const T* grad = static_cast<const T*>(a.grad);
  T* out = static_cast<T*>(a.y);
  const int64_t inner = a.channels_last ? a.c : a.s, outer = a.n * a.c * a.s / inner;
  return parallel_for(a.pool, outer, inner, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const T* __restrict g = grad + t * inner;
      T* __restrict o = out + t * inner;
      if (a.channels_last) {
        const T ratio = static_cast<const T*>(a.ratio)[t / a.s * a.ratio_n_stride + t % a.s];
        INPAINT_IVDEP
        for (int64_t i = 0; i < inner; ++i) o[i] = g[i] * ratio;
      } else {
        const T* __restrict ratio = static_cast<const T*>(a.ratio) + t / a.c * a.ratio_n_stride;
        INPAINT_IVDEP
        for (int64_t i = 0; i < inner; ++i) o[i] = g[i] * ratio[i];
      }
    }
  });
}

}  // namespace

bool epilogue(const EpilogueArgs& a) {
  if (a.dtype == DType::kFloat64) {
    return a.bias ? forward<double, true>(a) : forward<double, false>(a);
  }
  return a.bias ? forward<float, true>(a) : forward<float, false>(a);
}

bool epilogue_backward(const EpilogueArgs& a) {
  return a.dtype == DType::kFloat64 ? backward<double>(a) : backward<float>(a);
}

}  // namespace INPAINT_SIMD
}  // namespace inpaint
