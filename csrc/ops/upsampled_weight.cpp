// The weights of a 3x3 convolution of an enlarged map beside a skip, cut in two: those of the skip,
// and those of the map as the 4x4 windows of the transposed convolution that takes it small.
//
// Window cell (kh, kw) adds to the cells (2 - kh + da, 2 - kw + db), da and db 0 or 1.
#include "checks.h"

namespace inpaint {

namespace {

constexpr int64_t kTile = 16;  // output channels and input channels transposed together

struct Strides {
  int64_t out, in, h, w;
};

// Strides of `t` by what its axes mean; the transposed convolution has its inputs first.
Strides strides_of(const TensorView& t, bool inputs_first) {
  return {t.stride[inputs_first ? 1 : 0], t.stride[inputs_first ? 0 : 1], t.stride[2], t.stride[3]};
}

int64_t less(int64_t a, int64_t b) { return a < b ? a : b; }

// Calls body(o0, o1, i0, i1) for tiles of output and input channels.
template <class Body>
bool for_tiles(ParallelFor pool, int64_t outputs, int64_t inputs, const Body& body) {
  const int64_t columns = (inputs + kTile - 1) / kTile;
  const int64_t tiles = (outputs + kTile - 1) / kTile * columns;
  return parallel_for(pool, tiles, kTile * kTile * 16, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t o0 = t / columns * kTile, i0 = t % columns * kTile;
      body(o0, less(o0 + kTile, outputs), i0, less(i0 + kTile, inputs));
    }
  });
}

template <class T>
void spread_tile(const T* weight, const Strides& w, T* out, const Strides& k, int64_t o0,
                 int64_t o1, int64_t i0, int64_t i1) {
  T tile[16][kTile][kTile] = {};  // window cell, input, output
  for (int64_t kh = 0; kh < 3; ++kh) {
    for (int64_t kw = 0; kw < 3; ++kw) {
      for (int64_t o = o0; o < o1; ++o) {
        const T* row = weight + o * w.out + kh * w.h + kw * w.w;
        for (int64_t i = i0; i < i1; ++i) {
          const T value = row[i * w.in];
          for (int64_t d = 0; d < 4; ++d) {
            tile[(2 - kh + d / 2) * 4 + 2 - kw + d % 2][i - i0][o - o0] += value;
          }
        }
      }
    }
  }
  for (int64_t i = i0; i < i1; ++i) {
    for (int64_t cell = 0; cell < 16; ++cell) {
      T* row = out + i * k.in + cell / 4 * k.h + cell % 4 * k.w;
      for (int64_t o = o0; o < o1; ++o) row[o * k.out] = tile[cell][i - i0][o - o0];
    }
  }
}

template <class T>
void gather_tile(const T* windows, const Strides& k, T* grad, const Strides& w, int64_t o0,
                 int64_t o1, int64_t i0, int64_t i1) {
  T tile[16][kTile][kTile];
  for (int64_t i = i0; i < i1; ++i) {
    for (int64_t cell = 0; cell < 16; ++cell) {
      const T* row = windows + i * k.in + cell / 4 * k.h + cell % 4 * k.w;
      for (int64_t o = o0; o < o1; ++o) tile[cell][i - i0][o - o0] = row[o * k.out];
    }
  }
  for (int64_t o = o0; o < o1; ++o) {
    for (int64_t kh = 0; kh < 3; ++kh) {
      for (int64_t kw = 0; kw < 3; ++kw) {
        T* row = grad + o * w.out + kh * w.h + kw * w.w;
        const int64_t cell = (2 - kh) * 4 + 2 - kw;
        for (int64_t i = i0; i < i1; ++i) {
          row[i * w.in] = (tile[cell][i - i0][o - o0] + tile[cell + 1][i - i0][o - o0]) +
                          (tile[cell + 4][i - i0][o - o0] + tile[cell + 5][i - i0][o - o0]);
        }
      }
    }
  }
}

template <class T>
void copy_windows(const T* from, const Strides& f, T* to, const Strides& t, int64_t o0, int64_t o1,
                  int64_t i0, int64_t i1) {
  // Innermost what lies together: channels, or the window.
  if (t.in == 1) {
    for (int64_t o = o0; o < o1; ++o) {
      for (int64_t cell = 0; cell < 9; ++cell) {
        const T* source = from + o * f.out + cell / 3 * f.h + cell % 3 * f.w;
        T* target = to + o * t.out + cell / 3 * t.h + cell % 3 * t.w;
        for (int64_t i = i0; i < i1; ++i) target[i] = source[i * f.in];
      }
    }
    return;
  }
  for (int64_t o = o0; o < o1; ++o) {
    for (int64_t i = i0; i < i1; ++i) {
      const T* source = from + o * f.out + i * f.in;
      T* target = to + o * t.out + i * t.in;
      for (int64_t cell = 0; cell < 9; ++cell) {
        target[cell / 3 * t.h + cell % 3 * t.w] = source[cell / 3 * f.h + cell % 3 * f.w];
      }
    }
  }
}

