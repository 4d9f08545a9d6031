// The fibers behind cuda_runtime.h.
#include <dlfcn.h>

#include <map>
#include <set>
#include <string>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
extern "C" {
void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* saved, const void** bottom, size_t* size);
}
#else
static void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
static void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoKernelImageForDevice:
      return "no kernel image is available for execution on the device";
    case cudaErrorUnsupportedPtxVersion:
      return "the provided PTX was compiled with an unsupported toolchain.";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
  }
  return "unrecognized error code";
}

namespace on_host {

Machine& machine() {
  static Machine m;
  return m;
}

// Offsets of kernels within this library, one a line, into the file that INPAINT_HOST_KERNELS
// names.
void note_kernel(const void* kernel) {
  static std::set<const void*> seen;
  const char* path = std::getenv("INPAINT_HOST_KERNELS");
  if (path == nullptr || !seen.insert(kernel).second) return;
  Dl_info info;
  FILE* file = dladdr(kernel, &info) != 0 ? std::fopen(path, "a") : nullptr;
  if (file == nullptr) {
    std::fprintf(stderr, "INPAINT_HOST_KERNELS: cannot append to %s\n", path);
    std::abort();
  }
  std::fprintf(file, "%zx\n",
               static_cast<size_t>(static_cast<const char*>(kernel) -
                                   static_cast<const char*>(info.dli_fbase)));
  std::fclose(file);
}

cudaError_t planned_error(const char* function) {
  const char* plan = std::getenv("INPAINT_HOST_ERROR");
  if (plan == nullptr) return cudaSuccess;
  const std::string name = std::string(function) + " ";
  if (std::strncmp(plan, name.c_str(), name.size()) != 0) return cudaSuccess;
  return static_cast<cudaError_t>(std::atoi(plan + name.size()));
}

namespace {

struct Stretch {
  char* begin;
  size_t size;
};
using Shared = std::multimap<const void*, Stretch>;

// Shared memory by kernel. Lines of three hexadecimal numbers: offsets of the kernel and of its
// memory within this library, and the size.
Shared find_shared() {
  Shared found;
  const char* path = std::getenv("INPAINT_HOST_SHARED");
  if (path == nullptr) return found;
  Dl_info info;
  FILE* file =
      dladdr(reinterpret_cast<const void*>(&machine), &info) != 0 ? std::fopen(path, "r") : nullptr;
  if (file == nullptr) {
    std::fprintf(stderr, "INPAINT_HOST_SHARED: cannot read %s\n", path);
    std::abort();
  }
  char* const base = static_cast<char*>(info.dli_fbase);
  size_t kernel = 0, offset = 0, size = 0;
  while (std::fscanf(file, "%zx %zx %zx", &kernel, &offset, &size) == 3) {
    found.insert({base + kernel, {base + offset, size}});
  }
  std::fclose(file);
  return found;
}

// All bits set: NaN in any width.
void forget_shared(const void* kernel) {
  static const Shared shared = find_shared();
  const auto mine = shared.equal_range(kernel);
  for (auto it = mine.first; it != mine.second; ++it) {
    std::memset(it->second.begin, 0xff, it->second.size);
  }
}

void to_scheduler() {
  Machine& m = machine();
  Fiber& f = fiber();
  __sanitizer_start_switch_fiber(f.done ? nullptr : &f.fake_stack, m.scheduler_stack,
                                 m.scheduler_stack_size);
  if (f.done) {
    setcontext(&m.scheduler);
  } else {
    swapcontext(&f.context, &m.scheduler);
  }
  __sanitizer_finish_switch_fiber(f.fake_stack, nullptr, nullptr);
}

void begin() {
  Machine& m = machine();
  __sanitizer_finish_switch_fiber(nullptr, &m.scheduler_stack, &m.scheduler_stack_size);
  (*m.body)();
  fiber().done = true;
  to_scheduler();
}

void resume(int thread) {
  Machine& m = machine();
  Fiber& f = m.fibers[thread];
  m.current = thread;
  m.thread_index = f.index;
  f.waits_for = Fiber::kNothing;
  __sanitizer_start_switch_fiber(&m.scheduler_fake_stack, f.stack.data(), f.stack.size());
  swapcontext(&m.scheduler, &f.context);
  __sanitizer_finish_switch_fiber(m.scheduler_fake_stack, nullptr, nullptr);
}

[[noreturn]] void stuck(const char* what) {
  const Machine& m = machine();
  std::fprintf(stderr, "block (%u, %u, %u): %s\n", m.block_index.x, m.block_index.y,
               m.block_index.z, what);
  std::abort();
}

// Whether all live threads of [first, last) wait for the same; ends the process if one has left
// while others wait for it.
bool all_wait(int first, int last, int what, const char* message) {
  const Machine& m = machine();
  bool some = false, all = true, left = false;
  for (int t = first; t < last; ++t) {
    left = left || m.fibers[t].done;
    some = some || (!m.fibers[t].done && m.fibers[t].waits_for == what);
    all = all && !m.fibers[t].done && m.fibers[t].waits_for == what;
  }
  if (some && left) stuck(message);
  return all;
}

}  // namespace

void wait_for_block() {
  fiber().waits_for = Fiber::kBlock;
  to_scheduler();
}

void wait_for_warp() {
  fiber().waits_for = Fiber::kWarp;
  to_scheduler();
}

void run_block() {
  Machine& m = machine();
  const char* order = std::getenv("INPAINT_HOST_ORDER");
  const bool reverse = order != nullptr && std::strcmp(order, "reverse") == 0;
  forget_shared(m.kernel);
  if (static_cast<int>(m.fibers.size()) < m.threads) m.fibers.resize(m.threads);
  for (int t = 0; t < m.threads; ++t) {
    Fiber& f = m.fibers[t];
    f.stack.resize(kStack);
    f.done = false;
    f.waits_for = Fiber::kNothing;
    f.fake_stack = nullptr;
    const unsigned id = static_cast<unsigned>(t);
    f.index = dim3(id % m.block.x, id / m.block.x % m.block.y, id / m.block.x / m.block.y);
    m.turn[t] = 0;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = f.stack.size();
    f.context.uc_link = nullptr;
    makecontext(&f.context, begin, 0);
  }
  for (int live = m.threads; live > 0;) {
    bool moved = false;
    live = 0;
    for (int i = 0; i < m.threads; ++i) {
      const int t = reverse ? m.threads - 1 - i : i;
      Fiber& f = m.fibers[t];
      if (!f.done && f.waits_for == Fiber::kNothing) {
        resume(t);
        moved = true;
      }
      if (!f.done) ++live;
    }
    if (live == 0) break;
    for (int first = 0; first < m.threads; first += kWarpSize) {
      const int last = first + kWarpSize < m.threads ? first + kWarpSize : m.threads;
      if (all_wait(first, last, Fiber::kWarp, "a lane left before a shuffle of its warp")) {
        for (int t = first; t < last; ++t) m.fibers[t].waits_for = Fiber::kNothing;
        moved = true;
      }
    }
    if (all_wait(0, m.threads, Fiber::kBlock,
                 "a thread left before a __syncthreads of its block")) {
      for (int t = 0; t < m.threads; ++t) m.fibers[t].waits_for = Fiber::kNothing;
      moved = true;
    }
    if (!moved) stuck("threads wait for each other in different places");
  }
}

}  // namespace on_host
