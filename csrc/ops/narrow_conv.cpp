#include <new>

#include "../cpu/kernels.h"
#include "checks.h"

namespace inpaint {

namespace {

constexpr int64_t kMaxOutputs = 4;    // what the kernels are instantiated for
constexpr int64_t kVectorBytes = 64;  // of the kernels' vectors, on every instruction set

// The weights (outputs, in, kh, kw) in the order in which the kernels read them.
template <class T>
void pack(const TensorView& weight, const NarrowConvArgs& a, T* out) {
  const T* source = static_cast<const T*>(weight.data);
  const int64_t lanes = kVectorBytes / static_cast<int64_t>(sizeof(T)),
                whole = a.in / lanes * lanes;
  for (int64_t q = 0; q < a.outputs; ++q) {
    for (int64_t c = 0; c < a.in; ++c) {
      for (int64_t t = 0; t < a.kh * a.kw; ++t) {
        const T value = source[q * weight.stride[0] + c * weight.stride[1] +
                               t / a.kw * weight.stride[2] + t % a.kw * weight.stride[3]];
        if (!a.channels_last) {
          out[(c * a.kh * a.kw + t) * a.outputs + q] = value;
          continue;
        }
        // The last vector of channels ends with the last channel: its first lanes are spare.
        const int64_t at = c < whole ? c : a.padded_in - (a.in - c);
        out[(t * a.outputs + q) * a.padded_in + at] = value;
      }
    }
  }
}

}  // namespace

Status narrow_conv(ParallelFor pool, const TensorView& x, const TensorView& weight,
                   const int64_t padding[2], const int64_t dilation[2], const TensorView& out) {
  Dense dense, result;
  INPAINT_TRY(check_dense("x", x, &dense));
  INPAINT_TRY(check_float("x", x));
  INPAINT_TRY(check_dtype("weight", weight, x.dtype));
  INPAINT_CHECK(x.ndim == 4, "x: expected (N, C, H, W), got ", shape_text(x));
  INPAINT_CHECK(weight.ndim == 4 && weight.size[1] == x.size[1] && weight.size[0] >= 1 &&
                    weight.size[0] <= kMaxOutputs && weight.size[2] >= 1 && weight.size[3] >= 1,
                "weight: expected (1 to ", kMaxOutputs, ", ", x.size[1], ", kh, kw), got ",
                shape_text(weight));
  INPAINT_TRY(check_extent("weight", weight));
  NarrowConvArgs a{};
  const int64_t lanes = kVectorBytes / dtype_size(x.dtype);
  INPAINT_CHECK(x.size[1] >= lanes, "x: expected at least ", lanes, " channels, got ",
                shape_text(x));
  a.pool = pool;
  a.dtype = x.dtype;
  a.channels_last = dense.channels_last;
  a.n = x.size[0];
  a.in = x.size[1];
  a.h = x.size[2];
  a.w = x.size[3];
  a.outputs = weight.size[0];
  a.kh = weight.size[2];
  a.kw = weight.size[3];
  const int64_t kernel[2] = {a.kh, a.kw};
  int64_t sizes[2];
  for (int i = 0; i < 2; ++i) {
    INPAINT_CHECK(padding[i] >= 0 && padding[i] <= kMaxSize,
                  "padding: expected not negative and at most 2^56, got ", padding[i]);
    INPAINT_CHECK(dilation[i] >= 1 && dilation[i] <= kMaxSize,
                  "dilation: expected positive and at most 2^56, got ", dilation[i]);
    a.padding[i] = padding[i];
    a.dilation[i] = dilation[i];
    WindowAxis axis;
    INPAINT_CHECK(window_axis(x.size[2 + i], kernel[i], 1, padding[i], dilation[i], &axis) &&
                      axis.span <= kNarrowSpan + 1,
                  "weight: a window wider than ", kNarrowSpan + 1, ", ", shape_text(weight),
                  " with dilation ", dilation[i]);
    INPAINT_CHECK(axis.places >= 1, "weight: a window larger than the padded x, ", shape_text(x));
    sizes[i] = axis.places;
  }
  a.oh = sizes[0];
  a.ow = sizes[1];
  INPAINT_TRY(check_dense("out", out, &result));
  INPAINT_TRY(check_dtype("out", out, x.dtype));
  INPAINT_CHECK(out.ndim == 4 && out.size[0] == a.n && out.size[1] == a.outputs &&
                    out.size[2] == a.oh && out.size[3] == a.ow,
                "out: expected shape (", a.n, ", ", a.outputs, ", ", a.oh, ", ", a.ow, "), got ",
                shape_text(out));
  INPAINT_CHECK(result.either || result.channels_last == dense.channels_last,
                "out: expected the memory order of x");
  if (out.numel() == 0) return {};
  a.padded_in = (a.in + lanes - 1) / lanes * lanes;
  const int64_t count = a.kh * a.kw * a.outputs * a.padded_in;
  std::unique_ptr<char[]> packed(new (std::nothrow) char[count * dtype_size(x.dtype)]());
  INPAINT_CHECK(packed != nullptr, "narrow_conv: out of memory");
  if (x.dtype == DType::kFloat64) {
    pack(weight, a, reinterpret_cast<double*>(packed.get()));
  } else {
    pack(weight, a, reinterpret_cast<float*>(packed.get()));
  }
  a.x = x.data;
  a.weight = packed.get();
  a.out = out.data;
  return pool_status(cpu_kernels().narrow_conv(a));
}

}  // namespace inpaint
