#include "region_norm.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <new>

#include "region_checks.h"

namespace inpaint {

namespace {

template <class M>
bool label_values(const M* mask, uint8_t* labels, int64_t count) {
  int soft = 0;
  for (int64_t i = 0; i < count; ++i) {
    labels[i] = is_zero(mask[i]);
    // A bool is a byte: whatever it holds but 0 is valid.
    if constexpr (sizeof(M) > 1) soft |= !is_zero(mask[i]) & !is_one(mask[i]);
  }
  return soft != 0;
}

// Labels `count` pixels from `at` on; true if some value is neither 0 nor 1.
bool label(const TensorView& mask, int64_t at, uint8_t* labels, int64_t count) {
  return with_mask(mask.data, mask.dtype,
                   [&](const auto* values) { return label_values(values + at, labels, count); });
}

// Pixels of each region in a chunk that begins at pixel s0, and the first of each.
void count_labels(const uint8_t* labels, int64_t s0, int64_t count, int32_t* counts,
                  int64_t* first) {
  int32_t holes = 0;
  for (int64_t i = 0; i < count; ++i) holes += labels[i];
  counts[0] = static_cast<int32_t>(count) - holes;
  counts[1] = holes;
  for (int r = 0; r < 2; ++r) {
    const void* found = std::memchr(labels, r, static_cast<size_t>(count));
    const int64_t offset = found == nullptr ? 0 : static_cast<const uint8_t*>(found) - labels;
    first[r] = s0 + offset;
  }
}

}  // namespace

bool RegionStore::build(ParallelFor pool, const TensorView& mask, int64_t n_stride, int64_t s) {
  images = n_stride == 0 ? 1 : mask.size[0];
  const int64_t chunks = (s + kChunk - 1) / kChunk;
  labels.reset(new (std::nothrow) uint8_t[static_cast<size_t>(images * s)]);
  if (labels == nullptr) return false;
  counts.resize(static_cast<size_t>(images * chunks * 2));
  first.resize(static_cast<size_t>(images * chunks * 2));
  std::atomic<bool> found_soft{false};
  const bool ok = parallel_for(pool, images * chunks, kChunk, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t s0 = t % chunks * kChunk, count = s - s0 < kChunk ? s - s0 : kChunk;
      const int64_t at = t / chunks * s + s0;
      if (label(mask, at, labels.get() + at, count)) found_soft = true;
      count_labels(labels.get() + at, s0, count, &counts[t * 2], &first[t * 2]);
    }
  });
  soft = found_soft;
  totals.assign(static_cast<size_t>(images * 2), 0.0);
  for (int64_t i = 0; i < images * chunks * 2; ++i)
    totals[i / (chunks * 2) * 2 + i % 2] += counts[i];
  regions.labels = labels.get();
  regions.n_stride = n_stride == 0 ? 0 : s;
  regions.counts = counts.data();
  regions.first = first.data();
  regions.chunk_n_stride = n_stride == 0 ? 0 : chunks * 2;
  regions.chunks = chunks;
  return ok;
}

bool RegionStore::build_valid(int64_t s) {
  images = 1;
  const int64_t chunks = (s + kChunk - 1) / kChunk;
  labels.reset(new (std::nothrow) uint8_t[static_cast<size_t>(s)]());
  if (labels == nullptr) return false;
  counts.resize(static_cast<size_t>(chunks * 2));
  first.resize(static_cast<size_t>(chunks * 2));
  for (int64_t k = 0; k < chunks; ++k) {
    const int64_t count = s - k * kChunk < kChunk ? s - k * kChunk : kChunk;
    counts[k * 2] = static_cast<int32_t>(count);
    first[k * 2] = first[k * 2 + 1] = k * kChunk;
  }
  totals = {static_cast<double>(s), 0.0};
  regions = {labels.get(), 0, counts.data(), first.data(), 0, chunks};
  return true;
}

