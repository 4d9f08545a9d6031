// out = m == 0 ? 0 : x * m, for every form of mask. Forward prologue and, on the gradient of the
// input, backward.
#include "mask_sums.h"

namespace inpaint {
namespace INPAINT_SIMD {
namespace {

template <class S, class M>
INPAINT_INLINE S select(S value, M mask) {
  using T = Compute<S>;
  if constexpr (sizeof(M) == 1) {
    return mask != 0 ? value : S(0);
  } else {
    return static_cast<S>(masked<T>(static_cast<T>(value), static_cast<T>(mask)));
  }
}

template <class S, class M>
INPAINT_INLINE void select_row(const S* x, const M* mask, S* out, int64_t count) {
  INPAINT_IVDEP
  for (int64_t i = 0; i < count; ++i) out[i] = select<S, M>(x[i], mask[i]);
}

INPAINT_INLINE int64_t blocks_of(int64_t s) { return (s + kMaskBlock - 1) / kMaskBlock; }

// A stretch whose class is known: holes are cleared, valid pixels are copied, and stay where they
// are when the op works in place.
template <class S>
INPAINT_INLINE void fill(const S* x, S* out, int64_t count, uint8_t mask_class) {
  if (mask_class == kAllHole) {
    INPAINT_IVDEP
    for (int64_t i = 0; i < count; ++i) out[i] = S(0);
  } else if (out != x) {
    INPAINT_IVDEP
    for (int64_t i = 0; i < count; ++i) out[i] = x[i];
  }
}

// Runs body(n, group, first plane, end) over stretches of planes that share one mask plane.
template <class Body>
bool for_runs(const ApplyMaskArgs& a, const Body& body) {
  return parallel_for(a.pool, a.n * a.c, a.s, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t n = begin / a.c;
      int64_t group = 0, run_end = n * a.c + a.counts[0];
      while (run_end <= begin) run_end += a.counts[++group];
      const int64_t image_end = min_of((n + 1) * a.c, end);
      while (begin < image_end) {
        const int64_t stop = min_of(run_end, image_end);
        body(n, group, begin, stop);
        begin = stop;
        if (begin < image_end) run_end += a.counts[++group];
      }
    }
  });
}

template <class S, class M>
bool planes_contiguous(const ApplyMaskArgs& a) {
  const int64_t blocks = blocks_of(a.s);
  return for_runs(a, [&](int64_t n, int64_t group, int64_t begin, int64_t end) {
    const M* mask = static_cast<const M*>(a.mask) + n * a.mask_n_stride + group * a.s;
    const S* x = static_cast<const S*>(a.x);
    S* out = static_cast<S*>(a.out);
    if (a.s <= kShortPlane) {
      M row[kShortPlane];
      const int64_t planes = repeat_plane(mask, a.s, row);
      for (; begin < end; begin += planes) {
        select_row(x + begin * a.s, row, out + begin * a.s, min_of(planes, end - begin) * a.s);
      }
      return;
    }
    const uint8_t* classes = a.classes + n * a.class_n_stride + group * blocks;
    for (int64_t plane = begin; plane < end; ++plane) {
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t s = block * kMaskBlock, count = min_of(kMaskBlock, a.s - s);
        const int64_t at = plane * a.s + s;
        if (classes[block] == kMixed) {
          select_row(x + at, mask + s, out + at, count);
        } else {
          fill(x + at, out + at, count, classes[block]);
        }
      }
    }
  });
}

// The class that all planes of a block share, or kMixed.
INPAINT_INLINE uint8_t shared_class(const uint8_t* classes, int64_t groups, int64_t blocks) {
  for (int64_t g = 1; g < groups; ++g) {
    if (classes[g * blocks] != classes[0]) return kMixed;
  }
  return classes[0];
}

template <class M>
INPAINT_INLINE uint8_t pixel_class(const ApplyMaskArgs& a, const M* mask) {
  for (int64_t g = 1; g < a.groups; ++g) {
    if (mask[g * a.s] != mask[0]) return kMixed;
  }
  return is_zero(mask[0]) ? kAllHole : (is_one(mask[0]) ? kAllValid : kMixed);
}

template <class S, class M>
INPAINT_INLINE void select_pixel(const ApplyMaskArgs& a, const M* mask, const S* x, S* out) {
  for (int64_t g = 0; g < a.groups; ++g) {
    const M m = mask[g * a.s];
    const int64_t count = a.counts[g];
    INPAINT_IVDEP
    for (int64_t c = 0; c < count; ++c) out[c] = select<S, M>(x[c], m);
    x += count;
    out += count;
  }
}

