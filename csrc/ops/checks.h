// What every op asks of its tensors before a kernel sees a pointer. Shared by CPU and CUDA.
#pragma once

#include <memory>

#include "../common/sizes.h"
#include "inpaint/op_table.h"

namespace inpaint {

// An activation in one of the two memory orders that kernels run natively.
struct Dense {
  int64_t n = 0, c = 0, s = 0;  // batch, channels, product of the spatial sizes
  bool channels_last = false;
  bool either = false;  // C == 1 or one pixel: both orders are the same memory
};

// Sizes and offsets, in bytes too, that fit into 64 bits with room for what kernels make of them.
// Part of check_dense, check_shape and check_planes.
Status check_extent(const char* name, const TensorView& t);
Status check_dense(const char* name, const TensorView& t, Dense* dense);
Status check_floating(const char* name, const TensorView& t);
// Where half precision is not taken.
Status check_float(const char* name, const TensorView& t);
Status check_dtype(const char* name, const TensorView& t, DType dtype);
Status check_shape(const char* name, const TensorView& t, std::initializer_list<int64_t> shape);
// Same shape and memory order as `like`.
Status check_like(const char* name, const TensorView& t, const char* like_name,
                  const TensorView& like);
// (N|1, planes, spatial of `like`), contiguous. *n_stride is 0 for a plane shared by the batch.
Status check_planes(const char* name, const TensorView& t, const TensorView& like, int64_t planes,
                    int64_t* n_stride);
Status check_channels(const Channels& channels, int64_t groups);
Status check_window(const Window& window, const TensorView& mask, int64_t out[kMaxSpatial]);

inline Status pool_status(bool finished) {
  return finished ? Status{} : failure("torch's thread pool reported an error");
}

}  // namespace inpaint
