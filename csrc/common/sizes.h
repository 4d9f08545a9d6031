// Arithmetic on sizes that come from outside: it says where 64 bits are not enough. Host only.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace inpaint {

// The bytes of a tensor, and each number of a window, are at most this: more than any machine
// addresses. Offsets, and workspaces of some dozens of bytes for each element, then fit into 64
// bits.
constexpr int64_t kMaxSize = int64_t{1} << 56;

// Multiplies numbers that are not negative; false if their product is beyond 64 bits.
inline bool product(std::initializer_list<int64_t> factors, int64_t* out) {
  *out = 1;
  for (int64_t factor : factors) {
    if (__builtin_mul_overflow(*out, factor, out)) return false;
  }
  return true;
}

// What a window makes of one axis.
struct WindowAxis {
  int64_t span = 0;    // of the window's first to last tap
  int64_t padded = 0;  // size with the padding on both sides
  int64_t places = 0;  // where the window fits: the size of the output
};

// No number is negative or larger than kMaxSize; false if the span is beyond 64 bits all the same.
inline bool window_axis(int64_t size, int64_t kernel, int64_t stride, int64_t padding,
                        int64_t dilation, WindowAxis* out) {
  if (!product({dilation, kernel - 1}, &out->span) || out->span == INT64_MAX) return false;
  out->span += 1;
  out->padded = size + 2 * padding;
  out->places = out->padded < out->span ? 0 : (out->padded - out->span) / stride + 1;
  return true;
}

}  // namespace inpaint
