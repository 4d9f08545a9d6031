// The table of CPU kernels. Each file under cpu/ is compiled once per instruction set (macro
// INPAINT_SIMD names it) into its own namespace; dispatch.cpp picks one table at run time.
// Arguments have been checked (ops/): pointers are dense, orders agree.
//
// Kernel files must not call inline functions of the standard library: the linker may keep the
// copy compiled for AVX-512 and hand it to a machine that has none.
#pragma once

#include <cstdint>

#include "inpaint/parallel.h"
#include "inpaint/tensor_view.h"

namespace inpaint {

struct MaskUpdateArgs {
  ParallelFor pool;
  const void* mask;
  DType mask_dtype;
  int64_t mask_stride[5];  // n, group, and three spatial axes, in elements
  int64_t n, groups;
  const int64_t* counts;  // channels of each plane
  double cells;           // K
  double eps;
  int64_t size[3], out[3], kernel[3], stride[3], padding[3], dilation[3];
  void* new_mask;  // mask_dtype
  void* ratio;     // ratio_dtype
  DType ratio_dtype;
  void* sums;   // n * size, ratio_dtype: planes summed over groups; unused if groups == 1
  bool summed;  // by apply_mask, on its way
  void* rows;   // n * out[0] * out[1] * (size[2] + 2 * padding[2]), ratio_dtype
};

// Planes of at most this many pixels are taken several at a time, by a row of their factors that
// repeats.
constexpr int64_t kShortPlane = 64;

constexpr int64_t kMaskBlock = 256;  // pixels of a plane that are classified together
enum MaskClass : uint8_t { kAllHole = 0, kAllValid = 1, kMixed = 2 };

struct ApplyMaskArgs {
  ParallelFor pool;
  // A MaskClass for each block of each plane: (n or 1, groups, blocks); null if per element.
  const uint8_t* classes;
  int64_t class_n_stride;
  const void* x;
  void* out;
  DType dtype;
  const void* mask;
  DType mask_dtype;  // bool, dtype or compute_dtype(dtype)
  int64_t mask_n_stride;
  bool mask_per_element;  // a mask of all channels of x, in the memory order of x
  const int64_t* counts;
  int64_t groups;
  int64_t n, c, s;
  bool channels_last;
  // With a mask of all channels: the planes summed, (n or 1, s) in compute_dtype(dtype); or null.
  void* sums;
};

struct EpilogueArgs {
  ParallelFor pool;
  DType dtype;
  const void* grad;   // backward only
  void* y;            // forward: in place; backward: grad_raw
  const void* ratio;  // compute_dtype(dtype), like the new mask
  const void* new_mask;
  int64_t ratio_n_stride, mask_n_stride;
  const void* bias;  // forward; may be null
  void* grad_bias;   // backward; may be null
  double* partials;  // backward with bias: epilogue_units() * c
  int64_t n, c, s;
  bool channels_last;
};

// The regions of a batch of pixels, made once per call from the mask (one channel of work).
struct Regions {
  const uint8_t* labels;  // n * s (or s, if shared): 0 valid, 1 hole
  int64_t n_stride;
  // For each chunk of kChunk pixels of each image: pixels and first pixel of each region.
  const int32_t* counts;   // (n or 1) * chunks * 2
  const int64_t* first;    // (n or 1) * chunks * 2
  int64_t chunk_n_stride;  // 0 if shared
  int64_t chunks;          // per image
};

constexpr int64_t kChunk =
    1024;  // pixels summed in the tensor's own precision before float64 takes over

struct RegionNormArgs {
  ParallelFor pool;
  DType dtype;
  Regions regions;
  const void* x;
  const void* grad;
  void* out;  // y or grad_x
  int64_t n, c, s;
  bool channels_last;
  // What follows is in compute_dtype(dtype).
  // Per statistics group (1, or n with instance statistics), region and channel:
  const void* mean;
  const void* scale;      // forward: weight * rstd; backward: the same
  const void* shift;      // forward: bias
  const void* k1;         // backward: mean of the gradient
  const void* k2;         // backward: rstd^2 * mean of gradient * (x - mean)
  int64_t stat_n_stride;  // 2 * c with instance statistics, else 0
  // In a block, else null: x is multiplied by ratio when it is read, and what has been normalized
  // is activated (slope below zero) and multiplied by the new mask. (n or 1, s).
  const void* ratio;
  const void* new_mask;
  int64_t ratio_n_stride, new_mask_n_stride;
  double slope;
  bool fixed;  // the tables are complete: nothing is reduced; forward, y may be x
  bool given;  // backward: the statistics do not depend on x, k1 and k2 are not there
  // Per pixel (attention form), (n, 2, s): gamma and beta; or null:
  const void* maps;
  void* grad_maps;
  const void* grad_pooled;  // (n, 2, s)
  const int32_t* argmax;
  // Between the passes: turns the partial sums of a channel into its entries of the tables. Called
  // once for each channel, from any thread.
  void (*finish)(void* context, int64_t channel);
  void* context;
  // Reductions leave one row per unit, (2 regions, 2 values, c): forward mean and m2, backward the
  // sums of g and g * (x - mean). Channels-last scratch lies behind: see partial_rows.
  double* partials;
  // Channel pool:
  void* pooled;  // (n, 2, s)
  int32_t* argmax_out;
};

// Planes (n, in, h, w) and (n, outputs, h, w), one or two of each; odd windows kh x kw.
struct PlaneConvArgs {
  ParallelFor pool;
  DType dtype;
  const void* x;
  const void* weight;  // (outputs, in, kh, kw)
  const void* bias;    // (outputs), or null
  void* out;
  const void* grad;  // weight gradient: of the outputs
  double* partials;  // weight gradient: one row of taps for each unit
  void* padded;      // n * in * (h + kh - 1) * (w + kw - 1)
  int64_t n, in, outputs, h, w, kh, kw;
};
constexpr int64_t kNarrowSpan = 64;  // the widest window of narrow_conv, less one
// Stride 1, few outputs; weights packed as narrow_conv.cpp says.
struct NarrowConvArgs {
  ParallelFor pool;
  DType dtype;
  bool channels_last;
  const void* x;
  const void* weight;
  void* out;
  int64_t n, in, h, w, outputs, oh, ow, kh, kw, padded_in;
  int64_t padding[2], dilation[2];
};
constexpr int64_t kPlaneRows = 16;  // rows of one unit of the weight gradient

constexpr int64_t kUnitChunks = 4;  // chunks of one unit of a reduction, for every thread count

struct CpuKernels {
  const char* name;
  bool (*mask_update)(const MaskUpdateArgs&);
  bool (*apply_mask)(const ApplyMaskArgs&);
  bool (*epilogue)(const EpilogueArgs&);
  bool (*epilogue_backward)(const EpilogueArgs&);
  bool (*region_forward)(const RegionNormArgs&);
  bool (*region_backward)(const RegionNormArgs&);
  bool (*channel_pool)(const RegionNormArgs&);
  bool (*attention_backward_maps)(const RegionNormArgs&);
  bool (*attention_backward_input)(const RegionNormArgs&);
  bool (*plane_conv)(const PlaneConvArgs&);
  bool (*plane_conv_backward_weight)(const PlaneConvArgs&);
  bool (*narrow_conv)(const NarrowConvArgs&);
};

constexpr int64_t kEpilogueUnit = 4096;  // pixels of one unit of the bias gradient
inline int64_t epilogue_units(int64_t n, int64_t s) {
  return n * ((s + kEpilogueUnit - 1) / kEpilogueUnit);
}

// The table in use, and the names of those that this machine could run, best first.
const CpuKernels& cpu_kernels();
const char* const* cpu_levels(int* count);
bool select_cpu_level(const char* name);

}  // namespace inpaint
