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
  typedef int32_t Index;
  typedef int32_t Int __attribute__((vector_size(64)));
  typedef uint8_t Bytes __attribute__((vector_size(16)));
};

template <>
struct Lanes<double> {
  static constexpr int count = 8;
  typedef double Vec __attribute__((vector_size(64)));
  typedef int64_t Index;
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

// Which region a vector of labels lies in: 0, 1, or -1 for both. Holes are blobs, so a branch on
// whole vectors spares most of the selecting.
template <class T>
INPAINT_INLINE int region_of(const uint8_t* labels) {
  constexpr uint64_t kOnes = 0x0101010101010101ull;
  uint64_t words[Lanes<T>::count / 8];
  __builtin_memcpy(words, labels, sizeof(words));
  uint64_t any = words[0], all = words[0];
  for (int i = 1; i < Lanes<T>::count / 8; ++i) {
    any |= words[i];
    all &= words[i];
  }
  return any == 0 ? 0 : (all == kOnes ? 1 : -1);
}

// The halves of a vector, down to one lane: pairwise, so it adds little to the rounding.
INPAINT_INLINE double horizontal_sum_of(const Lanes<float>::Vec& v) {
  typedef float Half __attribute__((vector_size(32)));
  typedef float Quarter __attribute__((vector_size(16)));
  Half h[2];
  __builtin_memcpy(h, &v, sizeof(v));
  const Half half = h[0] + h[1];
  Quarter q[2];
  __builtin_memcpy(q, &half, sizeof(half));
  const Quarter quarter = q[0] + q[1];
  return static_cast<double>(quarter[0] + quarter[2]) +
         static_cast<double>(quarter[1] + quarter[3]);
}

INPAINT_INLINE double horizontal_sum_of(const Lanes<double>::Vec& v) {
  typedef double Half __attribute__((vector_size(32)));
  Half h[2];
  __builtin_memcpy(h, &v, sizeof(v));
  const Half half = h[0] + h[1];
  return (half[0] + half[2]) + (half[1] + half[3]);
}

template <class T>
INPAINT_INLINE double horizontal_sum(const Vec<T>& v) {
  return horizontal_sum_of(v);
}

// Fills `out` with as many copies of a plane of factors as fit; returns how many.
template <class T>
INPAINT_INLINE int64_t repeat_plane(const T* values, int64_t s, T out[kShortPlane]) {
  const int64_t times = kShortPlane / s;
  for (int64_t k = 0; k < times; ++k) {
    for (int64_t i = 0; i < s; ++i) out[k * s + i] = values[i];
  }
  return times;
}

INPAINT_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace INPAINT_SIMD
}  // namespace inpaint
