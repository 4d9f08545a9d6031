// Single elements of any floating type, as float64: for what happens once a channel, not once a
// pixel.
#pragma once

#include "../common/half.h"
#include "inpaint/tensor_view.h"

namespace inpaint {

struct Values {
  const void* data;
  DType dtype;
  double operator[](int64_t i) const {
    switch (dtype) {
      case DType::kFloat64: return static_cast<const double*>(data)[i];
      case DType::kBFloat16: return static_cast<const BFloat16*>(data)[i];
      case DType::kFloat16: return static_cast<const Float16*>(data)[i];
      case DType::kBool: return static_cast<const uint8_t*>(data)[i] != 0;
      default: return static_cast<const float*>(data)[i];
    }
  }
};

inline void set_value(void* data, DType dtype, int64_t i, double value) {
  const float narrow = static_cast<float>(value);
  switch (dtype) {
    case DType::kFloat64: static_cast<double*>(data)[i] = value; break;
    case DType::kBFloat16: static_cast<BFloat16*>(data)[i] = narrow; break;
    case DType::kFloat16: static_cast<Float16*>(data)[i] = narrow; break;
    default: static_cast<float*>(data)[i] = narrow;
  }
}

inline void set_value(const TensorView& t, int64_t i, double value) {
  set_value(t.data, t.dtype, i, value);
}

// Calls body(pointer) with a mask's elements in their own type.
template <class Body>
auto with_mask(const void* mask, DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat64: return body(static_cast<const double*>(mask));
    case DType::kFloat32: return body(static_cast<const float*>(mask));
    case DType::kBFloat16: return body(static_cast<const BFloat16*>(mask));
    case DType::kFloat16: return body(static_cast<const Float16*>(mask));
    default: return body(static_cast<const uint8_t*>(mask));
  }
}

}  // namespace inpaint