struct Argument {
  const char* name;
  const TensorView& t;
};

Status check(const Argument& weight, const Argument& transposed, const Argument& beside) {
  for (const Argument& a : {weight, transposed, beside}) {
    Dense dense;
    INPAINT_CHECK(a.t.ndim == 4, a.name, ": expected 4 axes, got ", shape_text(a.t));
    INPAINT_TRY(check_dense(a.name, a.t, &dense));
    INPAINT_TRY(check_float(a.name, a.t));
    INPAINT_TRY(check_dtype(a.name, a.t, weight.t.dtype));
  }
  const auto has = [](const TensorView& t, int64_t first, int64_t second, int64_t window) {
    return t.size[0] == first && t.size[1] == second && t.size[2] == window && t.size[3] == window;
  };
  const int64_t outputs = weight.t.size[0], inputs = weight.t.size[1], deep = transposed.t.size[0];
  INPAINT_CHECK(inputs >= deep && has(weight.t, outputs, inputs, 3), weight.name,
                ": expected (C_out, at least ", deep, ", 3, 3), got ", shape_text(weight.t));
  INPAINT_CHECK(has(transposed.t, deep, outputs, 4), transposed.name, ": expected (", deep, ", ",
                outputs, ", 4, 4), got ", shape_text(transposed.t));
  INPAINT_CHECK(has(beside.t, outputs, inputs - deep, 3), beside.name, ": expected (", outputs,
                ", ", inputs - deep, ", 3, 3), got ", shape_text(beside.t));
  return {};
}

template <class Body>
bool with_float(DType dtype, const Body& body) {
  return dtype == DType::kFloat64 ? body(double{}) : body(float{});
}

}  // namespace

Status upsampled_weight_forward(ParallelFor pool, const TensorView& weight,
                                const TensorView& transposed, const TensorView& beside) {
  INPAINT_TRY(check({"weight", weight}, {"transposed", transposed}, {"beside", beside}));
  const Strides w = strides_of(weight, false), k = strides_of(transposed, true),
                b = strides_of(beside, false);
  const int64_t outputs = weight.size[0], deep = transposed.size[0];
  return pool_status(with_float(weight.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* source = static_cast<const T*>(weight.data);
    return for_tiles(pool, outputs, deep,
                     [&](int64_t o0, int64_t o1, int64_t i0, int64_t i1) {
                       spread_tile(source, w, static_cast<T*>(transposed.data), k, o0, o1, i0, i1);
                     }) &&
           for_tiles(pool, outputs, beside.size[1],
                     [&](int64_t o0, int64_t o1, int64_t i0, int64_t i1) {
                       copy_windows(source + deep * w.in, w, static_cast<T*>(beside.data), b, o0,
                                    o1, i0, i1);
                     });
  }));
}

Status upsampled_weight_backward(ParallelFor pool, const TensorView& grad_transposed,
                                 const TensorView& grad_beside, const TensorView& grad_weight) {
  INPAINT_TRY(check({"grad_weight", grad_weight}, {"grad_transposed", grad_transposed},
                    {"grad_beside", grad_beside}));
  const Strides w = strides_of(grad_weight, false), k = strides_of(grad_transposed, true),
                b = strides_of(grad_beside, false);
  const int64_t outputs = grad_weight.size[0], deep = grad_transposed.size[0];
  return pool_status(with_float(grad_weight.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* target = static_cast<T*>(grad_weight.data);
    return for_tiles(pool, outputs, deep,
                     [&](int64_t o0, int64_t o1, int64_t i0, int64_t i1) {
                       gather_tile(static_cast<const T*>(grad_transposed.data), k, target, w, o0,
                                   o1, i0, i1);
                     }) &&
           for_tiles(pool, outputs, grad_beside.size[1],
                     [&](int64_t o0, int64_t o1, int64_t i0, int64_t i1) {
                       copy_windows(static_cast<const T*>(grad_beside.data), b,
                                    target + deep * w.in, w, o0, o1, i0, i1);
                     });
  }));
}

}  // namespace inpaint
