// Lanes for reductions. Sixty-four bytes on every instruction set, so that the order of additions,
// and with it the last bit, is the same whether a vector is one AVX-512 register, two of AVX2 or
// four of the baseline.
#pragma once

#include <cstdint>

#include "../common/window.h"
#include "kernels.h"

#ifndef INPAINT_SIMD
#error "compile through CMake: INPAINT_SIMD names the instruction set"
#endif

#define INPAINT_INLINE inline __attribute__((always_inline))
#define INPAINT_IVDEP _Pragma("GCC ivdep")

namespace inpaint {
namespace INPAINT_SIMD {

template <class T>
struct Lanes;

template <>
struct Lanes<float> {
  static constexpr int count = 16;
  typedef float Vec __attribute__((vector_size(64)));
  typedef int32_t Int __attribute__((vector_size(64)));
  typedef uint8_t Bytes __attribute__((vector_size(16)));
};

template <>
struct Lanes<double> {
  static constexpr int count = 8;
  typedef double Vec __attribute__((vector_size(64)));
  typedef int64_t Int __attribute__((vector_size(64)));
  typedef uint8_t Bytes __attribute__((vector_size(8)));
};

template <class T>
using Vec = typename Lanes<T>::Vec;

template <class T>
INPAINT_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <class T>
INPAINT_INLINE void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

template <class T>
INPAINT_INLINE Vec<T> splat(T value) {
  return Vec<T>{} + value;
}

// All bits set in the lanes whose label is not zero.
template <class T>
INPAINT_INLINE typename Lanes<T>::Int load_labels(const uint8_t* p) {
  typename Lanes<T>::Bytes bytes;
  __builtin_memcpy(&bytes, p, sizeof(bytes));
  return __builtin_convertvector(bytes, typename Lanes<T>::Int) != 0;
}

// Pairwise, and in float64 from the first addition on.
template <class T>
INPAINT_INLINE double horizontal_sum(Vec<T> v) {
  double lanes[Lanes<T>::count];
  for (int i = 0; i < Lanes<T>::count; ++i) lanes[i] = static_cast<double>(v[i]);
  for (int width = Lanes<T>::count / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

INPAINT_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace INPAINT_SIMD
}  // namespace inpaint
