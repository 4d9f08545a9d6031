// Work is spread over torch's own thread pool, reached through the C function
// `torch_parallel_for` that the Python side hands in: no second OpenMP runtime, and
// `torch.set_num_threads` holds. Without it (unit tests of the core) everything runs inline.
//
// The pool decides how a range is cut, so a kernel whose result must not depend on the
// number of threads works in units of fixed size and merges them in order afterwards.
#pragma once

#include <cstdint>

namespace inpaint {

using ParallelBody = void (*)(int64_t begin, int64_t end, void* context);
using ParallelFor = int32_t (*)(int64_t begin, int64_t end, int64_t grain, ParallelBody body,
                                void* context);

// Fewer elements than this are not worth waking another thread for.
constexpr int64_t kParallelElements = 32768;

// Runs body(begin, end) over [0, units). `unit_work` is the number of elements that one unit
// touches. Bodies must not throw. Returns false if the pool reported an error.
template <class Body>
bool parallel_for(ParallelFor pool, int64_t units, int64_t unit_work, const Body& body) {
  if (units <= 0) return true;
  int64_t grain = kParallelElements / (unit_work < 1 ? 1 : unit_work);
  if (grain < 1) grain = 1;
  if (pool == nullptr || units <= grain) {
    body(int64_t{0}, units);
    return true;
  }
  ParallelBody trampoline = [](int64_t begin, int64_t end, void* context) {
    (*static_cast<const Body*>(context))(begin, end);
  };
  return pool(0, units, grain, trampoline, const_cast<Body*>(&body)) == 0;
}

}  // namespace inpaint
