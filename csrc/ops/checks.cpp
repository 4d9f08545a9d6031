#include "checks.h"

namespace inpaint {

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kBool: return "bool";
    case DType::kInt32: return "int32";
    case DType::kFloat32: return "float32";
    case DType::kFloat64: return "float64";
    case DType::kBFloat16: return "bfloat16";
    case DType::kFloat16: return "float16";
  }
  return "unknown";
}

int64_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::kBool: return 1;
    case DType::kInt32: return 4;
    case DType::kFloat32: return 4;
    case DType::kFloat64: return 8;
    case DType::kBFloat16: return 2;
    case DType::kFloat16: return 2;
  }
  return 0;
}

std::string shape_text(const TensorView& t) {
  std::ostringstream out;
  out << '(';
  for (int i = 0; i < t.ndim; ++i) out << (i ? ", " : "") << t.size[i];
  out << ')';
  return out.str();
}

namespace {

bool is_order(const TensorView& t, const int* axes) {  // axes from outermost to innermost
  int64_t expected = 1;
  for (int i = t.ndim - 1; i >= 0; --i) {
    const int axis = axes[i];
    if (t.size[axis] != 1 && t.stride[axis] != expected) return false;
    expected *= t.size[axis];
  }
  return true;
}

bool is_contiguous(const TensorView& t) {
  const int axes[kMaxDims] = {0, 1, 2, 3, 4};
  return is_order(t, axes);
}

bool is_channels_last(const TensorView& t) {
  int axes[kMaxDims] = {0};
  for (int i = 2; i < t.ndim; ++i) axes[i - 1] = i;
  axes[t.ndim - 1] = 1;
  return is_order(t, axes);
}

}  // namespace

Status check_floating(const char* name, const TensorView& t) {
  INPAINT_CHECK(t.defined(), name, ": missing");
  const bool floating = t.dtype == DType::kFloat32 || t.dtype == DType::kFloat64 ||
                        t.dtype == DType::kBFloat16 || t.dtype == DType::kFloat16;
  INPAINT_CHECK(floating, name, ": expected float32, float64, bfloat16 or float16, got ",
                dtype_name(t.dtype));
  return {};
}

Status check_extent(const char* name, const TensorView& t) {
  int64_t bytes = dtype_size(t.dtype), reach = bytes;
  bool fits = true;
  for (int i = 0; i < t.ndim; ++i) {
    INPAINT_CHECK(t.size[i] >= 0, name, " of shape ", shape_text(t), ": a negative size");
    if (t.size[i] <= 1) continue;
    INPAINT_CHECK(t.stride[i] >= 0, name, " of shape ", shape_text(t), ": a negative stride");
    int64_t step = 0;
    fits = fits && product({bytes, t.size[i]}, &bytes) &&
           product({t.size[i] - 1, t.stride[i], dtype_size(t.dtype)}, &step) && bytes <= kMaxSize &&
           step <= kMaxSize;
    reach += fits ? step : 0;
  }
  INPAINT_CHECK(fits && reach <= kMaxSize, name, " of shape ", shape_text(t),
                ": its memory would span more than 2^56 bytes");
  return {};
}

Status check_float(const char* name, const TensorView& t) {
  INPAINT_CHECK(t.defined(), name, ": missing");
  INPAINT_CHECK(t.dtype == DType::kFloat32 || t.dtype == DType::kFloat64, name,
                ": expected float32 or float64, got ", dtype_name(t.dtype));
  return {};
}

Status check_dtype(const char* name, const TensorView& t, DType dtype) {
  INPAINT_CHECK(t.defined(), name, ": missing");
  INPAINT_CHECK(t.dtype == dtype, name, ": expected ", dtype_name(dtype), ", got ",
                dtype_name(t.dtype));
  return {};
}

Status check_shape(const char* name, const TensorView& t, std::initializer_list<int64_t> shape) {
  bool same = t.ndim == static_cast<int>(shape.size());
  int i = 0;
  std::ostringstream text;
  for (int64_t size : shape) {
    text << (i ? ", " : "") << size;
    same = same && t.size[i] == size;
    ++i;
  }
  INPAINT_CHECK(same, name, ": expected shape (", text.str(), "), got ", shape_text(t));
  INPAINT_TRY(check_extent(name, t));
  INPAINT_CHECK(t.numel() == 0 || is_contiguous(t), name, ": expected a contiguous tensor");
  return {};
}

