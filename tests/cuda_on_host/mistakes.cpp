// Kernels that are wrong, each in its own way: what the host must notice.
#include <cstring>

#include "cuda_runtime.h"

__global__ void barrier_in_a_branch(float*) {
  if (threadIdx.x < 40) __syncthreads();
}

__global__ void shuffle_without_some_lanes(float* out) {
  if (threadIdx.x % 32 < 31) out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

__global__ void barrier_against_shuffle(float* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    out[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1.0f, 1);
    __shfl_down_sync(0xffffffffu, 1.0f, 1);
  }
}

// Reads what another thread writes, without a barrier between.
__global__ void race(float* out) {
  __shared__ float shared[64];
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = shared[63 - threadIdx.x];
}

__global__ void right(float* out) {
  __shared__ float shared[64];
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  const float sum = shared[63 - threadIdx.x] + __shfl_xor_sync(0xffffffffu, 0.5f, 16);
  out[threadIdx.x] = sum;
}

// Reads what the block before left in shared memory: nothing, on a GPU.
__global__ void left_over(float* out) {
  __shared__ float shared[64];
  if (blockIdx.x == 0) shared[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x];
}

void write(float* to, unsigned at) { to[at] = 1.0f; }

__global__ void past_shared(float*) {
  __shared__ float shared[63];
  write(shared, threadIdx.x);
}

__global__ void past_output(float* out) { write(out, threadIdx.x + 1); }

__global__ void past_local(float* out) {
  float local[2] = {};
  write(local, threadIdx.x % 3);
  out[threadIdx.x] = local[0];
}

__global__ void misaligned(float* out) {
  write(reinterpret_cast<float*>(reinterpret_cast<char*>(out) + 1), 0);
}

int main(int, char** arguments) {
  struct {
    const char* name;
    void (*kernel)(float*);
  } kernels[] = {{"barrier_in_a_branch", barrier_in_a_branch},
                 {"shuffle_without_some_lanes", shuffle_without_some_lanes},
                 {"barrier_against_shuffle", barrier_against_shuffle},
                 {"race", race},
                 {"right", right},
                 {"left_over", left_over},
                 {"past_shared", past_shared},
                 {"past_output", past_output},
                 {"past_local", past_local},
                 {"misaligned", misaligned}};
  cudaLaunchConfig_t config{dim3(1), dim3(64), 0, nullptr};
  for (const auto& k : kernels) {
    if (std::strcmp(k.name, arguments[1]) != 0) continue;
    config.gridDim = dim3(k.kernel == left_over ? 2 : 1);
    std::vector<float> values(64);
    float* out = values.data();
    cudaLaunchKernelEx(&config, k.kernel, out);
    for (float value : values) std::printf("%g ", static_cast<double>(value));
  }
  config.blockDim = dim3(2048);
  return cudaLaunchKernelEx(&config, right, static_cast<float*>(nullptr)) == cudaSuccess;
}
