// bfloat16 and float16 as they lie in memory. Kernels compute in float32: a value is widened when
// it is read and rounded to nearest even when it is written. Selects instead of branches, so that
// loops over them vectorize; no step passes through a subnormal float, which a thread may flush to
// zero.
#pragma once

#include <cstdint>

#include "portable.h"

namespace inpaint {

INPAINT_HOST_DEVICE uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

INPAINT_HOST_DEVICE float float_of(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

constexpr uint32_t kFloatInf = 0x7f800000u;

struct BFloat16 {
  uint16_t bits;

  BFloat16() = default;
  INPAINT_HOST_DEVICE BFloat16(float value) {  // NOLINT: converts like any number
    const uint32_t u = bits_of(value);
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const uint32_t quiet = (u >> 16) | 0x40u;
    bits = static_cast<uint16_t>((u & 0x7fffffffu) > kFloatInf ? quiet : rounded);
  }
  INPAINT_HOST_DEVICE operator float() const {
    return float_of(static_cast<uint32_t>(bits) << 16);
  }  // NOLINT
};

struct Float16 {
  uint16_t bits;

  Float16() = default;
#if defined(__CUDA_ARCH__)
  // A GPU has an instruction for each direction; the arithmetic below says what they do.
  __device__ __forceinline__ Float16(float value) {  // NOLINT
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  }
  __device__ __forceinline__ operator float() const {  // NOLINT
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
  }
#else
  INPAINT_HOST_DEVICE Float16(float value) {  // NOLINT
    constexpr uint32_t kOverflow = (127u + 16u) << 23, kSubnormal = 113u << 23;
    constexpr uint32_t kAlign = (127u - 15u + 23u - 10u + 1u) << 23;
    const uint32_t all = bits_of(value), sign = (all >> 16) & 0x8000u, u = all & 0x7fffffffu;
    const uint32_t normal = (u + 0xfffu + ((u >> 13) & 1u) - (112u << 23)) >> 13;
    // Added to a number whose last bit weighs what float16's last subnormal bit does.
    const uint32_t subnormal = bits_of(float_of(u) + float_of(kAlign)) - kAlign;
    const uint32_t special = u > kFloatInf ? (0x7e00u | ((u >> 13) & 0x3ffu)) : 0x7c00u;
    const uint32_t finite = u < kSubnormal ? subnormal : normal;
    bits = static_cast<uint16_t>(sign | (u >= kOverflow ? special : finite));
  }
  INPAINT_HOST_DEVICE operator float() const {  // NOLINT
    constexpr uint32_t kSubnormal = 113u << 23;
    const uint32_t wide = static_cast<uint32_t>(bits) << 13, sign = (wide << 3) & 0x80000000u;
    const uint32_t u = wide & 0x0fffe000u, exponent = u & 0x0f800000u;
    const uint32_t normal = u + (112u << 23);
    const uint32_t subnormal = bits_of(float_of(u + kSubnormal) - float_of(kSubnormal));
    const uint32_t quiet = u > 0x0f800000u ? 0x00400000u : 0u;
    const uint32_t special = (u + (224u << 23)) | quiet;
    const uint32_t magnitude =
        exponent == 0x0f800000u ? special : (exponent == 0 ? subnormal : normal);
    return float_of(sign | magnitude);
  }
#endif
};

// Whether a mask's value is 0 or 1, without widening it.
template <class M>
INPAINT_HOST_DEVICE bool is_zero(M value) {
  return value == M(0);
}
template <class M>
INPAINT_HOST_DEVICE bool is_one(M value) {
  return value == M(1);
}
template <>
INPAINT_HOST_DEVICE bool is_zero(BFloat16 value) {
  return (value.bits & 0x7fffu) == 0;
}
template <>
INPAINT_HOST_DEVICE bool is_one(BFloat16 value) {
  return value.bits == 0x3f80u;
}
template <>
INPAINT_HOST_DEVICE bool is_zero(Float16 value) {
  return (value.bits & 0x7fffu) == 0;
}
template <>
INPAINT_HOST_DEVICE bool is_one(Float16 value) {
  return value.bits == 0x3c00u;
}

}  // namespace inpaint