template <class S, class M>
bool planes_channels_last(const ApplyMaskArgs& a) {
  const int64_t blocks = blocks_of(a.s);
  return parallel_for(a.pool, a.n * blocks, kMaskBlock * a.c, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t n = t / blocks, block = t % blocks;
      const int64_t s0 = block * kMaskBlock, s1 = min_of(s0 + kMaskBlock, a.s);
      const S* x = static_cast<const S*>(a.x) + n * a.s * a.c;
      S* out = static_cast<S*>(a.out) + n * a.s * a.c;
      const uint8_t mask_class =
          shared_class(a.classes + n * a.class_n_stride + block, a.groups, blocks);
      if (mask_class != kMixed) {
        fill(x + s0 * a.c, out + s0 * a.c, (s1 - s0) * a.c, mask_class);
        continue;
      }
      const M* mask = static_cast<const M*>(a.mask) + n * a.mask_n_stride;
      for (int64_t s = s0; s < s1;) {  // runs of pixels that are all valid or all hole
        const uint8_t first = pixel_class(a, mask + s);
        int64_t next = s + 1;
        if (first == kMixed) {
          select_pixel(a, mask + s, x + s * a.c, out + s * a.c);
        } else {
          while (next < s1 && pixel_class(a, mask + next) == first) ++next;
          fill(x + s * a.c, out + s * a.c, (next - s) * a.c, first);
        }
        s = next;
      }
    }
  });
}

// Pixels whose planes are selected and counted together: their counts stay in L1.
constexpr int64_t kCountBlock = 1024;

// per_element, and the sum over the planes of each pixel while its mask is at hand.
template <class S, class M>
bool per_element_counted(const ApplyMaskArgs& a) {
  using T = Compute<S>;
  const int64_t blocks = (a.s + kCountBlock - 1) / kCountBlock, image = a.c * a.s;
  return parallel_for(a.pool, a.n * blocks, min_of(a.s, kCountBlock) * a.c,
                      [&](int64_t begin, int64_t end) {
                        for (int64_t t = begin; t < end; ++t) {
                          const int64_t n = t / blocks, s0 = t % blocks * kCountBlock;
                          const int64_t count = min_of(kCountBlock, a.s - s0);
                          const S* x = static_cast<const S*>(a.x) + n * image;
                          S* out = static_cast<S*>(a.out) + n * image;
                          const M* mask = static_cast<const M*>(a.mask) + n * a.mask_n_stride;
                          // A mask that the batch shares is counted once.
                          const bool counting = n == 0 || a.mask_n_stride != 0;
                          T* sums = static_cast<T*>(a.sums) + n * a.s + s0;
                          if (a.channels_last) {
                            for (int64_t s = s0; s < s0 + count; ++s) {
                              select_row(x + s * a.c, mask + s * a.c, out + s * a.c, a.c);
                              if (counting) sums[s - s0] = sum_channels<M, T>(mask + s * a.c, a.c);
                            }
                            continue;
                          }
                          for (int64_t i = 0; counting && i < count; ++i) sums[i] = T(0);
                          for (int64_t at = s0; at < image; at += a.s) {
                            select_row(x + at, mask + at, out + at, count);
                            if (counting) add_row<M, T>(sums, mask + at, 1, count, T(1));
                          }
                        }
                      });
}

template <class S, class M>
bool per_element(const ApplyMaskArgs& a) {
  if (a.sums != nullptr) return per_element_counted<S, M>(a);
  const int64_t image = a.c * a.s;
  return parallel_for(a.pool, a.n * image, 1, [&](int64_t begin, int64_t end) {
    while (begin < end) {  // one image at a time: a mask may be shared by the batch
      const int64_t n = begin / image, last = min_of(end, (n + 1) * image);
      select_row(static_cast<const S*>(a.x) + begin,
                 static_cast<const M*>(a.mask) + n * a.mask_n_stride + (begin - n * image),
                 static_cast<S*>(a.out) + begin, last - begin);
      begin = last;
    }
  });
}

template <class S, class M>
bool run(const ApplyMaskArgs& a) {
  if (a.mask_per_element) return per_element<S, M>(a);
  return a.channels_last ? planes_channels_last<S, M>(a) : planes_contiguous<S, M>(a);
}

template <class S>
bool run_mask(const ApplyMaskArgs& a) {
  using T = Compute<S>;
  if (a.mask_dtype == DType::kBool) return run<S, uint8_t>(a);
  return a.mask_dtype == a.dtype ? run<S, S>(a) : run<S, T>(a);
}

}  // namespace

bool apply_mask(const ApplyMaskArgs& a) {
  return for_type(a.dtype, [&](auto zero) { return run_mask<decltype(zero)>(a); });
}

}  // namespace INPAINT_SIMD
}  // namespace inpaint
