// out = m == 0 ? 0 : x * m, for every form of mask. Forward prologue and, on the gradient of the
// input, backward.
#include "simd.h"

namespace inpaint {
namespace INPAINT_SIMD {
namespace {

template <class T, class M>
INPAINT_INLINE T select(T value, M mask) {
  return masked(value, static_cast<T>(mask));
}
template <>
INPAINT_INLINE float select<float, uint8_t>(float value, uint8_t mask) {
  return mask != 0 ? value : 0.0f;
}
template <>
INPAINT_INLINE double select<double, uint8_t>(double value, uint8_t mask) {
  return mask != 0 ? value : 0.0;
}

template <class T, class M>
INPAINT_INLINE void select_row(const T* x, const M* mask, T* out, int64_t count) {
  INPAINT_IVDEP
  for (int64_t i = 0; i < count; ++i) out[i] = select<T, M>(x[i], mask[i]);
}

template <class T, class M>
bool planes_contiguous(const ApplyMaskArgs& a) {
  const int64_t blocks = (a.s + kEpilogueUnit - 1) / kEpilogueUnit;
  const int64_t block = blocks > 1 ? kEpilogueUnit : a.s;
  return parallel_for(a.pool, a.n * a.c * blocks, block, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t s0 = t % blocks * block, plane = t / blocks;
      const int64_t n = plane / a.c, c = plane % a.c;
      int64_t group = 0;
      for (int64_t last = a.counts[0]; c >= last; last += a.counts[group]) ++group;
      const int64_t offset = plane * a.s + s0;
      select_row(static_cast<const T*>(a.x) + offset,
                 static_cast<const M*>(a.mask) + n * a.mask_n_stride + group * a.s + s0,
                 static_cast<T*>(a.out) + offset, min_of(block, a.s - s0));
    }
  });
}

template <class T, class M>
bool planes_channels_last(const ApplyMaskArgs& a) {
  return parallel_for(a.pool, a.n * a.s, a.c, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const M* mask = static_cast<const M*>(a.mask) + p / a.s * a.mask_n_stride + p % a.s;
      const T* x = static_cast<const T*>(a.x) + p * a.c;
      T* out = static_cast<T*>(a.out) + p * a.c;
      for (int64_t g = 0; g < a.groups; ++g) {
        const M m = mask[g * a.s];
        const int64_t count = a.counts[g];
        INPAINT_IVDEP
        for (int64_t c = 0; c < count; ++c) out[c] = select<T, M>(x[c], m);
        x += count;
        out += count;
      }
    }
  });
}

template <class T, class M>
bool per_element(const ApplyMaskArgs& a) {
  return parallel_for(a.pool, a.n * a.s, a.c, [&](int64_t begin, int64_t end) {
    while (begin < end) {  // one image at a time: a mask may be shared by the batch
      const int64_t n = begin / a.s, last = min_of(end, (n + 1) * a.s);
      select_row(static_cast<const T*>(a.x) + begin * a.c,
                 static_cast<const M*>(a.mask) + n * a.mask_n_stride + (begin - n * a.s) * a.c,
                 static_cast<T*>(a.out) + begin * a.c, (last - begin) * a.c);
      begin = last;
    }
  });
}

template <class T, class M>
bool run(const ApplyMaskArgs& a) {
  if (!a.channels_last) return planes_contiguous<T, M>(a);
  return a.mask_per_element ? per_element<T, M>(a) : planes_channels_last<T, M>(a);
}

template <class T>
bool run_mask(const ApplyMaskArgs& a) {
  return a.mask_dtype == DType::kBool ? run<T, uint8_t>(a) : run<T, T>(a);
}

}  // namespace

bool apply_mask(const ApplyMaskArgs& a) {
  return a.dtype == DType::kFloat64 ? run_mask<double>(a) : run_mask<float>(a);
}

}  // namespace INPAINT_SIMD
}  // namespace inpaint
