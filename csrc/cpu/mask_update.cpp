// Window sums of the mask: one row of vertical sums at a time, then the horizontal taps. Plain
// additions rather than running sums: a binary mask is counted exactly, an empty window is 0.
#include "mask_sums.h"

namespace inpaint {
namespace INPAINT_SIMD {
namespace {

// Whether every plane stands for as many channels as the first, as in a full C-channel mask.
INPAINT_INLINE bool dense_counts(const MaskUpdateArgs& a) {
  for (int64_t g = 1; g < a.groups; ++g) {
    if (a.counts[g] != a.counts[0]) return false;
  }
  return true;
}

constexpr int64_t kSumBlock = 1024;  // pixels summed over the planes at a time: they stay in L1

// `count` pixels from s0 on of planes that lie whole in memory, four planes at a time.
template <class M, class T>
void sum_plane_block(const MaskUpdateArgs& a, int64_t n, int64_t s0, int64_t count,
                     T* __restrict out) {
  const M* base = static_cast<const M*>(a.mask) + n * a.mask_stride[0] + s0;
  for (int64_t i = 0; i < count; ++i) out[i] = T(0);
  int64_t g = 0;
  if (dense_counts(a)) {
    const T weight = static_cast<T>(a.counts[0]);
    for (; g + 4 <= a.groups; g += 4) {
      const M* p0 = base + g * a.mask_stride[1];
      const M* p1 = p0 + a.mask_stride[1];
      const M* p2 = p1 + a.mask_stride[1];
      const M* p3 = p2 + a.mask_stride[1];
      INPAINT_IVDEP
      for (int64_t i = 0; i < count; ++i) {
        out[i] += weight * ((mask_value<M, T>(p0[i]) + mask_value<M, T>(p1[i])) +
                            (mask_value<M, T>(p2[i]) + mask_value<M, T>(p3[i])));
      }
    }
  }
  for (; g < a.groups; ++g) {
    add_row<M, T>(out, base + g * a.mask_stride[1], 1, count, static_cast<T>(a.counts[g]));
  }
}

// Planes (n, groups, row) -> one weighted plane, for masks in any memory order.
template <class M, class T>
void sum_groups(const MaskUpdateArgs& a, int64_t task, T* __restrict out) {
  const int64_t h = task % a.size[1];
  const int64_t d = task / a.size[1] % a.size[0];
  const int64_t n = task / (a.size[1] * a.size[0]);
  const M* base = static_cast<const M*>(a.mask) + n * a.mask_stride[0] + d * a.mask_stride[2] +
                  h * a.mask_stride[3];
  const int64_t w = a.size[2];
  for (int64_t i = 0; i < w; ++i) out[i] = T(0);
  if (a.mask_stride[1] == 1 && dense_counts(a)) {  // channels last: a pixel's channels are together
    for (int64_t i = 0; i < w; ++i) {
      out[i] =
          sum_channels<M, T>(base + i * a.mask_stride[4], a.groups) * static_cast<T>(a.counts[0]);
    }
    return;
  }
  for (int64_t g = 0; g < a.groups; ++g) {
    add_row<M, T>(out, base + g * a.mask_stride[1], a.mask_stride[4], w,
                  static_cast<T>(a.counts[g]));
  }
}

template <class M, class T, class Source>
void window_row(const MaskUpdateArgs& a, int64_t task, const Source* source, const int64_t* stride,
                T weight) {
  const int64_t oh = task % a.out[1];
  const int64_t od = task / a.out[1] % a.out[0];
  const int64_t n = task / (a.out[1] * a.out[0]);
  const int64_t pad = a.padding[2], width = a.size[2] + 2 * pad;
  T* __restrict row = static_cast<T*>(a.rows) + task * width;
  for (int64_t i = 0; i < width; ++i) row[i] = T(0);

  const int64_t d0 = od * a.stride[0] - a.padding[0], h0 = oh * a.stride[1] - a.padding[1];
  int64_t kd0, kd1, kh0, kh1;
  taps_inside(d0, a.dilation[0], a.kernel[0], a.size[0], &kd0, &kd1);
  taps_inside(h0, a.dilation[1], a.kernel[1], a.size[1], &kh0, &kh1);
  for (int64_t kd = kd0; kd < kd1; ++kd) {
    for (int64_t kh = kh0; kh < kh1; ++kh) {
      const Source* line = source + n * stride[0] + (d0 + kd * a.dilation[0]) * stride[1] +
                           (h0 + kh * a.dilation[1]) * stride[2];
      add_row<Source, T>(row + pad, line, stride[3], a.size[2], weight);
    }
  }
  M* __restrict new_mask = static_cast<M*>(a.new_mask) + task * a.out[2];
  T* __restrict ratio = static_cast<T*>(a.ratio) + task * a.out[2];
  const T cells = static_cast<T>(a.cells), eps = static_cast<T>(a.eps);
  // The row of ratios collects the sums first.
  const int64_t step = a.stride[2];
  for (int64_t ow = 0; ow < a.out[2]; ++ow) ratio[ow] = row[ow * step];
  for (int64_t k = 1; k < a.kernel[2]; ++k) {
    const T* __restrict taps = row + k * a.dilation[2];
    if (step == 1) {
      INPAINT_IVDEP
      for (int64_t ow = 0; ow < a.out[2]; ++ow) ratio[ow] += taps[ow];
    } else {
      for (int64_t ow = 0; ow < a.out[2]; ++ow) ratio[ow] += taps[ow * step];
    }
  }
  INPAINT_IVDEP
  for (int64_t ow = 0; ow < a.out[2]; ++ow) {
    const T sum = ratio[ow];
    const T fresh = sizeof(M) == 1 ? T(sum > T(0)) : updated_mask(sum);
    new_mask[ow] = static_cast<M>(static_cast<Compute<M>>(fresh));
    ratio[ow] = window_ratio(sum, cells, eps);
  }
}

template <class M, class T>
bool run(const MaskUpdateArgs& a) {
  const bool grouped = a.groups > 1;
  T* sums = static_cast<T*>(a.sums);
  const int64_t w = a.size[2];
  bool ok = true;
  const int64_t s = a.size[0] * a.size[1] * w, blocks = (s + kSumBlock - 1) / kSumBlock;
  const bool whole_planes =
      a.mask_stride[4] == 1 && a.mask_stride[3] == w && a.mask_stride[2] == a.size[1] * w;
  if (a.summed) {
    // nothing left to sum
  } else if (grouped && whole_planes) {
    ok = parallel_for(
        a.pool, a.n * blocks, min_of(s, kSumBlock) * a.groups, [&](int64_t begin, int64_t end) {
          for (int64_t t = begin; t < end; ++t) {
            const int64_t n = t / blocks, s0 = t % blocks * kSumBlock;
            sum_plane_block<M, T>(a, n, s0, min_of(kSumBlock, s - s0), sums + n * s + s0);
          }
        });
  } else if (grouped) {
    ok = parallel_for(a.pool, a.n * a.size[0] * a.size[1], w * a.groups,
                      [&](int64_t begin, int64_t end) {
                        for (int64_t t = begin; t < end; ++t) sum_groups<M, T>(a, t, sums + t * w);
                      });
  }
  const int64_t taps = capped(a.kernel[0]) * capped(a.kernel[1]) + capped(a.kernel[2]);
  const int64_t row_work = capped(w) * taps;
  const int64_t dense[4] = {a.size[0] * a.size[1] * w, a.size[1] * w, w, 1};
  const int64_t strided[4] = {a.mask_stride[0], a.mask_stride[2], a.mask_stride[3],
                              a.mask_stride[4]};
  return ok &&
         parallel_for(a.pool, a.n * a.out[0] * a.out[1], row_work, [&](int64_t begin, int64_t end) {
           for (int64_t t = begin; t < end; ++t) {
             if (grouped) {
               window_row<M, T, T>(a, t, sums, dense, T(1));
             } else {
               window_row<M, T, M>(a, t, static_cast<const M*>(a.mask), strided,
                                   static_cast<T>(a.counts[0]));
             }
           }
         });
}

template <class M>
bool run_ratio(const MaskUpdateArgs& a) {
  return a.ratio_dtype == DType::kFloat64 ? run<M, double>(a) : run<M, float>(a);
}

}  // namespace

bool mask_update(const MaskUpdateArgs& a) {
  switch (a.mask_dtype) {
    case DType::kBool: return run_ratio<uint8_t>(a);
    default: return for_type(a.mask_dtype, [&](auto zero) { return run_ratio<decltype(zero)>(a); });
  }
}

}  // namespace INPAINT_SIMD
}  // namespace inpaint