double RegionStore::pixels(int64_t group, int64_t region, int64_t batch, bool instance) const {
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
  bool built = false;
  if (mask.defined()) {
    INPAINT_CHECK(mask.dtype != DType::kInt32, "mask: expected bool or floating, got int32");
    int64_t n_stride = 0;
    INPAINT_TRY(check_planes("mask", mask, x, 1, &n_stride));
    built = store->build(pool, mask, n_stride, dense.s);
  } else {
    built = store->build_valid(dense.s);
  }
  INPAINT_CHECK(built, "mask: out of memory, or the threads failed");
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

Status surround_args(const TensorView& x, const Surround& surround, RegionNormArgs* args) {
  INPAINT_TRY(check_surround(x, surround, &args->ratio_n_stride, &args->new_mask_n_stride));
  if (!surround.ratio.defined()) return {};
  args->ratio = surround.ratio.data;
  args->new_mask = surround.new_mask.data;
  args->slope = surround.slope;
  return {};
}

double sum_units(const RegionNormArgs& args, const double* partials, bool instance, int64_t group,
                 int64_t region, int64_t value, int64_t channel) {
  const int64_t units = units_per_image(args.regions);
  const int64_t begin = instance ? group * units : 0;
  const int64_t end = instance ? begin + units : args.n * units;
  double sum = 0;
  for (int64_t u = begin; u < end; ++u) {
    sum += partials[(u * 4 + region * 2 + value) * args.c + channel];
  }
  return sum;
}

void channel_moments(const RegionNormArgs& args, const RegionStore& store,
                     const MomentsOptions& options, int64_t c, double* mean, double* rstd) {
  const int64_t units = units_per_image(args.regions), chunks = args.regions.chunks;
  const int64_t groups = options.instance ? args.n : 1, images = options.instance ? 1 : args.n;
  const double pixels = static_cast<double>(images) * static_cast<double>(args.s);
  for (int64_t group = 0; group < groups; ++group) {
    for (int r = 0; r < 2; ++r) {
      const double count = store.pixels(group, r, args.n, options.instance);
      const double eps =
          count > 0 && options.scale_eps ? options.eps * pixels / count : options.eps;
      Moments total;
      for (int64_t t = group * units; t < (group + images) * units; ++t) {
        const int64_t n = t / units, begin = t % units * kUnitChunks;
        const int64_t end = begin + kUnitChunks < chunks ? begin + kUnitChunks : chunks;
        const int32_t* counts = args.regions.counts + n * args.regions.chunk_n_stride;
        const double* row = args.partials + (t * 4 + r * 2) * args.c + c;
        Moments part;
        for (int64_t k = begin; k < end; ++k) part.count += counts[k * 2 + r];
        part.mean = row[0];
        part.m2 = row[args.c];
        merge_moments(&total, part);
      }
      const int64_t at = (group * 2 + r) * args.c + c;
      mean[at] = total.mean;
      rstd[at] = count > 0 ? 1.0 / std::sqrt(total.m2 / count + eps) : 0.0;
    }
  }
}

namespace {

// The tensors of a norm beside x and y, as both of its passes take them.
struct Affine {
  int64_t groups, rows, c;
  Values weight, bias;
  bool has_weight, has_bias;
  double gain(int64_t rc) const { return has_weight ? weight[rc] : 1.0; }
  double offset(int64_t rc) const { return has_bias ? bias[rc] : 0.0; }
};

// Which rows a region of one channel has in (groups, rows, c) and in the tables, (groups, 2, c).
struct Row {
  int64_t in_tables, in_tensor, of_parameter;
  Row(const Affine& p, int64_t group, int64_t region, int64_t channel)
      : in_tables((group * 2 + region) * p.c + channel),
        in_tensor((group * p.rows + region) * p.c + channel),
        of_parameter(region * p.c + channel) {}
};

Status affine_args(const TensorView& x, const TensorView& weight, const TensorView& bias,
                   const TensorView& mean, const TensorView& rstd, bool instance, int64_t rows,
                   Affine* p) {
  const int64_t c = x.size[1];
  *p = {instance ? x.size[0] : 1,
        rows,
        c,
        {weight.data, weight.dtype},
        {bias.data, bias.dtype},
        weight.defined(),
        bias.defined()};
  INPAINT_TRY(check_statistics(mean, rstd, p->groups, rows, c));
  INPAINT_TRY(check_affine("weight", weight, x, rows));
  return check_affine("bias", bias, x, rows);
}

// Mean, scale and shift of the forward pass; what the mean loses by rounding to the tensor's type
// goes into the shift.
void set_forward(const Affine& p, const Row& row, double mean, double rstd, Tables* tables) {
  const double scale = rstd * p.gain(row.of_parameter);
  tables->set(0, row.in_tables, mean);
  tables->set(1, row.in_tables, scale);
  const double lost = mean - tables->get(0, row.in_tables);
  tables->set(2, row.in_tables, p.offset(row.of_parameter) - lost * scale);
}

Status forward(ParallelFor pool, const TensorView& x, const Surround& surround,
               const TensorView& mask, const TensorView& weight, const TensorView& bias, double eps,
               bool scale_eps, bool instance, bool fixed, const TensorView& y,
               const TensorView& mean, const TensorView& rstd) {
  RegionStore store;
  RegionNormArgs a;
  Affine p;
  INPAINT_TRY(region_args(pool, x, mask, &store, &a));
  INPAINT_TRY(surround_args(x, surround, &a));
  INPAINT_TRY(check_like("y", y, "x", x));
  INPAINT_TRY(affine_args(x, weight, bias, mean, rstd, instance, mask.defined() ? 2 : 1, &p));
  if (x.numel() == 0) return {};
  double* means = static_cast<double*>(mean.data);
  double* rstds = static_cast<double*>(rstd.data);
  if (store.soft) {
    return soft_region_norm_forward(pool, x, surround, mask, weight, bias, eps, scale_eps, instance,
                                    y, means, rstds);
  }
  Tables tables(x.dtype, p.groups, a.c, 3);
  std::vector<double> moments(static_cast<size_t>(2 * tables.row));
  const MomentsOptions options{eps, scale_eps, instance};
  auto finish = [&](int64_t c) {
    double* found = moments.data();
    if (!fixed) channel_moments(a, store, options, c, found, found + tables.row);
    for (int64_t group = 0; group < p.groups; ++group) {
      for (int64_t r = 0; r < p.rows; ++r) {
        const Row row(p, group, r, c);
        if (!fixed) {
          means[row.in_tensor] = found[row.in_tables];
          rstds[row.in_tensor] = found[tables.row + row.in_tables];
        }
        set_forward(p, row, means[row.in_tensor], rstds[row.in_tensor], &tables);
      }
    }
  };
  std::unique_ptr<double[]> partials = partial_rows(a);
  INPAINT_CHECK(partials != nullptr, "region_norm_forward: out of memory");
  a.partials = partials.get();
  set_finish(&a, &finish);
  a.fixed = fixed;
  a.mean = tables.at(0);
  a.scale = tables.at(1);
  a.shift = tables.at(2);
  a.stat_n_stride = instance ? 2 * a.c : 0;
  a.out = y.data;
  return pool_status(cpu_kernels().region_forward(a));
}

Status backward(ParallelFor pool, const TensorView& grad, const TensorView& x,
                const Surround& surround, const TensorView& mask, const TensorView& weight,
                const TensorView& bias, const TensorView& mean, const TensorView& rstd,
                bool instance, bool fixed, const TensorView& grad_x, const TensorView& grad_weight,
                const TensorView& grad_bias) {
  RegionStore store;
  RegionNormArgs a;
  Affine p;
  INPAINT_TRY(region_args(pool, x, mask, &store, &a));
  INPAINT_TRY(surround_args(x, surround, &a));
  INPAINT_TRY(check_like("grad", grad, "x", x));
  INPAINT_TRY(check_like("grad_x", grad_x, "x", x));
  INPAINT_TRY(affine_args(x, weight, bias, mean, rstd, instance, mask.defined() ? 2 : 1, &p));
  INPAINT_TRY(check_affine("grad_weight", grad_weight, x, p.rows));
  INPAINT_TRY(check_affine("grad_bias", grad_bias, x, p.rows));
  INPAINT_CHECK(grad_weight.defined() == grad_bias.defined(),
                "grad_weight, grad_bias: expected both or neither");
  const double* means = static_cast<const double*>(mean.data);
  const double* rstds = static_cast<const double*>(rstd.data);
  if (store.soft) {
    return soft_region_norm_backward(pool, grad, x, surround, mask, weight, bias, means, rstds,
                                     instance, grad_x, grad_weight, grad_bias);
  }
  if (x.numel() == 0) return {};  // the caller cleared the gradients
  Tables tables(x.dtype, p.groups, a.c, 5);
  for (int64_t group = 0; group < p.groups; ++group) {
    for (int64_t r = 0; r < p.rows; ++r) {
      for (int64_t c = 0; c < a.c; ++c) {
        const Row row(p, group, r, c);
        set_forward(p, row, means[row.in_tensor], rstds[row.in_tensor], &tables);
      }
    }
  }
  auto finish = [&](int64_t c) {
    for (int64_t r = 0; r < p.rows; ++r) {
      double weight_sum = 0, bias_sum = 0;
      for (int64_t group = 0; group < p.groups; ++group) {
        const Row row(p, group, r, c);
        const double rstd_here = rstds[row.in_tensor];
        const double lost = means[row.in_tensor] - tables.get(0, row.in_tables);
        double sum = 0, product = 0;
        if (!a.fixed) {
          sum = sum_units(a, a.partials, instance, group, r, 0, c);
          product = sum_units(a, a.partials, instance, group, r, 1, c) - lost * sum;
        }
        weight_sum += product * rstd_here;
        bias_sum += sum;
        // Given statistics do not depend on x.
        const double count = fixed ? 0.0 : store.pixels(group, r, a.n, instance);
        const double k2 = count > 0 ? rstd_here * rstd_here * product / count : 0.0;
        tables.set(3, row.in_tables, count > 0 ? sum / count - lost * k2 : 0.0);
        tables.set(4, row.in_tables, k2);
      }
      if (!grad_weight.defined()) continue;
      set_value(grad_weight, r * a.c + c, weight_sum);
      set_value(grad_bias, r * a.c + c, bias_sum);
    }
  };
  std::unique_ptr<double[]> partials = partial_rows(a);
  INPAINT_CHECK(partials != nullptr, "region_norm_backward: out of memory");
  a.partials = partials.get();
  set_finish(&a, &finish);
  a.fixed = fixed && !grad_weight.defined();  // there is nothing to sum
  a.given = fixed;
  a.grad = grad.data;
  a.mean = tables.at(0);
  a.scale = tables.at(1);
  a.shift = tables.at(2);
  a.k1 = tables.at(3);
  a.k2 = tables.at(4);
  a.stat_n_stride = instance ? 2 * a.c : 0;
  a.out = grad_x.data;
  return pool_status(cpu_kernels().region_backward(a));
}

Status check_block(const Surround& surround, const TensorView& mask, bool fixed) {
  INPAINT_CHECK(surround.ratio.defined() && surround.new_mask.defined(),
                "ratio, new_mask: missing");
  INPAINT_CHECK(!fixed || !mask.defined(), "fixed: statistics are given for one region only");
  return {};
}

const TensorView kNone;
const Surround kNoBlock{kNone, kNone, 1.0};

}  // namespace

Status region_norm_forward(ParallelFor pool, const TensorView& x, const TensorView& mask,
                           const TensorView& weight, const TensorView& bias, double eps,
                           bool scale_eps, bool instance, const TensorView& y,
                           const TensorView& mean, const TensorView& rstd) {
  INPAINT_CHECK(mask.defined(), "mask: missing");
  return forward(pool, x, kNoBlock, mask, weight, bias, eps, scale_eps, instance, false, y, mean,
                 rstd);
}

Status region_norm_backward(ParallelFor pool, const TensorView& grad, const TensorView& x,
                            const TensorView& mask, const TensorView& weight,
                            const TensorView& mean, const TensorView& rstd, bool instance,
                            const TensorView& grad_x, const TensorView& grad_weight,
                            const TensorView& grad_bias) {
  INPAINT_CHECK(mask.defined(), "mask: missing");
  return backward(pool, grad, x, kNoBlock, mask, weight, kNone, mean, rstd, instance, false, grad_x,
                  grad_weight, grad_bias);
}

Status block_norm_forward(ParallelFor pool, const TensorView& x, const Surround& surround,
                          const TensorView& mask, const TensorView& weight, const TensorView& bias,
                          double eps, bool scale_eps, bool fixed, const TensorView& y,
                          const TensorView& mean, const TensorView& rstd) {
  INPAINT_TRY(check_block(surround, mask, fixed));
  return forward(pool, x, surround, mask, weight, bias, eps, scale_eps, false, fixed, y, mean,
                 rstd);
}

Status block_norm_backward(ParallelFor pool, const TensorView& grad, const TensorView& x,
                           const Surround& surround, const TensorView& mask,
                           const TensorView& weight, const TensorView& bias, const TensorView& mean,
                           const TensorView& rstd, bool fixed, const TensorView& grad_x,
                           const TensorView& grad_weight, const TensorView& grad_bias) {
  INPAINT_TRY(check_block(surround, mask, fixed));
  return backward(pool, grad, x, surround, mask, weight, bias, mean, rstd, false, fixed, grad_x,
                  grad_weight, grad_bias);
}

}  // namespace inpaint
