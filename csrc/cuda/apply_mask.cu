// out = m == 0 ? 0 : x * m: the prologue of a partial convolution, and the masking of its input's
// gradient. out may be x.
#include "../common/window.h"
#include "../ops/mask_args.h"
#include "elements.cuh"

namespace inpaint {

namespace {

constexpr int kMaxGroups = 64;  // planes whose channel counts travel as kernel arguments

template <class S, class M>
__device__ __forceinline__ S select(S value, M mask) {
  if constexpr (sizeof(M) == 1) {
    return mask != 0 ? value : S(0);
  } else {
    return static_cast<S>(masked<float>(static_cast<float>(value), static_cast<float>(mask)));
  }
}

// Planes (n or 1, groups, s); group g ends before channel ends[g].
template <class S, class M, bool kChannelsLast>
struct SelectPlanes {
  const S* x;
  S* out;
  const M* mask;
  int64_t n_stride, s;
  int64_t ends[kMaxGroups];

  __device__ __forceinline__ int64_t plane_of(int64_t channel) const {
    int64_t g = 0;
    while (channel >= ends[g]) ++g;
    return g * s;
  }
  __device__ __forceinline__ const M* row(int64_t n, int64_t outer) const {
    return mask + n * n_stride + (kChannelsLast ? outer : plane_of(outer));
  }
  template <int kWidth>
  __device__ __forceinline__ void elements(const M* here, int64_t at, int64_t inner) const {
    Pack<S, kWidth> values = load_pack<kWidth>(x + at);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const M m = here[kChannelsLast ? plane_of(inner + k) : inner + k];
      values.values[k] = select<S, M>(values.values[k], m);
    }
    store_pack<kWidth>(out + at, values);
  }
};

// A mask of the shape and memory order of x; its batch may be one.
template <class S, class M>
struct SelectElements {
  const S* x;
  S* out;
  const M* mask;
  int64_t n_stride, row_length;

  __device__ __forceinline__ const M* row(int64_t n, int64_t outer) const {
    return mask + n * n_stride + outer * row_length;
  }
  template <int kWidth>
  __device__ __forceinline__ void elements(const M* here, int64_t at, int64_t inner) const {
    Pack<S, kWidth> values = load_pack<kWidth>(x + at);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      values.values[k] = select<S, M>(values.values[k], here[inner + k]);
    }
    store_pack<kWidth>(out + at, values);
  }
};

template <class S, class M>
void run_apply_mask(Launcher& launcher, const ApplyMaskArgs& a) {
  const Rows rows{a.n, a.c, a.s, a.channels_last};
  const S* x = static_cast<const S*>(a.x);
  S* out = static_cast<S*>(a.out);
  const M* mask = static_cast<const M*>(a.mask);
  const bool is_aligned = aligned(x) && aligned(out);
  if (a.mask_per_element) {
    run_elementwise<S>(launcher, rows, is_aligned,
                       SelectElements<S, M>{x, out, mask, a.mask_n_stride, rows.inner()});
    return;
  }
  const auto run = [&](auto body) {
    int64_t end = 0;
    for (int64_t g = 0; g < a.groups; ++g) body.ends[g] = end += a.counts[g];
    run_elementwise<S>(launcher, rows, is_aligned, body);
  };
  if (a.channels_last) {
    run(SelectPlanes<S, M, true>{x, out, mask, a.mask_n_stride, a.s, {}});
  } else {
    run(SelectPlanes<S, M, false>{x, out, mask, a.mask_n_stride, a.s, {}});
  }
}

}  // namespace

Status cuda_apply_mask(int32_t device, void* stream, const TensorView& x, const TensorView& mask,
                       const Channels& channels, const TensorView& out) {
  ApplyMaskArgs a;
  INPAINT_TRY(check_apply_mask(x, mask, channels, out, &a));
  INPAINT_CHECK(a.mask_per_element || a.groups <= kMaxGroups, "channels: at most ", kMaxGroups,
                " mask planes, got ", a.groups);
  if (x.numel() == 0) return {};
  Launcher launcher("cuda_apply_mask", device, stream);
  const Status known = for_half_or_float("x", a.dtype, [&](auto zero) {
    using S = decltype(zero);
    if (a.mask_dtype == DType::kBool) {
      run_apply_mask<S, uint8_t>(launcher, a);
    } else if (a.mask_dtype == a.dtype) {
      run_apply_mask<S, S>(launcher, a);
    } else {
      run_apply_mask<S, float>(launcher, a);
    }
  });
  return known.ok() ? launcher.status() : known;
}

}  // namespace inpaint
