// Lanes for reductions. Sixty-four bytes on every instruction set, so that the order of additions,
// and with it the last bit, is the same whether a vector is one AVX-512 register, two of AVX2 or
// four of the baseline.
#pragma once

#include <cstdint>

#include "../common/half.h"
#include "../common/window.h"
#include "kernels.h"

#ifndef INPAINT_SIMD
#error "compile through CMake: INPAINT_SIMD names the instruction set"
#endif

#define INPAINT_INLINE inline __attribute__((always_inline))
#define INPAINT_IVDEP _Pragma("GCC ivdep")

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace inpaint {
namespace INPAINT_SIMD {

// What elements of type S are computed in; kernels are templates over S, and call it T.
template <class S>
struct ComputeType {
  using type = S;
};
template <>
struct ComputeType<BFloat16> {
  using type = float;
};
template <>
struct ComputeType<Float16> {
  using type = float;
};
template <class S>
using Compute = typename ComputeType<S>::type;

// Calls body(zero) with a zero of the element type.
template <class Body>
INPAINT_INLINE bool for_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat64: return body(double{});
    case DType::kBFloat16: return body(BFloat16{});
    case DType::kFloat16: return body(Float16{});
    default: return body(float{});
  }
}

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

// Half precision: sixteen elements as one vector of float32, converted as half.h does.
typedef uint16_t Halves __attribute__((vector_size(32)));
typedef uint32_t Words __attribute__((vector_size(64)));

#if defined(__AVX512F__)
// One instruction each, where the compiler makes several of a conversion of vectors; the unmasked
// forms read an undefined vector in GCC 12.
constexpr __mmask16 kEveryLane = 0xffff;

INPAINT_INLINE Words load_halves(const void* p) {
  const __m256i halves = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  return reinterpret_cast<Words>(_mm512_maskz_cvtepu16_epi32(kEveryLane, halves));
}

INPAINT_INLINE void store_halves(void* p, Words words) {
  _mm256_storeu_si256(static_cast<__m256i*>(p),
                      _mm512_maskz_cvtepi32_epi16(kEveryLane, reinterpret_cast<__m512i>(words)));
}
#else
INPAINT_INLINE Words load_halves(const void* p) {
  Halves halves;
  __builtin_memcpy(&halves, p, sizeof(halves));
  return __builtin_convertvector(halves, Words);
}

INPAINT_INLINE void store_halves(void* p, Words words) {
  const Halves halves = __builtin_convertvector(words, Halves);
  __builtin_memcpy(p, &halves, sizeof(halves));
}
#endif

INPAINT_INLINE Vec<float> load(const BFloat16* p) {
  return reinterpret_cast<Vec<float>>(load_halves(p) << 16);
}

INPAINT_INLINE void store(BFloat16* p, Vec<float> v) {
  const Words u = reinterpret_cast<Words>(v);
  const Words rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  store_halves(p, (u & 0x7fffffffu) > kFloatInf ? (u >> 16) | 0x40u : rounded);
}

#if defined(__AVX512F__)
INPAINT_INLINE Vec<float> load(const Float16* p) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return reinterpret_cast<Vec<float>>(_mm512_maskz_cvtph_ps(kEveryLane, halves));
}

INPAINT_INLINE void store(Float16* p, Vec<float> v) {
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(p),
      _mm512_maskz_cvtps_ph(kEveryLane, reinterpret_cast<__m512>(v), _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__)
INPAINT_INLINE Vec<float> load(const Float16* p) {
  __m256 parts[2];
  for (int i = 0; i < 2; ++i) {
    parts[i] = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + i));
  }
  Vec<float> v;
  __builtin_memcpy(&v, parts, sizeof(v));
  return v;
}

INPAINT_INLINE void store(Float16* p, Vec<float> v) {
  __m256 parts[2];
  __builtin_memcpy(parts, &v, sizeof(v));
  for (int i = 0; i < 2; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p) + i,
                     _mm256_cvtps_ph(parts[i], _MM_FROUND_TO_NEAREST_INT));
  }
}
#else
INPAINT_INLINE Vec<float> load(const Float16* p) {
  float out[Lanes<float>::count];
  for (int i = 0; i < Lanes<float>::count; ++i) out[i] = p[i];
  return load(out);
}

INPAINT_INLINE void store(Float16* p, Vec<float> v) {
  for (int i = 0; i < Lanes<float>::count; ++i) p[i] = v[i];
}
#endif

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

// A factor of a unit's work for parallel_for, which asks no more than whether it is a lot.
INPAINT_INLINE int64_t capped(int64_t size) { return min_of(size, kParallelElements); }

}  // namespace INPAINT_SIMD
}  // namespace inpaint