Status check_dense(const char* name, const TensorView& t, Dense* dense) {
  INPAINT_TRY(check_floating(name, t));
  INPAINT_CHECK(t.ndim >= 3 && t.ndim <= kMaxDims, name,
                ": expected (N, C, ...) with one to three spatial axes, got ", shape_text(t));
  INPAINT_TRY(check_extent(name, t));
  const bool contiguous = is_contiguous(t);
  const bool channels_last = is_channels_last(t);
  INPAINT_CHECK(t.numel() == 0 || contiguous || channels_last, name, " of shape ", shape_text(t),
                ": expected contiguous or channels-last memory");
  dense->n = t.size[0];
  dense->c = t.size[1];
  dense->s = 1;
  for (int i = 2; i < t.ndim; ++i) dense->s *= t.size[i];
  dense->either = contiguous && channels_last;
  dense->channels_last = channels_last && !contiguous;
  return {};
}

Status check_like(const char* name, const TensorView& t, const char* like_name,
                  const TensorView& like) {
  INPAINT_TRY(check_dtype(name, t, like.dtype));
  bool same = t.ndim == like.ndim;
  for (int i = 0; same && i < t.ndim; ++i) same = t.size[i] == like.size[i];
  INPAINT_CHECK(same, name, ": expected the shape of ", like_name, ", ", shape_text(like), ", got ",
                shape_text(t));
  Dense a, b;
  INPAINT_TRY(check_dense(name, t, &a));
  INPAINT_TRY(check_dense(like_name, like, &b));
  INPAINT_CHECK(t.numel() == 0 || a.channels_last == b.channels_last, name,
                ": expected the memory order of ", like_name);
  return {};
}

Status check_planes(const char* name, const TensorView& t, const TensorView& like, int64_t planes,
                    int64_t* n_stride) {
  INPAINT_CHECK(t.defined(), name, ": missing");
  INPAINT_TRY(check_extent(name, t));
  bool fits =
      t.ndim == like.ndim && (t.size[0] == like.size[0] || t.size[0] == 1) && t.size[1] == planes;
  int64_t s = 1;
  for (int i = 2; fits && i < t.ndim; ++i) {
    fits = t.size[i] == like.size[i];
    s *= t.size[i];
  }
  INPAINT_CHECK(fits, name, ": expected ", planes, " plane(s) of the size of ", shape_text(like),
                ", got ", shape_text(t));
  INPAINT_CHECK(t.numel() == 0 || is_contiguous(t), name, ": expected a contiguous tensor");
  *n_stride = t.size[0] == 1 ? 0 : planes * s;
  return {};
}

Status check_channels(const Channels& channels, int64_t groups) {
  INPAINT_CHECK(channels.groups == groups, "channels: expected ", groups,
                " counts, one for each mask plane, got ", channels.groups);
  int64_t total = 0;
  for (int64_t g = 0; g < groups; ++g) {
    INPAINT_CHECK(channels.counts[g] > 0, "channels: expected positive counts, got ",
                  channels.counts[g]);
    INPAINT_CHECK(!__builtin_add_overflow(total, channels.counts[g], &total),
                  "channels: the sum of the counts is beyond 64 bits");
  }
  return {};
}

Status check_window(const Window& window, const TensorView& mask, int64_t out[kMaxSpatial]) {
  INPAINT_CHECK(mask.ndim >= 3 && mask.ndim <= kMaxDims, "mask: expected (N, G, ...), got ",
                shape_text(mask));
  INPAINT_CHECK(window.spatial == mask.ndim - 2, "kernel_size: expected ", mask.ndim - 2,
                " numbers, got ", window.spatial);
  for (int i = 0; i < window.spatial; ++i) {
    INPAINT_CHECK(window.kernel[i] > 0 && window.stride[i] > 0 && window.dilation[i] > 0 &&
                      window.padding[i] >= 0,
                  "kernel_size, stride and dilation must be positive and padding not negative");
    INPAINT_CHECK(window.kernel[i] <= kMaxSize && window.stride[i] <= kMaxSize &&
                      window.dilation[i] <= kMaxSize && window.padding[i] <= kMaxSize,
                  "kernel_size, stride, dilation and padding must be at most 2^56");
    WindowAxis axis;
    INPAINT_CHECK(window_axis(mask.size[2 + i], window.kernel[i], window.stride[i],
                              window.padding[i], window.dilation[i], &axis),
                  "kernel_size: window of ", window.kernel[i], " with dilation ",
                  window.dilation[i], " spans more than 64 bits can hold");
    INPAINT_CHECK(axis.places > 0, "kernel_size: window of ", axis.span,
                  " larger than the padded mask (", axis.padded, ")");
    out[i] = axis.places;
  }
  return {};
}

}  // namespace inpaint
