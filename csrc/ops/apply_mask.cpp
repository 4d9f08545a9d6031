#include "../cpu/kernels.h"
#include "checks.h"

namespace inpaint {

Status apply_mask(ParallelFor pool, const TensorView& x, const TensorView& mask,
                  const Channels& channels, const TensorView& out) {
  Dense dense;
  INPAINT_TRY(check_dense("x", x, &dense));
  INPAINT_TRY(check_like("out", out, "x", x));
  INPAINT_CHECK(mask.dtype == DType::kBool || mask.dtype == x.dtype, "mask: expected bool or ",
                dtype_name(x.dtype), ", got ", dtype_name(mask.dtype));
  INPAINT_TRY(check_channels(channels, mask.size[1]));
  int64_t total = 0;
  for (int64_t g = 0; g < channels.groups; ++g) total += channels.counts[g];
  INPAINT_CHECK(total == dense.c, "channels: expected a sum of ", dense.c, ", got ", total);

  ApplyMaskArgs a{};
  a.mask_per_element = dense.channels_last && channels.groups == dense.c && dense.c > 1;
  if (a.mask_per_element) {
    INPAINT_CHECK(mask.size[0] == dense.n || mask.size[0] == 1, "mask: expected batch ", dense.n,
                  " or 1, got ", shape_text(mask));
    TensorView like = x;
    like.size[0] = mask.size[0];
    like.dtype = mask.dtype;
    bool same = mask.ndim == like.ndim;
    for (int i = 1; same && i < mask.ndim; ++i) {
      same = mask.size[i] == like.size[i] && (like.size[i] == 1 || mask.stride[i] == like.stride[i]);
    }
    INPAINT_CHECK(same, "mask ", shape_text(mask), ": expected the shape and memory order of x, ",
                  shape_text(x));
    a.mask_n_stride = mask.size[0] == 1 ? 0 : dense.c * dense.s;
  } else {
    INPAINT_TRY(check_planes("mask", mask, x, channels.groups, &a.mask_n_stride));
  }
  if (x.numel() == 0) return {};
  a.pool = pool;
  a.x = x.data;
  a.out = out.data;
  a.dtype = x.dtype;
  a.mask = mask.data;
  a.mask_dtype = mask.dtype;
  a.counts = channels.counts;
  a.groups = channels.groups;
  a.n = dense.n;
  a.c = dense.c;
  a.s = dense.s;
  a.channels_last = dense.channels_last;
  return pool_status(cpu_kernels().apply_mask(a));
}

}  // namespace inpaint
