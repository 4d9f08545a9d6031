// Loads and stores of up to sixteen bytes, and the walk of an elementwise kernel over a tensor.
#pragma once

#include <cuda_runtime.h>

#include "../common/half.h"
#include "device.h"
#include "inpaint/tensor_view.h"

namespace inpaint {

// Elements that are read and written with one instruction.
template <class S, int kWidth>
struct alignas(sizeof(S) * kWidth) Pack {
  S values[kWidth];
};

template <int kWidth, class S>
__device__ __forceinline__ Pack<S, kWidth> load_pack(const S* p) {
  return *reinterpret_cast<const Pack<S, kWidth>*>(p);
}

template <int kWidth, class S>
__device__ __forceinline__ void store_pack(S* p, const Pack<S, kWidth>& pack) {
  *reinterpret_cast<Pack<S, kWidth>*>(p) = pack;
}

template <class S>
constexpr int full_width() {
  return static_cast<int>(16 / sizeof(S));
}

// A tensor as rows: planes of pixels (contiguous), or pixels of channels (channels-last). What is
// constant along a row is found once, without a division for each element.
struct Rows {
  int64_t n, c, s;
  bool channels_last;
  __host__ __device__ int64_t count() const { return n * (channels_last ? s : c); }
  __host__ __device__ int64_t inner() const { return channels_last ? c : s; }
};

// Body: auto row(n, outer) gives what a row's elements have in common, where outer is the channel
// or the pixel; elements<kWidth>(row, at, inner) does those from flat index `at` on. The body
// itself is never written: it stays where kernel arguments are. A row ends with whole packs.
template <int kWidth, class Body>
__global__ void __launch_bounds__(kThreads, 2) elementwise(const Rows rows, const Body body) {
  const int64_t inner = rows.inner(), outer = rows.channels_last ? rows.s : rows.c;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x * kWidth;
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
  for (int64_t row = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
       row < rows.count(); row += static_cast<int64_t>(gridDim.y) * blockDim.y) {
    const auto here = body.row(row / outer, row % outer);
    for (int64_t i = begin; i < inner; i += step) {
      body.template elements<kWidth>(here, row * inner + i, i);
    }
  }
}

// Calls body(zero) with a zero of the element type, or says that there is no kernel for it.
template <class Body>
Status for_half_or_float(const char* name, DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat32: body(float{}); return {};
    case DType::kBFloat16: body(BFloat16(0.0f)); return {};
    case DType::kFloat16: body(Float16(0.0f)); return {};
    default:
      return failure(name, ": expected float32, bfloat16 or float16, got ", dtype_name(dtype));
  }
}

inline bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// Launches `elementwise` with packs of sixteen bytes of S where rows and memory allow.
template <class S, class Body>
void run_elementwise(Launcher& launcher, const Rows& rows, bool is_aligned, const Body& body) {
  constexpr int kWidth = full_width<S>();
  const bool packed = is_aligned && rows.inner() % kWidth == 0;
  const int64_t items = packed ? rows.inner() / kWidth : rows.inner();
  unsigned tx = 1;
  while (tx < kThreads && tx < items) tx *= 2;
  const dim3 block(tx, kThreads / tx);
  // Four items for each thread, where a row is that long.
  const dim3 grid(grid_size(ceil_div(items, static_cast<int64_t>(tx) * 4)),
                  grid_size(ceil_div(rows.count(), block.y)));
  if (packed) {
    launcher.run(elementwise<kWidth, Body>, grid, block, rows, body);
  } else {
    launcher.run(elementwise<1, Body>, grid, block, rows, body);
  }
}

}  // namespace inpaint
