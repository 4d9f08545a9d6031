// What every CUDA entry point does around its kernels: device, stream, errors, launches.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "inpaint/status.h"

namespace inpaint {

// What the caller can do about an error.
inline const char* way_out(cudaError_t error) {
  switch (error) {
    case cudaErrorInsufficientDriver:
    case cudaErrorUnsupportedPtxVersion:
      return "update the NVIDIA driver, or rebuild with an nvcc that it supports (CUDA_HOME=...)";
    case cudaErrorNoKernelImageForDevice:
      return "rebuild with INPAINT_OPS_CUDA_ARCHS set to this GPU's compute capability, such as 89 "
             "(python -m inpaint_ops.info says what was built)";
    case cudaErrorInvalidConfiguration:
      return "this size has no launch: use_backend('reference') runs it";
    default: return "CUDA_LAUNCH_BLOCKING=1 shows whether an earlier kernel is at fault";
  }
}

// Where a call runs. The caller's device is current again when this goes out of scope.
class Launcher {
 public:
  Launcher(const char* op, int32_t device, void* stream)
      : op_(op), stream_(static_cast<cudaStream_t>(stream)) {
    check(cudaGetDevice(&before_), "select device");
    if (status_.ok() && device != before_) check(cudaSetDevice(device), "select device");
  }
  ~Launcher() {
    if (before_ >= 0) static_cast<void>(cudaSetDevice(before_));
  }
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  // Launches unless an earlier step failed. An error of the launch itself is reported here, one of
  // the kernel's run by whatever synchronizes next, as with torch's own kernels.
  template <class... P, class... A>
  void run(void (*kernel)(P...), dim3 grid, dim3 block, A... arguments) {
    if (!status_.ok() || grid.x == 0 || grid.y == 0) return;
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.stream = stream_;
    check(cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...), "launch ", grid.x,
          " x ", grid.y, " blocks of ", block.x, " x ", block.y, " threads");
  }

  const Status& status() const { return status_; }

 private:
  template <class... Step>
  void check(cudaError_t error, const Step&... step) {
    if (error == cudaSuccess || !status_.ok()) return;
    status_ =
        failure(op_, ": ", step..., ": ", cudaGetErrorString(error), " (built with CUDA ",
                CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10, "); ", way_out(error));
  }

  const char* op_;
  cudaStream_t stream_;
  int before_ = -1;
  Status status_;
};

constexpr int kThreads = 256;
constexpr int kWarp = 32;

// As many blocks as there is work, up to what a grid's y axis holds; kernels stride over the rest.
inline unsigned grid_size(int64_t blocks, int64_t most = 65535) {
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

__host__ __device__ inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace inpaint
