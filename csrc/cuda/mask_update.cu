// Window count, ratio and new mask: one thread per output pixel, grid-stride, 64-bit offsets.
#include "../common/half.h"
#include "../common/window.h"
#include "../ops/mask_args.h"
#include "device.h"

namespace inpaint {

namespace {

constexpr int kMaxGroups = 64;  // channel counts travel as kernel arguments

struct Geometry {
  int64_t mask_stride[5];
  int64_t size[3], out[3], kernel[3], stride[3], padding[3], dilation[3];
  int64_t pixels;  // n * out
  int64_t groups;
  bool uniform;  // every plane stands for as many channels as the first
  float counts[kMaxGroups];
  double cells, eps;
};

template <class M>
__device__ __forceinline__ double mask_value(M m) {
  return static_cast<double>(m);
}
template <>
__device__ __forceinline__ double mask_value<uint8_t>(uint8_t m) {
  return m != 0 ? 1.0 : 0.0;
}

template <class M, class T>
__global__ void mask_update_kernel(const M* __restrict__ mask, M* __restrict__ new_mask,
                                   T* __restrict__ ratio, const Geometry geometry) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < geometry.pixels;
       i += step) {
    int64_t rest = i, first[3], last[3], start[3];
    for (int axis = 2; axis >= 0; --axis) {
      start[axis] = rest % geometry.out[axis] * geometry.stride[axis] - geometry.padding[axis];
      rest /= geometry.out[axis];
      taps_inside(start[axis], geometry.dilation[axis], geometry.kernel[axis], geometry.size[axis],
                  &first[axis], &last[axis]);
    }
    T sum = T(0);
    for (int64_t g = 0; g < geometry.groups; ++g) {
      const M* plane = mask + rest * geometry.mask_stride[0] + g * geometry.mask_stride[1];
      T box = T(0);
      for (int64_t d = first[0]; d < last[0]; ++d) {
        for (int64_t h = first[1]; h < last[1]; ++h) {
          const M* row = plane + (start[0] + d * geometry.dilation[0]) * geometry.mask_stride[2] +
                         (start[1] + h * geometry.dilation[1]) * geometry.mask_stride[3];
          for (int64_t w = first[2]; w < last[2]; ++w) {
            box += static_cast<T>(mask_value<M>(
                row[(start[2] + w * geometry.dilation[2]) * geometry.mask_stride[4]]));
          }
        }
      }
      sum += box * static_cast<T>(geometry.counts[geometry.uniform ? 0 : g]);
    }
    new_mask[i] = static_cast<M>(sizeof(M) == 1 ? T(sum > T(0)) : updated_mask(sum));
    ratio[i] = window_ratio(sum, static_cast<T>(geometry.cells), static_cast<T>(geometry.eps));
  }
}

template <class M, class T>
void launch(const MaskUpdateArgs& a, const Geometry& geometry, Launcher& launcher) {
  const int64_t blocks = (geometry.pixels + kThreads - 1) / kThreads;
  const unsigned grid = static_cast<unsigned>(blocks < 65535 ? blocks : 65535);
  launcher.run(mask_update_kernel<M, T>, dim3(grid), dim3(kThreads), static_cast<const M*>(a.mask),
               static_cast<M*>(a.new_mask), static_cast<T*>(a.ratio), geometry);
}

template <class M>
void launch_ratio(const MaskUpdateArgs& a, const Geometry& geometry, Launcher& launcher) {
  if (a.ratio_dtype == DType::kFloat64) {
    launch<M, double>(a, geometry, launcher);
  } else {
    launch<M, float>(a, geometry, launcher);
  }
}

}  // namespace

Status cuda_mask_update(int32_t device, void* stream, const TensorView& mask,
                        const Channels& channels, const Window& window, double eps,
                        const TensorView& new_mask, const TensorView& ratio) {
  MaskUpdateArgs a;
  INPAINT_TRY(mask_update_problem(mask, channels, window, eps, new_mask, ratio, &a));
  if (new_mask.numel() == 0) return {};
  bool uniform = true;
  for (int64_t g = 1; g < a.groups; ++g) uniform = uniform && a.counts[g] == a.counts[0];
  INPAINT_CHECK(uniform || a.groups <= kMaxGroups, "cuda_mask_update: at most ", kMaxGroups,
                " mask planes of different channel counts, got ", a.groups);
  Geometry geometry{};
  for (int i = 0; i < 5; ++i) geometry.mask_stride[i] = a.mask_stride[i];
  geometry.pixels = a.n;
  for (int i = 0; i < 3; ++i) {
    geometry.size[i] = a.size[i];
    geometry.out[i] = a.out[i];
    geometry.kernel[i] = a.kernel[i];
    geometry.stride[i] = a.stride[i];
    geometry.padding[i] = a.padding[i];
    geometry.dilation[i] = a.dilation[i];
    geometry.pixels *= a.out[i];
  }
  geometry.groups = a.groups;
  geometry.uniform = uniform;
  const int64_t named = uniform ? 1 : a.groups;
  for (int64_t g = 0; g < named; ++g) geometry.counts[g] = static_cast<float>(a.counts[g]);
  geometry.cells = a.cells;
  geometry.eps = a.eps;
  Launcher launcher("cuda_mask_update", device, stream);
  switch (a.mask_dtype) {
    case DType::kBool: launch_ratio<uint8_t>(a, geometry, launcher); break;
    case DType::kFloat64: launch_ratio<double>(a, geometry, launcher); break;
    case DType::kBFloat16: launch_ratio<BFloat16>(a, geometry, launcher); break;
    case DType::kFloat16: launch_ratio<Float16>(a, geometry, launcher); break;
    default: launch_ratio<float>(a, geometry, launcher); break;
  }
  return launcher.status();
}

}  // namespace inpaint
