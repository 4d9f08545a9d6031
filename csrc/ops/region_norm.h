// Shared by the two forms of region normalization: regions from a mask, merging of partial sums.
#pragma once

#include <memory>
#include <vector>

#include "../common/moments.h"
#include "../cpu/kernels.h"
#include "checks.h"
#include "values.h"

namespace inpaint {

// Regions of a batch with the memory behind them.
struct RegionStore {
  Regions regions{};
  std::unique_ptr<uint8_t[]> labels;
  std::vector<int32_t> counts;
  std::vector<int64_t> first;
  std::vector<double> totals;  // pixels of (image, region), for one image if the mask is shared
  int64_t images = 0;          // 1 if shared
  bool soft = false;           // some value lies strictly between 0 and 1

  // False if the pool or memory failed.
  bool build(ParallelFor pool, const TensorView& mask, int64_t n_stride, int64_t s);
  // Every pixel valid.
  bool build_valid(int64_t s);
  // Pixels of a region in the statistics of `group`.
  double pixels(int64_t group, int64_t region, int64_t batch, bool instance) const;
};

// The per-channel tables of one statistics group, in the type that tensors of `type` are computed
// in.
struct Tables {
  std::vector<char> memory;
  int64_t row = 0;  // 2 * c values for each statistics group
  DType dtype{};
  int64_t count = 0;
  Tables(DType type, int64_t groups, int64_t channels, int tables)
      : row(groups * 2 * channels), dtype(compute_dtype(type)), count(tables) {
    memory.resize(static_cast<size_t>(row * tables * dtype_size(dtype)));
  }
  void* at(int table) { return memory.data() + table * row * dtype_size(dtype); }
  void set(int table, int64_t index, double value) { set_value(at(table), dtype, index, value); }
  double get(int table, int64_t index) { return Values{at(table), dtype}[index]; }
};

inline int64_t units_per_image(const Regions& regions) {
  return (regions.chunks + kUnitChunks - 1) / kUnitChunks;
}

// Rows for the results of all units, and scratch of channels-last reductions behind them.
std::unique_ptr<double[]> partial_rows(const RegionNormArgs& args);

// Fills the tensors of `args` that every pass needs. mask undefined: one region.
Status region_args(ParallelFor pool, const TensorView& x, const TensorView& mask,
                   RegionStore* store, RegionNormArgs* args);

// What a block adds to them, if there is one.
Status surround_args(const TensorView& x, const Surround& surround, RegionNormArgs* args);

// Merges the statistics of one channel, in the order of its units, into mean and rstd (groups, 2,
// c) in float64.
struct MomentsOptions {
  double eps;
  bool scale_eps, instance;
};
void channel_moments(const RegionNormArgs& args, const RegionStore& store,
                     const MomentsOptions& options, int64_t c, double* mean, double* rstd);

// Has the kernel call body(channel) between its passes; `body` must outlive the call.
template <class Body>
void set_finish(RegionNormArgs* args, Body* body) {
  args->context = body;
  args->finish = [](void* context, int64_t channel) { (*static_cast<Body*>(context))(channel); };
}

// Adds one value (0 or 1) of one region and channel over the units of a statistics group, in order.
double sum_units(const RegionNormArgs& args, const double* partials, bool instance, int64_t group,
                 int64_t region, int64_t value, int64_t channel);

// With soft labels; in a block where `surround` is one.
Status soft_region_norm_forward(ParallelFor pool, const TensorView& x, const Surround& surround,
                                const TensorView& mask, const TensorView& weight,
                                const TensorView& bias, double eps, bool scale_eps, bool instance,
                                const TensorView& y, double* mean, double* rstd);
Status soft_region_norm_backward(ParallelFor pool, const TensorView& grad, const TensorView& x,
                                 const Surround& surround, const TensorView& mask,
                                 const TensorView& weight, const TensorView& bias,
                                 const double* mean, const double* rstd, bool instance,
                                 const TensorView& grad_x, const TensorView& grad_weight,
                                 const TensorView& grad_bias);

}  // namespace inpaint
