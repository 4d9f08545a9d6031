// Chooses the instruction set: the best that was built and that this processor has, unless
// select_cpu_level asks for another.
#include <cstring>

#include "kernels.h"

namespace inpaint {

#define INPAINT_DECLARE(level)    \
  namespace level {               \
  extern const CpuKernels kTable; \
  }
INPAINT_DECLARE(baseline)
#if defined(INPAINT_WITH_X86)
INPAINT_DECLARE(avx2)
INPAINT_DECLARE(avx512)
#endif

namespace {

struct Levels {
  const char* names[3];
  const CpuKernels* tables[3];
  int count = 0;
  void add(const CpuKernels& table) {
    names[count] = table.name;
    tables[count++] = &table;
  }
};

const Levels& levels() {
  static const Levels found = [] {
    Levels out;
#if defined(INPAINT_WITH_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      out.add(avx512::kTable);
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) out.add(avx2::kTable);
#endif
    out.add(baseline::kTable);
    return out;
  }();
  return found;
}

const CpuKernels*& chosen() {
  static const CpuKernels* table = levels().tables[0];
  return table;
}

}  // namespace

const CpuKernels& cpu_kernels() { return *chosen(); }

const char* const* cpu_levels(int* count) {
  *count = levels().count;
  return levels().names;
}

bool select_cpu_level(const char* name) {
  for (int i = 0; i < levels().count; ++i) {
    if (std::strcmp(name, levels().names[i]) == 0) {
      chosen() = levels().tables[i];
      return true;
    }
  }
  return false;
}

}  // namespace inpaint
