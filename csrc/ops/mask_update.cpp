#include <new>

#include "mask_args.h"

namespace inpaint {

namespace {

Status check_mask_update(const TensorView& mask, const Channels& channels, const Window& window,
                         const TensorView& new_mask, const TensorView& ratio,
                         int64_t out[kMaxSpatial]) {
  INPAINT_CHECK(mask.defined(), "mask: missing");
  INPAINT_TRY(check_extent("mask", mask));
  INPAINT_CHECK(mask.dtype != DType::kInt32, "mask: expected bool or floating, got int32");
  INPAINT_TRY(check_window(window, mask, out));
  INPAINT_TRY(check_channels(channels, mask.size[1]));
  INPAINT_TRY(check_dtype("new_mask", new_mask, mask.dtype));
  INPAINT_TRY(check_float("ratio", ratio));
  TensorView expected = mask;
  expected.size[1] = 1;
  for (int i = 0; i < window.spatial; ++i) expected.size[2 + i] = out[i];
  int64_t unused = 0;
  INPAINT_TRY(check_planes("new_mask", new_mask, expected, 1, &unused));
  INPAINT_CHECK(new_mask.size[0] == mask.size[0], "new_mask: expected batch ", mask.size[0]);
  INPAINT_TRY(check_planes("ratio", ratio, new_mask, 1, &unused));
  INPAINT_CHECK(ratio.size[0] == mask.size[0], "ratio: expected batch ", mask.size[0]);
  return {};
}

double window_cells(const Channels& channels, const Window& window) {
  double cells = 0;
  for (int64_t g = 0; g < channels.groups; ++g) cells += static_cast<double>(channels.counts[g]);
  for (int i = 0; i < window.spatial; ++i) cells *= static_cast<double>(window.kernel[i]);
  return cells;
}

// Spatial axes are right-aligned to three, so that kernels see (D, H, W) always.
MaskUpdateArgs align(const TensorView& mask, const Channels& channels, const Window& window,
                     const int64_t out[kMaxSpatial]) {
  MaskUpdateArgs a{};
  for (int i = 0; i < kMaxSpatial; ++i) {
    a.size[i] = a.out[i] = a.kernel[i] = a.stride[i] = a.dilation[i] = 1;
  }
  const int offset = kMaxSpatial - window.spatial;
  for (int i = 0; i < window.spatial; ++i) {
    a.size[offset + i] = mask.size[2 + i];
    a.mask_stride[2 + offset + i] = mask.stride[2 + i];
    a.out[offset + i] = out[i];
    a.kernel[offset + i] = window.kernel[i];
    a.stride[offset + i] = window.stride[i];
    a.padding[offset + i] = window.padding[i];
    a.dilation[offset + i] = window.dilation[i];
  }
  // The axes that are missing, and those of one cell, have the stride of a dense mask.
  int64_t step = 1;
  for (int i = kMaxSpatial - 1; i >= 0; --i) {
    if (a.size[i] == 1) a.mask_stride[2 + i] = step;
    step *= a.size[i];
  }
  a.mask = mask.data;
  a.mask_dtype = mask.dtype;
  a.mask_stride[0] = mask.stride[0];
  a.mask_stride[1] = mask.stride[1];
  a.n = mask.size[0];
  a.groups = mask.size[1];
  a.counts = channels.counts;
  a.cells = window_cells(channels, window);
  return a;
}

}  // namespace

Status mask_update_problem(const TensorView& mask, const Channels& channels, const Window& window,
                           double eps, const TensorView& new_mask, const TensorView& ratio,
                           MaskUpdateArgs* args) {
  int64_t out[kMaxSpatial];
  INPAINT_TRY(check_mask_update(mask, channels, window, new_mask, ratio, out));
  *args = align(mask, channels, window, out);
  args->eps = eps;
  args->new_mask = new_mask.data;
  args->ratio = ratio.data;
  args->ratio_dtype = ratio.dtype;
  return {};
}

Status mask_update_args(ParallelFor pool, const TensorView& mask, const Channels& channels,
                        const Window& window, double eps, const TensorView& new_mask,
                        const TensorView& ratio, std::unique_ptr<char[]>* workspace,
                        MaskUpdateArgs* args) {
  INPAINT_TRY(mask_update_problem(mask, channels, window, eps, new_mask, ratio, args));
  MaskUpdateArgs& a = *args;
  a.pool = pool;
  const int64_t bytes = dtype_size(ratio.dtype);
  const int64_t width = a.size[2] + 2 * a.padding[2];
  const int64_t plane = a.groups > 1 ? a.n * a.size[0] * a.size[1] * a.size[2] * bytes : 0;
  int64_t rows = 0;
  INPAINT_CHECK(product({a.n, a.out[0], a.out[1], width, bytes}, &rows) && rows <= kMaxSize,
                "padding: rows of ", width, " with their padding, for a new mask of shape ",
                shape_text(new_mask), ", are more than 2^56 bytes");
  workspace->reset(new (std::nothrow) char[plane + rows]);
  INPAINT_CHECK(*workspace != nullptr, "mask_update: out of memory");
  a.sums = workspace->get();
  a.rows = workspace->get() + plane;
  return {};
}

Status mask_update(ParallelFor pool, const TensorView& mask, const Channels& channels,
                   const Window& window, double eps, const TensorView& new_mask,
                   const TensorView& ratio) {
  MaskUpdateArgs a;
  std::unique_ptr<char[]> workspace;
  INPAINT_TRY(mask_update_args(pool, mask, channels, window, eps, new_mask, ratio, &workspace, &a));
  return mask.size[0] == 0 ? Status{} : pool_status(cpu_kernels().mask_update(a));
}

}  // namespace inpaint
