#include <new>

#include "region_checks.h"
#include "region_norm.h"

namespace inpaint {

namespace {

// Entry i of tables 0 mean, 1 rstd, 2 what the mean lost by rounding, as a shift of the normalized
// value.
void set_normalizer(double mean, double rstd, int64_t i, Tables* tables) {
  tables->set(0, i, mean);
  tables->set(1, i, rstd);
  tables->set(2, i, -(mean - tables->get(0, i)) * rstd);
}

void use_normalizer(Tables* tables, RegionNormArgs* args) {
  args->mean = tables->at(0);
  args->scale = tables->at(1);
  args->shift = tables->at(2);
}

void normalizer_tables(const double* mean, const double* rstd, Tables* tables,
                       RegionNormArgs* args) {
  for (int64_t i = 0; i < 2 * args->c; ++i) set_normalizer(mean[i], rstd[i], i, tables);
  use_normalizer(tables, args);
}

}  // namespace

Status channel_pool(ParallelFor pool, const TensorView& x, const TensorView& pooled,
                    const TensorView& argmax) {
  Dense dense;
  INPAINT_TRY(check_channel_pool(x, pooled, argmax, &dense));
  if (x.numel() == 0) return {};
  RegionNormArgs a{};
  a.pool = pool;
  a.dtype = x.dtype;
  a.x = x.data;
  a.n = dense.n;
  a.c = dense.c;
  a.s = dense.s;
  a.channels_last = dense.channels_last;
  a.pooled = pooled.data;
  a.argmax_out = static_cast<int32_t*>(argmax.data);
  return pool_status(cpu_kernels().channel_pool(a));
}

Status attention_region_norm_forward(ParallelFor pool, const TensorView& x,
                                     const Surround& surround, const TensorView& mask,
                                     const TensorView& maps, double eps, const TensorView& y,
                                     const TensorView& mean, const TensorView& rstd) {
  RegionStore store;
  RegionNormArgs a;
  INPAINT_TRY(check_dtype("mask", mask, DType::kBool));
  INPAINT_TRY(region_args(pool, x, mask, &store, &a));
  INPAINT_TRY(surround_args(x, surround, &a));
  INPAINT_TRY(check_map("maps", maps, x, 2));
  INPAINT_TRY(check_like("y", y, "x", x));
  INPAINT_TRY(check_statistics(mean, rstd, 1, 2, a.c));
  if (x.numel() == 0) return {};
  double* means = static_cast<double*>(mean.data);
  double* rstds = static_cast<double*>(rstd.data);
  Tables tables(x.dtype, 1, a.c, 3);
  auto finish = [&](int64_t c) {
    channel_moments(a, store, {eps, true, false}, c, means, rstds);
    for (int64_t i = c; i < 2 * a.c; i += a.c) set_normalizer(means[i], rstds[i], i, &tables);
  };
  std::unique_ptr<double[]> partials = partial_rows(a);
  INPAINT_CHECK(partials != nullptr, "attention_region_norm_forward: out of memory");
  a.partials = partials.get();
  set_finish(&a, &finish);
  use_normalizer(&tables, &a);
  a.maps = maps.data;
  a.out = y.data;
  return pool_status(cpu_kernels().region_forward(a));
}

Status attention_region_norm_backward_maps(ParallelFor pool, const TensorView& grad,
                                           const TensorView& x, const Surround& surround,
                                           const TensorView& mask, const TensorView& maps,
                                           const TensorView& mean, const TensorView& rstd,
                                           const TensorView& grad_maps, const TensorView& sums) {
  RegionStore store;
  RegionNormArgs a;
  INPAINT_TRY(check_dtype("mask", mask, DType::kBool));
  INPAINT_TRY(region_args(pool, x, mask, &store, &a));
  INPAINT_TRY(surround_args(x, surround, &a));
  INPAINT_TRY(check_like("grad", grad, "x", x));
  INPAINT_TRY(check_map("maps", maps, x, 2));
  INPAINT_TRY(check_map("grad_maps", grad_maps, x, 2));
  INPAINT_TRY(check_statistics(mean, rstd, 1, 2, a.c));
  INPAINT_TRY(check_dtype("sums", sums, DType::kFloat64));
  INPAINT_TRY(check_shape("sums", sums, {2, 2, a.c}));
  if (x.numel() == 0) return {};
  const double* means = static_cast<const double*>(mean.data);
  const double* rstds = static_cast<const double*>(rstd.data);
  Tables tables(x.dtype, 1, a.c, 3);
  normalizer_tables(means, rstds, &tables, &a);
  std::unique_ptr<double[]> partials = partial_rows(a);
  INPAINT_CHECK(partials != nullptr, "attention_region_norm_backward_maps: out of memory");
  a.partials = partials.get();
  a.grad = grad.data;
  a.maps = maps.data;
  a.grad_maps = grad_maps.data;
  INPAINT_TRY(pool_status(cpu_kernels().attention_backward_maps(a)));
  double* out = static_cast<double*>(sums.data);
  for (int r = 0; r < 2; ++r) {
    const double count = store.pixels(0, r, a.n, false);
    for (int64_t c = 0; c < a.c; ++c) {
      const int64_t i = r * a.c + c;
      const double lost = means[i] - tables.get(0, i);
      const double sum = sum_units(a, partials.get(), false, 0, r, 0, c);
      const double product = sum_units(a, partials.get(), false, 0, r, 1, c) - lost * sum;
      out[(r * 2 + 0) * a.c + c] = count > 0 ? sum / count : 0.0;
      out[(r * 2 + 1) * a.c + c] = count > 0 ? rstds[i] * product / count : 0.0;
    }
  }
  return {};
}

Status attention_region_norm_backward_input(ParallelFor pool, const TensorView& grad,
                                            const TensorView& x, const Surround& surround,
                                            const TensorView& mask, const TensorView& maps,
                                            const TensorView& mean, const TensorView& rstd,
                                            const TensorView& sums, const TensorView& grad_pooled,
                                            const TensorView& argmax, const TensorView& grad_x) {
  RegionStore store;
  RegionNormArgs a;
  INPAINT_TRY(check_dtype("mask", mask, DType::kBool));
  INPAINT_TRY(region_args(pool, x, mask, &store, &a));
  INPAINT_TRY(surround_args(x, surround, &a));
  INPAINT_TRY(check_like("grad", grad, "x", x));
  INPAINT_TRY(check_like("grad_x", grad_x, "x", x));
  INPAINT_TRY(check_map("maps", maps, x, 2));
  INPAINT_TRY(check_map("grad_pooled", grad_pooled, x, 2));
  INPAINT_TRY(check_argmax(argmax, x));
  INPAINT_TRY(check_statistics(mean, rstd, 1, 2, a.c));
  INPAINT_TRY(check_dtype("sums", sums, DType::kFloat64));
  INPAINT_TRY(check_shape("sums", sums, {2, 2, a.c}));
  if (x.numel() == 0) return {};
  const double* means = static_cast<const double*>(mean.data);
  const double* rstds = static_cast<const double*>(rstd.data);
  const double* averages = static_cast<const double*>(sums.data);
  Tables tables(x.dtype, 1, a.c, 5);
  normalizer_tables(means, rstds, &tables, &a);
  for (int r = 0; r < 2; ++r) {
    for (int64_t c = 0; c < a.c; ++c) {
      const int64_t i = r * a.c + c;
      const double lost = means[i] - tables.get(0, i);
      const double k2 = rstds[i] * averages[(r * 2 + 1) * a.c + c];
      tables.set(3, i, averages[r * 2 * a.c + c] - lost * k2);
      tables.set(4, i, k2);
    }
  }
  a.k1 = tables.at(3);
  a.k2 = tables.at(4);
  a.grad = grad.data;
  a.maps = maps.data;
  a.grad_pooled = grad_pooled.data;
  a.argmax = static_cast<const int32_t*>(argmax.data);
  a.out = grad_x.data;
  return pool_status(cpu_kernels().attention_backward_input(a));
}

}  // namespace inpaint
