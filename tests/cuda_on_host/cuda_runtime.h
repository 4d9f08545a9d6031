// Enough of CUDA to run the shipped kernels on the host, for tests. Found before NVIDIA's header,
// it compiles csrc/cuda/*.cu as plain C++. The threads of a block are fibers of one host thread;
// they run in an order that can be turned round (INPAINT_HOST_ORDER=reverse), so that a result
// which depends on it is seen. Blocks run one after the other.
//
// A thread that waits where others do not, or a shuffle that not all lanes reach, ends the process
// with a message: on a GPU it would hang, or read what was never written. Shared memory holds NaN
// when a block begins, if INPAINT_HOST_SHARED names a file that says where it lies.
//
// INPAINT_HOST_ERROR, "cudaGetDevice 35" for instance, is what that function returns from then on.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define CUDART_VERSION 13000

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorUnsupportedPtxVersion = 222,
  cudaErrorIllegalAddress = 700
};
using cudaStream_t = void*;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

namespace on_host {

constexpr size_t kStack = 128 * 1024;
constexpr int kWarpSize = 32, kMaxThreads = 1024;

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  dim3 index;
  bool done = false;
  enum { kNothing, kBlock, kWarp } waits_for = kNothing;
  void* fake_stack = nullptr;
};

// The block that runs, and the kernels seen so far.
struct Machine {
  dim3 grid, block, block_index, thread_index;
  std::vector<Fiber> fibers;
  int threads = 0, current = 0;
  ucontext_t scheduler;
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_stack_size = 0;
  const std::function<void()>* body = nullptr;
  const void* kernel = nullptr;
  // Two sets: a lane may be one shuffle ahead of the slowest of its warp, not two.
  uint64_t lanes[2][kMaxThreads];
  int turn[kMaxThreads];
};

Machine& machine();
void note_kernel(const void* kernel);
cudaError_t planned_error(const char* function);
void run_block();
void wait_for_block();
void wait_for_warp();

inline Fiber& fiber() { return machine().fibers[machine().current]; }

template <class T>
T exchange(unsigned mask, T value, int source_lane) {
  static_assert(sizeof(T) <= 8, "shuffles move up to eight bytes");
  Machine& m = machine();
  if (mask != 0xffffffffu) {
    std::fprintf(stderr, "shuffle: only full warps are implemented, got mask %x\n", mask);
    std::abort();
  }
  const int self = m.current, first = self / kWarpSize * kWarpSize;
  const int set = m.turn[self]++ & 1;
  m.lanes[set][self] = 0;
  std::memcpy(&m.lanes[set][self], &value, sizeof(T));
  wait_for_warp();
  const int lane = source_lane < 0 || source_lane >= kWarpSize ? self - first : source_lane;
  T out;
  std::memcpy(&out, &m.lanes[set][first + lane], sizeof(T));
  return out;
}

inline int lane() { return machine().current % kWarpSize; }

}  // namespace on_host

inline const dim3& threadIdx = on_host::machine().thread_index;
inline const dim3& blockIdx = on_host::machine().block_index;
inline const dim3& blockDim = on_host::machine().block;
inline const dim3& gridDim = on_host::machine().grid;

inline void __syncthreads() { on_host::wait_for_block(); }

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
  return on_host::exchange(mask, value, on_host::lane() ^ distance);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int distance) {
  return on_host::exchange(mask, value, on_host::lane() + distance);
}

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return on_host::planned_error("cudaGetDevice");
}
inline cudaError_t cudaSetDevice(int) { return on_host::planned_error("cudaSetDevice"); }
const char* cudaGetErrorString(cudaError_t error);

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...),
                               A&&... arguments) {
  const cudaError_t planned = on_host::planned_error("cudaLaunchKernelEx");
  if (planned != cudaSuccess) return planned;
  on_host::Machine& m = on_host::machine();
  const dim3 grid = config->gridDim, block = config->blockDim;
  const uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
  // The limits of every GPU since compute capability 3.0.
  if (threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
      grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535) {
    return cudaErrorInvalidConfiguration;
  }
  on_host::note_kernel(reinterpret_cast<const void*>(kernel));
  const std::function<void()> body = [&] { kernel(arguments...); };
  m.grid = grid;
  m.block = block;
  m.threads = static_cast<int>(threads);
  m.body = &body;
  m.kernel = reinterpret_cast<const void*>(kernel);
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        m.block_index = dim3(x, y, z);
        on_host::run_block();
      }
    }
  }
  return cudaSuccess;
}
