// What surrounds the dense convolution: the epilogue, in place on the raw result, and its backward
// with the bias gradient.
#include "simd.h"

namespace inpaint {
namespace INPAINT_SIMD {
namespace {

INPAINT_INLINE int64_t blocks_of(int64_t s) { return (s + kEpilogueUnit - 1) / kEpilogueUnit; }

// V: a number or a vector of them.
template <bool kBias, class V>
INPAINT_INLINE V finish(V raw, V ratio, V new_mask, V bias) {
  return kBias ? (raw * ratio + bias) * new_mask : raw * ratio;
}

template <class S, bool kBias, class T = Compute<S>>
void finish_row(S* y, const T* ratio, const T* new_mask, T bias, int64_t count) {
  constexpr int kLanes = Lanes<T>::count;
  const Vec<T> biases = splat(bias);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vec<T> fresh = kBias ? load(new_mask + i) : biases;
    store(y + i, finish<kBias>(load(y + i), load(ratio + i), fresh, biases));
  }
  for (; i < count; ++i) {
    y[i] = finish<kBias>(static_cast<T>(y[i]), ratio[i], kBias ? new_mask[i] : T(1), bias);
  }
}

// A pixel of a channels-last tensor.
template <class S, bool kBias, class T = Compute<S>>
void finish_pixel(S* y, T ratio, T new_mask, const S* bias, int64_t count) {
  constexpr int kLanes = Lanes<T>::count;
  const Vec<T> ratios = splat(ratio), fresh = splat(new_mask);
  int64_t c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    const Vec<T> biases = kBias ? load(bias + c) : ratios;
    store(y + c, finish<kBias>(load(y + c), ratios, fresh, biases));
  }
  for (; c < count; ++c) {
    const T value = static_cast<T>(y[c]), offset = kBias ? static_cast<T>(bias[c]) : T(0);
    y[c] = finish<kBias>(value, ratio, new_mask, offset);
  }
}

template <class S, bool kBias>
bool forward_short(const EpilogueArgs& a) {
  using T = Compute<S>;
  return parallel_for(a.pool, a.n * a.c, a.s, [&](int64_t begin, int64_t end) {
    while (begin < end) {  // one image at a time
      const int64_t n = begin / a.c, last = min_of(end, (n + 1) * a.c);
      const T* ratio = static_cast<const T*>(a.ratio) + n * a.ratio_n_stride;
      const T* new_mask = static_cast<const T*>(a.new_mask) + n * a.mask_n_stride;
      S* y = static_cast<S*>(a.y);
      if (kBias) {
        const S* bias = static_cast<const S*>(a.bias);
        for (; begin < last; ++begin) {
          const T offset = bias[begin - n * a.c];
          finish_row<S, true>(y + begin * a.s, ratio, new_mask, offset, a.s);
        }
      } else {
        T row[kShortPlane];
        const int64_t planes = repeat_plane(ratio, a.s, row);
        for (; begin < last; begin += planes) {
          finish_row<S, false>(y + begin * a.s, row, static_cast<const T*>(nullptr), T(0),
                               min_of(planes, last - begin) * a.s);
        }
        begin = last;
      }
    }
  });
}

template <class S, bool kBias>
bool forward(const EpilogueArgs& a) {
  using T = Compute<S>;
  const S* bias = static_cast<const S*>(a.bias);
  if (!a.channels_last) {
    if (a.s <= kShortPlane) return forward_short<S, kBias>(a);
    const int64_t blocks = blocks_of(a.s), block = blocks > 1 ? kEpilogueUnit : a.s;
    return parallel_for(a.pool, a.n * a.c * blocks, block, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t s0 = t % blocks * block, plane = t / blocks, n = plane / a.c;
        const T offset = kBias ? static_cast<T>(bias[plane % a.c]) : T(0);
        finish_row<S, kBias>(static_cast<S*>(a.y) + plane * a.s + s0,
                             static_cast<const T*>(a.ratio) + n * a.ratio_n_stride + s0,
                             static_cast<const T*>(a.new_mask) + n * a.mask_n_stride + s0, offset,
                             min_of(block, a.s - s0));
      }
    });
  }
  return parallel_for(a.pool, a.n * a.s, a.c, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const T ratio = static_cast<const T*>(a.ratio)[p / a.s * a.ratio_n_stride + p % a.s];
      const T new_mask = static_cast<const T*>(a.new_mask)[p / a.s * a.mask_n_stride + p % a.s];
      finish_pixel<S, kBias>(static_cast<S*>(a.y) + p * a.c, ratio, new_mask, bias, a.c);
    }
  });
}

// One plane's part of a unit: the gradient of the raw result, and the sum for the bias in float64
// blocks of kChunk.
template <class S, class T = Compute<S>>
double backward_row(const S* __restrict grad, const T* __restrict ratio,
                    const T* __restrict new_mask, S* __restrict out, int64_t count) {
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

template <class S>
bool backward_bias(const EpilogueArgs& a) {
  using T = Compute<S>;
  const int64_t blocks = blocks_of(a.s);
  if (!a.channels_last) {
    return parallel_for(
        a.pool, a.n * blocks * a.c, min_of(a.s, kEpilogueUnit), [&](int64_t begin, int64_t end) {
          for (int64_t t = begin; t < end; ++t) {
            const int64_t s0 = t % blocks * kEpilogueUnit, plane = t / blocks;
            const int64_t n = plane / a.c, c = plane % a.c, offset = plane * a.s + s0;
            a.partials[(n * blocks + t % blocks) * a.c + c] =
                backward_row<S>(static_cast<const S*>(a.grad) + offset,
                                static_cast<const T*>(a.ratio) + n * a.ratio_n_stride + s0,
                                static_cast<const T*>(a.new_mask) + n * a.mask_n_stride + s0,
                                static_cast<S*>(a.y) + offset, min_of(kEpilogueUnit, a.s - s0));
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
            const S* __restrict grad = static_cast<const S*>(a.grad) + (n * a.s + s) * a.c;
            S* __restrict out = static_cast<S*>(a.y) + (n * a.s + s) * a.c;
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
template <class S>
bool backward(const EpilogueArgs& a) {
  using T = Compute<S>;
  if (a.grad_bias != nullptr) return backward_bias<S>(a);
  const S* grad = static_cast<const S*>(a.grad);
  S* out = static_cast<S*>(a.y);
  const int64_t inner = a.channels_last ? a.c : a.s, outer = a.n * a.c * a.s / inner;
  return parallel_for(a.pool, outer, inner, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const S* __restrict g = grad + t * inner;
      S* __restrict o = out + t * inner;
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
  return for_type(a.dtype, [&](auto zero) {
    using S = decltype(zero);
    return a.bias ? forward<S, true>(a) : forward<S, false>(a);
  });
}

bool epilogue_backward(const EpilogueArgs& a) {
  return for_type(a.dtype, [&](auto zero) { return backward<decltype(zero)>(a); });
}

}  // namespace INPAINT_SIMD
}  // namespace inpaint
