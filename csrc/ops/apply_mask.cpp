#include "mask_args.h"
#include "values.h"

namespace inpaint {

namespace {

// To the end: a loop that may stop at every value is not vectorized.
template <class M>
uint8_t classify(const M* mask, int64_t count) {
  int not_valid = 0, not_hole = 0;
  for (int64_t i = 0; i < count; ++i) {
    not_valid |= !is_one(mask[i]);
    not_hole |= !is_zero(mask[i]);
  }
  return not_valid == 0 ? kAllValid : (not_hole == 0 ? kAllHole : kMixed);
}

uint8_t classify(const void* mask, DType dtype, int64_t offset, int64_t count) {
  return with_mask(mask, dtype,
                   [&](const auto* values) { return classify(values + offset, count); });
}

// Classifying is one more pass over the mask: worth it while the mask is small beside x.
constexpr int64_t kFewPlanes = 8;

// A class for each block of each of `planes` planes of s pixels.
Status classify_planes(ParallelFor pool, const TensorView& mask, int64_t planes, int64_t s,
                       std::vector<uint8_t>* classes) {
  const int64_t blocks = (s + kMaskBlock - 1) / kMaskBlock;
  classes->resize(static_cast<size_t>(planes * blocks));
  uint8_t* out = classes->data();
  return pool_status(parallel_for(pool, planes * blocks, kMaskBlock, [&](int64_t t, int64_t end) {
    for (; t < end; ++t) {
      const int64_t begin = t % blocks * kMaskBlock;
      const int64_t count = begin + kMaskBlock < s ? kMaskBlock : s - begin;
      out[t] = classify(mask.data, mask.dtype, t / blocks * s + begin, count);
    }
  }));
}

}  // namespace

Status check_apply_mask(const TensorView& x, const TensorView& mask, const Channels& channels,
                        const TensorView& out, ApplyMaskArgs* args) {
  Dense dense;
  INPAINT_TRY(check_dense("x", x, &dense));
  INPAINT_TRY(check_like("out", out, "x", x));
  const DType wide = compute_dtype(x.dtype);
  INPAINT_CHECK(mask.dtype == DType::kBool || mask.dtype == x.dtype || mask.dtype == wide,
                "mask: expected bool, ", dtype_name(x.dtype), " or ", dtype_name(wide), ", got ",
                dtype_name(mask.dtype));
  INPAINT_TRY(check_channels(channels, mask.size[1]));
  int64_t total = 0;
  for (int64_t g = 0; g < channels.groups; ++g) total += channels.counts[g];
  INPAINT_CHECK(total == dense.c, "channels: expected a sum of ", dense.c, ", got ", total);

  ApplyMaskArgs& a = *args;
  a = ApplyMaskArgs{};
  a.mask_per_element = channels.groups == dense.c && dense.c > 1;
  if (a.mask_per_element) {
    INPAINT_CHECK(mask.size[0] == dense.n || mask.size[0] == 1, "mask: expected batch ", dense.n,
                  " or 1, got ", shape_text(mask));
    TensorView like = x;
    like.size[0] = mask.size[0];
    like.dtype = mask.dtype;
    bool same = mask.ndim == like.ndim;
    for (int i = 1; same && i < mask.ndim; ++i) {
      same = mask.size[i] == like.size[i] &&
             (like.size[i] == 1 || x.numel() == 0 || mask.stride[i] == like.stride[i]);
    }
    INPAINT_CHECK(same, "mask ", shape_text(mask), ": expected the shape and memory order of x, ",
                  shape_text(x));
    a.mask_n_stride = mask.size[0] == 1 ? 0 : dense.c * dense.s;
  } else {
    INPAINT_TRY(check_planes("mask", mask, x, channels.groups, &a.mask_n_stride));
  }
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
  return {};
}

Status apply_mask_args(ParallelFor pool, const TensorView& x, const TensorView& mask,
                       const Channels& channels, const TensorView& out,
                       std::vector<uint8_t>* classes, ApplyMaskArgs* args) {
  INPAINT_TRY(check_apply_mask(x, mask, channels, out, args));
  ApplyMaskArgs& a = *args;
  a.pool = pool;
  if (!a.mask_per_element && x.numel() > 0) {
    const int64_t blocks = (a.s + kMaskBlock - 1) / kMaskBlock;
    const int64_t planes = mask.size[0] * channels.groups;
    if (channels.groups <= kFewPlanes && a.s > kShortPlane) {
      INPAINT_TRY(classify_planes(pool, mask, planes, a.s, classes));
    } else {
      classes->assign(static_cast<size_t>(planes * blocks), kMixed);
    }
    a.classes = classes->data();
    a.class_n_stride = a.mask_n_stride == 0 ? 0 : channels.groups * blocks;
  }
  return {};
}

Status apply_mask(ParallelFor pool, const TensorView& x, const TensorView& mask,
                  const Channels& channels, const TensorView& out) {
  ApplyMaskArgs a;
  std::vector<uint8_t> classes;
  INPAINT_TRY(apply_mask_args(pool, x, mask, channels, out, &classes, &a));
  return x.numel() == 0 ? Status{} : pool_status(cpu_kernels().apply_mask(a));
}

namespace {

template <class M>
bool all_ones(const M* mask, int64_t count) {
  constexpr int64_t kStretch = 1024;
  for (int64_t begin = 0; begin < count; begin += kStretch) {
    const int64_t length = begin + kStretch < count ? kStretch : count - begin;
    if (classify(mask + begin, length) != kAllValid) return false;
  }
  return true;
}

}  // namespace

Status all_valid(const TensorView& mask, bool* valid) {
  INPAINT_CHECK(mask.defined(), "mask: missing");
  INPAINT_TRY(check_extent("mask", mask));
  INPAINT_CHECK(mask.dtype != DType::kInt32, "mask: expected bool or floating, got int32");
  *valid = false;
  int64_t span = 1;  // the mask may lie in any order, but densely
  for (int i = 0; i < mask.ndim; ++i) {
    if (mask.size[i] == 0) return {};
    span += (mask.size[i] - 1) * mask.stride[i];
  }
  if (span != mask.numel()) return {};
  *valid =
      with_mask(mask.data, mask.dtype, [&](const auto* values) { return all_ones(values, span); });
  return {};
}

}  // namespace inpaint
