#include <new>
#include <type_traits>

#include "mask_args.h"
#include "partial_conv_args.h"
#include "values.h"

namespace inpaint {

namespace {

template <class M>
const void* one_of() {
  static const M value(1);
  return &value;
}

const void* one(DType dtype) {
  return with_mask(nullptr, dtype, [](const auto* none) {
    return one_of<std::remove_cv_t<std::remove_pointer_t<decltype(none)>>>();
  });
}

bool counts_are_one(const Channels& counts) {
  for (int64_t g = 0; g < counts.groups; ++g) {
    if (counts.counts[g] != 1) return false;
  }
  return true;
}

}  // namespace

Status epilogue_args(const char* name, const TensorView& y, const TensorView& ratio,
                     const TensorView& new_mask, const char* bias_name, const TensorView& bias,
                     EpilogueArgs* a) {
  Dense dense;
  INPAINT_TRY(check_dense(name, y, &dense));
  INPAINT_TRY(check_dtype("ratio", ratio, compute_dtype(y.dtype)));
  INPAINT_TRY(check_dtype("new_mask", new_mask, compute_dtype(y.dtype)));
  INPAINT_TRY(check_planes("ratio", ratio, y, 1, &a->ratio_n_stride));
  INPAINT_TRY(check_planes("new_mask", new_mask, y, 1, &a->mask_n_stride));
  a->dtype = y.dtype;
  a->ratio = ratio.data;
  a->new_mask = new_mask.data;
  a->n = dense.n;
  a->c = dense.c;
  a->s = dense.s;
  a->channels_last = dense.channels_last;
  if (!bias.defined()) return {};
  INPAINT_TRY(check_dtype(bias_name, bias, y.dtype));
  return check_shape(bias_name, bias, {dense.c});
}

Status partial_conv_prologue(ParallelFor pool, const TensorView& x, const TensorView& mask,
                             const Channels& channels, const Channels& counts, const Window& window,
                             double eps, const TensorView& new_mask, const TensorView& ratio,
                             const TensorView& out, bool* holes) {
  MaskUpdateArgs update;
  std::unique_ptr<char[]> workspace;
  ApplyMaskArgs select;
  std::vector<uint8_t> classes;
  INPAINT_TRY(
      mask_update_args(pool, mask, counts, window, eps, new_mask, ratio, &workspace, &update));
  bool valid = false;
  int64_t total = 0;
  INPAINT_TRY(all_valid(mask, &valid));
  *holes = !valid;
  if (valid) {
    // One 1 stands for all of them: no plane is read again.
    for (int64_t g = 0; g < counts.groups; ++g) total += counts.counts[g];
    update.groups = 1;
    update.counts = &total;
    update.mask = one(mask.dtype);
    for (int64_t& stride : update.mask_stride) stride = 0;
  } else {
    INPAINT_TRY(apply_mask_args(pool, x, mask, channels, out, &classes, &select));
    if (x.numel() > 0) {
      // Short planes are faster one after the other than a few pixels of each.
      if (select.mask_per_element && select.s > kShortPlane &&
          ratio.dtype == compute_dtype(x.dtype) && counts_are_one(counts)) {
        select.sums = update.sums;
        update.summed = true;
      }
      INPAINT_TRY(pool_status(cpu_kernels().apply_mask(select)));
    }
  }
  return mask.size[0] == 0 ? Status{} : pool_status(cpu_kernels().mask_update(update));
}

Status partial_conv_epilogue(ParallelFor pool, const TensorView& y, const TensorView& ratio,
                             const TensorView& new_mask, const TensorView& bias) {
  EpilogueArgs a{};
  INPAINT_TRY(epilogue_args("y", y, ratio, new_mask, "bias", bias, &a));
  if (y.numel() == 0) return {};
  a.pool = pool;
  a.y = y.data;
  a.bias = bias.data;
  return pool_status(cpu_kernels().epilogue(a));
}

Status partial_conv_epilogue_backward(ParallelFor pool, const TensorView& grad,
                                      const TensorView& ratio, const TensorView& new_mask,
                                      const TensorView& grad_raw, const TensorView& grad_bias) {
  EpilogueArgs a{};
  INPAINT_TRY(epilogue_args("grad", grad, ratio, new_mask, "grad_bias", grad_bias, &a));
  INPAINT_TRY(check_like("grad_raw", grad_raw, "grad", grad));
  std::unique_ptr<double[]> partials;
  if (grad_bias.defined()) {
    partials.reset(new (std::nothrow) double[epilogue_units(a.n, a.s) * a.c]);
    INPAINT_CHECK(partials != nullptr, "partial_conv_epilogue_backward: out of memory");
  }
  a.pool = pool;
  a.grad = grad.data;
  a.y = grad_raw.data;
  a.grad_bias = grad_bias.data;
  a.partials = partials.get();
  if (grad.numel() > 0) INPAINT_TRY(pool_status(cpu_kernels().epilogue_backward(a)));
  if (!grad_bias.defined()) return {};
  // The units of an image do not depend on the thread count, and they are added in order.
  const int64_t units = grad.numel() > 0 ? epilogue_units(a.n, a.s) : 0;
  for (int64_t c = 0; c < a.c; ++c) {
    double sum = 0;
    for (int64_t u = 0; u < units; ++u) sum += partials[u * a.c + c];
    set_value(grad_bias, c, sum);
  }
  return {};
}

}  // namespace inpaint
