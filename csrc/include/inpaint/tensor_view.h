// A tensor as the core sees it: a pointer, a type, sizes and strides in elements. No torch here.
#pragma once

#include <cstdint>
#include <string>

namespace inpaint {

enum class DType : int32_t {
  kBool = 0,
  kInt32 = 1,
  kFloat32 = 2,
  kFloat64 = 3,
  kBFloat16 = 4,
  kFloat16 = 5
};

// What kernels compute in, and keep counts, ratios and statistics in.
constexpr DType compute_dtype(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

constexpr int kMaxDims = 5;  // batch, channels and up to three spatial axes
constexpr int kMaxSpatial = 3;

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  int32_t ndim = 0;
  int64_t size[kMaxDims] = {0, 0, 0, 0, 0};
  int64_t stride[kMaxDims] = {0, 0, 0, 0, 0};

  bool defined() const { return ndim > 0; }
  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < ndim; ++i) n *= size[i];
    return n;
  }
};

const char* dtype_name(DType dtype);
int64_t dtype_size(DType dtype);
std::string shape_text(const TensorView& t);

}  // namespace inpaint
