#include "region_norm.h"

#include <cmath>
#include <new>

namespace inpaint {

namespace {

template <class M>
bool label_image(const M* mask, uint8_t* labels, int64_t s) {
  bool soft = false;
  for (int64_t i = 0; i < s; ++i) {
    labels[i] = mask[i] == M(0);
    soft |= mask[i] != M(0) && mask[i] != M(1);
  }
  return soft;
}

}  // namespace

void RegionStore::build(const TensorView& mask, int64_t n_stride, int64_t s) {
  images = n_stride == 0 ? 1 : mask.size[0];
  const int64_t chunks = (s + kChunk - 1) / kChunk;
  labels.resize(static_cast<size_t>(images * s));
  counts.assign(static_cast<size_t>(images * chunks * 2), 0);
  first.assign(static_cast<size_t>(images * chunks * 2), 0);
  totals.assign(static_cast<size_t>(images * 2), 0.0);
  for (int64_t n = 0; n < images; ++n) {
    uint8_t* image = labels.data() + n * s;
    if (mask.dtype == DType::kFloat64) {
      soft |= label_image(static_cast<const double*>(mask.data) + n * s, image, s);
    } else if (mask.dtype == DType::kFloat32) {
      soft |= label_image(static_cast<const float*>(mask.data) + n * s, image, s);
    } else {
      const uint8_t* values = static_cast<const uint8_t*>(mask.data) + n * s;
      for (int64_t i = 0; i < s; ++i) image[i] = values[i] == 0;
    }
    for (int64_t k = 0; k < chunks; ++k) {
      int32_t* count = counts.data() + (n * chunks + k) * 2;
      int32_t* start = first.data() + (n * chunks + k) * 2;
      const int64_t begin = k * kChunk, end = begin + kChunk < s ? begin + kChunk : s;
      for (int64_t i = begin; i < end; ++i) count[1] += image[i];
      count[0] = static_cast<int32_t>(end - begin) - count[1];
      for (int r = 0; r < 2; ++r) {
        int64_t i = begin;
        while (i < end && image[i] != r) ++i;
        start[r] = static_cast<int32_t>(i < end ? i : begin);
        totals[n * 2 + r] += count[r];
      }
    }
  }
  regions.labels = labels.data();
  regions.n_stride = n_stride == 0 ? 0 : s;
  regions.counts = counts.data();
  regions.first = first.data();
  regions.chunk_n_stride = n_stride == 0 ? 0 : chunks * 2;
  regions.chunks = chunks;
}

double RegionStore::pixels(int64_t group, int region, int64_t batch, bool instance) const {
  if (instance) return totals[(images == 1 ? 0 : group) * 2 + region];
  double sum = 0;
  for (int64_t n = 0; n < images; ++n) sum += totals[n * 2 + region];
  return images == 1 ? sum * static_cast<double>(batch) : sum;
}

std::unique_ptr<double[]> partial_rows(const RegionNormArgs& args) {
  const int64_t rows = args.n * units_per_image(args.regions) * (args.channels_last ? 3 : 1);
  return std::unique_ptr<double[]>(new (std::nothrow) double[rows * 4 * args.c]);
}

Status region_args(ParallelFor pool, const TensorView& x, const TensorView& mask,
                   RegionStore* store, RegionNormArgs* args) {
  Dense dense;
  INPAINT_TRY(check_dense("x", x, &dense));
  INPAINT_CHECK(
      mask.dtype == DType::kBool || mask.dtype == DType::kFloat32 || mask.dtype == DType::kFloat64,
      "mask: expected bool, float32 or float64, got ", dtype_name(mask.dtype));
  int64_t n_stride = 0;
  INPAINT_TRY(check_planes("mask", mask, x, 1, &n_stride));
  INPAINT_CHECK(dense.s <= INT32_MAX, "x ", shape_text(x),
                ": more than 2^31 pixels in one image are not supported");
  store->build(mask, n_stride, dense.s);
  *args = RegionNormArgs{};
  args->pool = pool;
  args->dtype = x.dtype;
  args->regions = store->regions;
  args->x = x.data;
  args->n = dense.n;
  args->c = dense.c;
  args->s = dense.s;
  args->channels_last = dense.channels_last;
  return {};
}

double sum_units(const RegionNormArgs& args, const double* partials, bool instance, int64_t group,
                 int region, int value, int64_t channel) {
  const int64_t units = units_per_image(args.regions);
  const int64_t begin = instance ? group * units : 0;
  const int64_t end = instance ? begin + units : args.n * units;
  double sum = 0;
  for (int64_t u = begin; u < end; ++u) {
    sum += partials[(u * 4 + region * 2 + value) * args.c + channel];
  }
  return sum;
}

Status region_moments(RegionNormArgs* args, const RegionStore& store, double eps, bool scale_eps,
                      bool instance, double* mean, double* rstd) {
  std::unique_ptr<double[]> partials = partial_rows(*args);
  INPAINT_CHECK(partials != nullptr, "region_norm: out of memory");
  args->partials = partials.get();
  INPAINT_TRY(pool_status(cpu_kernels().region_statistics(*args)));
  const int64_t units = units_per_image(args->regions), c_count = args->c;
  const int64_t groups = instance ? args->n : 1, images = instance ? 1 : args->n;
  const double pixels = static_cast<double>(images) * static_cast<double>(args->s);
  for (int64_t group = 0; group < groups; ++group) {
    for (int r = 0; r < 2; ++r) {
      const double count = store.pixels(group, r, args->n, instance);
      const double eps_r = count > 0 && scale_eps ? eps * pixels / count : eps;
      for (int64_t c = 0; c < c_count; ++c) {
        Moments total;
        for (int64_t n = group; n < group + images; ++n) {
          for (int64_t u = 0; u < units; ++u) {
            Moments part;
            const int64_t last = (u + 1) * kUnitChunks < store.regions.chunks
                                     ? (u + 1) * kUnitChunks
                                     : store.regions.chunks;
            const int32_t* counts = store.regions.counts + n * store.regions.chunk_n_stride;
            for (int64_t k = u * kUnitChunks; k < last; ++k) part.count += counts[k * 2 + r];
            const double* row = partials.get() + ((n * units + u) * 4 + r * 2) * c_count + c;
            part.mean = row[0];
            part.m2 = row[c_count];
            merge_moments(&total, part);
          }
        }
        const int64_t at = (group * 2 + r) * c_count + c;
        mean[at] = total.mean;
        rstd[at] = count > 0 ? 1.0 / std::sqrt(total.m2 / count + eps_r) : 0.0;
      }
    }
  }
  args->partials = nullptr;
  return {};
}

namespace {

Status check_statistics(const TensorView& mean, const TensorView& rstd, int64_t groups, int64_t c) {
  INPAINT_TRY(check_dtype("mean", mean, DType::kFloat64));
  INPAINT_TRY(check_dtype("rstd", rstd, DType::kFloat64));
  INPAINT_TRY(check_shape("mean", mean, {groups, 2, c}));
  return check_shape("rstd", rstd, {groups, 2, c});
}

Status check_affine(const char* name, const TensorView& t, const TensorView& x) {
  if (!t.defined()) return {};
  INPAINT_TRY(check_dtype(name, t, x.dtype));
  return check_shape(name, t, {2, x.size[1]});
}

}  // namespace

Status region_norm_forward(ParallelFor pool, const TensorView& x, const TensorView& mask,
                           const TensorView& weight, const TensorView& bias, double eps,
                           bool scale_eps, bool instance, const TensorView& y,
                           const TensorView& mean, const TensorView& rstd) {
  RegionStore store;
  RegionNormArgs a;
  INPAINT_TRY(region_args(pool, x, mask, &store, &a));
  INPAINT_TRY(check_like("y", y, "x", x));
  const int64_t groups = instance ? a.n : 1;
  INPAINT_TRY(check_statistics(mean, rstd, groups, a.c));
  INPAINT_TRY(check_affine("weight", weight, x));
  INPAINT_TRY(check_affine("bias", bias, x));
  if (x.numel() == 0) return {};
  double* means = static_cast<double*>(mean.data);
  double* rstds = static_cast<double*>(rstd.data);
  if (store.soft) {
    return soft_region_norm_forward(pool, x, mask, weight, bias, eps, scale_eps, instance, y, means,
                                    rstds);
  }
  INPAINT_TRY(region_moments(&a, store, eps, scale_eps, instance, means, rstds));

  Tables tables(x.dtype, groups, a.c, 3);
  const Values w{weight.data, x.dtype}, b{bias.data, x.dtype};
  for (int64_t i = 0; i < groups * 2 * a.c; ++i) {
    const int64_t rc = i % (2 * a.c);
    const double scale = rstds[i] * (weight.defined() ? w[rc] : 1.0);
    tables.set(0, i, means[i]);
    tables.set(1, i, scale);
    // What the mean loses by rounding to the tensor's type goes into the shift.
    const double lost = means[i] - tables.get(0, i);
    tables.set(2, i, (bias.defined() ? b[rc] : 0.0) - lost * scale);
  }
  a.mean = tables.at(0);
  a.scale = tables.at(1);
  a.shift = tables.at(2);
  a.stat_n_stride = instance ? 2 * a.c : 0;
  a.out = y.data;
  return pool_status(cpu_kernels().region_apply(a));
}

Status region_norm_backward(ParallelFor pool, const TensorView& grad, const TensorView& x,
                            const TensorView& mask, const TensorView& weight,
                            const TensorView& mean, const TensorView& rstd, bool instance,
                            const TensorView& grad_x, const TensorView& grad_weight,
                            const TensorView& grad_bias) {
  RegionStore store;
  RegionNormArgs a;
  INPAINT_TRY(region_args(pool, x, mask, &store, &a));
  INPAINT_TRY(check_like("grad", grad, "x", x));
  INPAINT_TRY(check_like("grad_x", grad_x, "x", x));
  const int64_t groups = instance ? a.n : 1;
  INPAINT_TRY(check_statistics(mean, rstd, groups, a.c));
  INPAINT_TRY(check_affine("weight", weight, x));
  INPAINT_TRY(check_affine("grad_weight", grad_weight, x));
  INPAINT_TRY(check_affine("grad_bias", grad_bias, x));
  INPAINT_CHECK(grad_weight.defined() && grad_bias.defined(), "grad_weight, grad_bias: missing");
  const double* means = static_cast<const double*>(mean.data);
  const double* rstds = static_cast<const double*>(rstd.data);
  if (store.soft) {
    return soft_region_norm_backward(pool, grad, x, mask, weight, means, rstds, instance, grad_x,
                                     grad_weight, grad_bias);
  }
  Tables tables(x.dtype, groups, a.c, 4), affine(x.dtype, 1, a.c, 2);
  for (int64_t i = 0; i < groups * 2 * a.c; ++i) tables.set(0, i, means[i]);
  a.mean = tables.at(0);
  a.stat_n_stride = instance ? 2 * a.c : 0;
  a.grad = grad.data;
  std::unique_ptr<double[]> partials = partial_rows(a);
  INPAINT_CHECK(partials != nullptr, "region_norm_backward: out of memory");
  a.partials = partials.get();
  if (x.numel() > 0) INPAINT_TRY(pool_status(cpu_kernels().region_backward_sums(a)));

  const Values w{weight.data, x.dtype};
  std::vector<double> weight_sums(static_cast<size_t>(2 * a.c), 0.0), bias_sums(weight_sums);
  for (int64_t i = 0; i < groups * 2 * a.c; ++i) {
    const int64_t group = i / (2 * a.c), rc = i % (2 * a.c), c = rc % a.c;
    const int r = static_cast<int>(rc / a.c);
    if (x.numel() == 0) continue;
    const double lost = means[i] - tables.get(0, i);
    const double sum = sum_units(a, partials.get(), instance, group, r, 0, c);
    const double product = sum_units(a, partials.get(), instance, group, r, 1, c) - lost * sum;
    weight_sums[rc] += product * rstds[i];
    bias_sums[rc] += sum;
    const double count = store.pixels(group, r, a.n, instance);
    const double k2 = count > 0 ? rstds[i] * rstds[i] * product / count : 0.0;
    tables.set(1, i, rstds[i] * (weight.defined() ? w[rc] : 1.0));
    tables.set(2, i, count > 0 ? sum / count - lost * k2 : 0.0);
    tables.set(3, i, k2);
  }
  for (int64_t rc = 0; rc < 2 * a.c; ++rc) {
    affine.set(0, rc, weight_sums[rc]);
    affine.set(1, rc, bias_sums[rc]);
  }
  const size_t bytes = static_cast<size_t>(2 * a.c * dtype_size(x.dtype));
  __builtin_memcpy(grad_weight.data, affine.at(0), bytes);
  __builtin_memcpy(grad_bias.data, affine.at(1), bytes);
  a.scale = tables.at(1);
  a.k1 = tables.at(2);
  a.k2 = tables.at(3);
  a.out = grad_x.data;
  return x.numel() > 0 ? pool_status(cpu_kernels().region_backward_apply(a)) : Status{};
}

}  // namespace inpaint
