// The only file that knows Python. A tensor arrives as (address, type code, sizes, strides, owner),
// so that one build serves every torch; the owner is not looked at, it keeps the memory alive.
#include <pybind11/pybind11.h>

#include <vector>

#include "build_info.h"
#include "cpu/kernels.h"
#include "inpaint/op_table.h"

namespace py = pybind11;

namespace inpaint {
namespace {

ParallelFor pool = nullptr;

int64_t as_int(PyObject* value) {
  const long long out = PyLong_AsLongLong(value);
  if (out == -1 && PyErr_Occurred()) throw py::error_already_set();
  return out;
}

// A tuple or list of integers, read without copies.
class Sequence {
 public:
  explicit Sequence(py::handle value)
      : fast_(PySequence_Fast(value.ptr(), "expected a sequence of integers")) {
    if (fast_ == nullptr) throw py::error_already_set();
  }
  ~Sequence() { Py_DECREF(fast_); }
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;
  Py_ssize_t size() const { return PySequence_Fast_GET_SIZE(fast_); }
  PyObject* item(Py_ssize_t i) const { return PySequence_Fast_GET_ITEM(fast_, i); }
  int64_t operator[](Py_ssize_t i) const { return as_int(item(i)); }

 private:
  PyObject* fast_;
};

TensorView view(py::handle value) {
  TensorView out;
  if (value.is_none()) return out;
  const Sequence parts(value);
  if (parts.size() != 5) {
    throw py::value_error("a tensor is (address, type, sizes, strides, owner)");
  }
  const Sequence sizes(parts.item(2)), strides(parts.item(3));
  if (sizes.size() > kMaxDims || sizes.size() != strides.size() || sizes.size() == 0) {
    throw py::value_error("a tensor has one to five axes");
  }
  out.data = PyLong_AsVoidPtr(parts.item(0));
  if (out.data == nullptr && PyErr_Occurred()) throw py::error_already_set();
  out.dtype = static_cast<DType>(parts[1]);
  out.ndim = static_cast<int32_t>(sizes.size());
  for (int i = 0; i < out.ndim; ++i) {
    out.size[i] = sizes[i];
    out.stride[i] = strides[i];
  }
  return out;
}

struct ChannelCounts {
  std::vector<int64_t> counts;
  explicit ChannelCounts(py::handle value) {
    const Sequence items(value);
    for (Py_ssize_t i = 0; i < items.size(); ++i) counts.push_back(items[i]);
  }
  Channels channels() const { return {counts.data(), static_cast<int64_t>(counts.size())}; }
};

Window window(py::handle kernel, py::handle stride, py::handle padding, py::handle dilation) {
  const Sequence k(kernel), s(stride), p(padding), d(dilation);
  Window out;
  out.spatial = static_cast<int>(k.size());
  if (k.size() < 1 || k.size() > kMaxSpatial || s.size() != k.size() || p.size() != k.size() ||
      d.size() != k.size()) {
    throw py::value_error(
        "kernel_size, stride, padding and dilation: one number for each of one to three axes");
  }
  for (int i = 0; i < out.spatial; ++i) {
    out.kernel[i] = k[i];
    out.stride[i] = s[i];
    out.padding[i] = p[i];
    out.dilation[i] = d[i];
  }
  return out;
}

struct Pair {
  int64_t values[2];
};

Pair pair(py::handle value) {
  const Sequence numbers(value);
  if (numbers.size() != 2) throw py::value_error("padding, dilation: two numbers each");
  return {{numbers[0], numbers[1]}};
}

// Runs the op without the interpreter lock, and raises what it reports.
template <class Op>
void run(const Op& op) {
  Status status;
  {
    py::gil_scoped_release release;
    status = op();
  }
  if (!status.ok()) throw std::runtime_error(status.text);
}

py::dict build_info() {
  int count = 0;
  const char* const* names = cpu_levels(&count);
  py::list levels;
  for (int i = 0; i < count; ++i) levels.append(names[i]);
  py::dict out;
  out["compiler"] = INPAINT_BUILD_COMPILER;
  out["flags"] = INPAINT_BUILD_FLAGS;
  out["simd_available"] = levels;
  out["simd"] = cpu_kernels().name;
  out["cuda"] = INPAINT_BUILD_CUDA;
  out["cuda_compiler"] = INPAINT_BUILD_CUDA_COMPILER;
  out["cuda_archs"] = INPAINT_BUILD_CUDA_ARCHS;
  out["cuda_reason"] = INPAINT_BUILD_CUDA_REASON;
  return out;
}

}  // namespace
}  // namespace inpaint

using namespace inpaint;  // NOLINT: the module body below is nothing but its names

PYBIND11_MODULE(_core, m) {
  using H = py::handle;
  m.attr("OP_TABLE_HASH") = hash_text(kOpTable);
  m.def("build_info", &build_info);
  m.def("set_parallel_for",
        [](uintptr_t address) { pool = reinterpret_cast<ParallelFor>(address); });
  m.def("select_simd", [](const std::string& name) {
    if (!select_cpu_level(name.c_str())) {
      throw py::value_error("simd level '" + name + "' was not built or is not on this processor");
    }
  });

  m.def("mask_update", [](H mask, H channels, H kernel, H stride, H padding, H dilation, double eps,
                          H new_mask, H ratio) {
    const ChannelCounts counts(channels);
    const Window w = window(kernel, stride, padding, dilation);
    const TensorView a = view(mask), b = view(new_mask), c = view(ratio);
    run([&] { return mask_update(pool, a, counts.channels(), w, eps, b, c); });
  });
  m.def("apply_mask", [](H x, H mask, H channels, H out) {
    const ChannelCounts counts(channels);
    const TensorView a = view(x), b = view(mask), c = view(out);
    run([&] { return apply_mask(pool, a, b, counts.channels(), c); });
  });
  m.def("all_valid", [](H mask) {
    const TensorView a = view(mask);
    bool valid = false;
    run([&] { return all_valid(a, &valid); });
    return valid;
  });
  m.def("partial_conv_prologue",
        [](H x, H mask, H channels, H counts, H kernel, H stride, H padding, H dilation, double eps,
           H new_mask, H ratio, H masked) {
          const ChannelCounts of_x(channels), counted(counts);
          const Window w = window(kernel, stride, padding, dilation);
          const TensorView a = view(x), b = view(mask), c = view(new_mask), d = view(ratio),
                           e = view(masked);
          bool holes = false;
          run([&] {
            return partial_conv_prologue(pool, a, b, of_x.channels(), counted.channels(), w, eps, c,
                                         d, e, &holes);
          });
          return holes;
        });
  m.def("partial_conv_epilogue", [](H y, H ratio, H new_mask, H bias) {
    const TensorView a = view(y), b = view(ratio), c = view(new_mask), d = view(bias);
    run([&] { return partial_conv_epilogue(pool, a, b, c, d); });
  });
  m.def("partial_conv_epilogue_backward", [](H grad, H ratio, H new_mask, H grad_raw, H grad_bias) {
    const TensorView a = view(grad), b = view(ratio), c = view(new_mask), d = view(grad_raw),
                     e = view(grad_bias);
    run([&] { return partial_conv_epilogue_backward(pool, a, b, c, d, e); });
  });
  m.def("region_norm_forward", [](H x, H mask, H weight, H bias, double eps, bool scale_eps,
                                  bool instance, H y, H mean, H rstd) {
    const TensorView a = view(x), b = view(mask), c = view(weight), d = view(bias), e = view(y),
                     f = view(mean), g = view(rstd);
    run([&] { return region_norm_forward(pool, a, b, c, d, eps, scale_eps, instance, e, f, g); });
  });
  m.def("region_norm_backward", [](H grad, H x, H mask, H weight, H mean, H rstd, bool instance,
                                   H grad_x, H grad_weight, H grad_bias) {
    const TensorView a = view(grad), b = view(x), c = view(mask), d = view(weight), e = view(mean),
                     f = view(rstd), g = view(grad_x), h = view(grad_weight), i = view(grad_bias);
    run([&] { return region_norm_backward(pool, a, b, c, d, e, f, instance, g, h, i); });
  });
  m.def("block_norm_forward", [](H x, H ratio, H new_mask, double slope, H mask, H weight, H bias,
                                 double eps, bool scale_eps, bool fixed, H y, H mean, H rstd) {
    const TensorView a = view(x), b = view(ratio), c = view(new_mask), d = view(mask),
                     e = view(weight), f = view(bias), g = view(y), h = view(mean), i = view(rstd);
    run([&] {
      return block_norm_forward(pool, a, {b, c, slope}, d, e, f, eps, scale_eps, fixed, g, h, i);
    });
  });
  m.def("block_norm_backward", [](H grad, H x, H ratio, H new_mask, double slope, H mask, H weight,
                                  H bias, H mean, H rstd, bool fixed, H grad_x, H grad_weight,
                                  H grad_bias) {
    const TensorView a = view(grad), b = view(x), c = view(ratio), d = view(new_mask),
                     e = view(mask), f = view(weight), g = view(bias), h = view(mean),
                     i = view(rstd), j = view(grad_x), k = view(grad_weight), l = view(grad_bias);
    run([&] {
      return block_norm_backward(pool, a, b, {c, d, slope}, e, f, g, h, i, fixed, j, k, l);
    });
  });
  m.def("channel_pool", [](H x, H pooled, H argmax) {
    const TensorView a = view(x), b = view(pooled), c = view(argmax);
    run([&] { return channel_pool(pool, a, b, c); });
  });
  m.def("narrow_conv", [](H x, H weight, H padding, H dilation, H out) {
    const TensorView a = view(x), b = view(weight), c = view(out);
    const Pair p = pair(padding), d = pair(dilation);
    run([&] { return narrow_conv(pool, a, b, p.values, d.values, c); });
  });
  m.def("upsampled_weight_forward", [](H weight, H transposed, H beside) {
    const TensorView a = view(weight), b = view(transposed), c = view(beside);
    run([&] { return upsampled_weight_forward(pool, a, b, c); });
  });
  m.def("upsampled_weight_backward", [](H grad_transposed, H grad_beside, H grad_weight) {
    const TensorView a = view(grad_transposed), b = view(grad_beside), c = view(grad_weight);
    run([&] { return upsampled_weight_backward(pool, a, b, c); });
  });
  m.def("plane_conv", [](H x, H weight, H bias, H out) {
    const TensorView a = view(x), b = view(weight), c = view(bias), d = view(out);
    run([&] { return plane_conv(pool, a, b, c, d); });
  });
  m.def("plane_conv_backward_weight", [](H grad, H x, H grad_weight) {
    const TensorView a = view(grad), b = view(x), c = view(grad_weight);
    run([&] { return plane_conv_backward_weight(pool, a, b, c); });
  });
  m.def("attention_region_norm_forward", [](H x, H ratio, H new_mask, double slope, H mask, H maps,
                                            double eps, H y, H mean, H rstd) {
    const TensorView a = view(x), b = view(ratio), c = view(new_mask), d = view(mask),
                     e = view(maps), f = view(y), g = view(mean), h = view(rstd);
    run([&] { return attention_region_norm_forward(pool, a, {b, c, slope}, d, e, eps, f, g, h); });
  });
  m.def("attention_region_norm_backward_maps",
        [](H grad, H x, H ratio, H new_mask, double slope, H mask, H maps, H mean, H rstd,
           H grad_maps, H sums) {
          const TensorView a = view(grad), b = view(x), c = view(ratio), d = view(new_mask),
                           e = view(mask), f = view(maps), g = view(mean), h = view(rstd),
                           i = view(grad_maps), j = view(sums);
          run([&] {
            return attention_region_norm_backward_maps(pool, a, b, {c, d, slope}, e, f, g, h, i, j);
          });
        });
  m.def("attention_region_norm_backward_input", [](H grad, H x, H ratio, H new_mask, double slope,
                                                   H mask, H maps, H mean, H rstd, H sums,
                                                   H grad_pooled, H argmax, H grad_x) {
    const TensorView a = view(grad), b = view(x), c = view(ratio), d = view(new_mask),
                     e = view(mask), f = view(maps), g = view(mean), h = view(rstd), i = view(sums),
                     j = view(grad_pooled), k = view(argmax), l = view(grad_x);
    run([&] {
      return attention_region_norm_backward_input(pool, a, b, {c, d, slope}, e, f, g, h, i, j, k,
                                                  l);
    });
  });
  m.def("cuda_mask_update", [](int32_t device, uintptr_t stream, H mask, H channels, H kernel,
                               H stride, H padding, H dilation, double eps, H new_mask, H ratio) {
    const ChannelCounts counts(channels);
    const Window w = window(kernel, stride, padding, dilation);
    const TensorView a = view(mask), b = view(new_mask), c = view(ratio);
    run([&] {
      return cuda_mask_update(device, reinterpret_cast<void*>(stream), a, counts.channels(), w, eps,
                              b, c);
    });
  });
  m.def("cuda_apply_mask", [](int32_t device, uintptr_t stream, H x, H mask, H channels, H out) {
    const ChannelCounts counts(channels);
    const TensorView a = view(x), b = view(mask), c = view(out);
    run([&] {
      return cuda_apply_mask(device, reinterpret_cast<void*>(stream), a, b, counts.channels(), c);
    });
  });
  m.def("cuda_partial_conv_epilogue",
        [](int32_t device, uintptr_t stream, H y, H ratio, H new_mask, H bias) {
          const TensorView a = view(y), b = view(ratio), c = view(new_mask), d = view(bias);
          run([&] {
            return cuda_partial_conv_epilogue(device, reinterpret_cast<void*>(stream), a, b, c, d);
          });
        });
  m.def("cuda_partial_conv_epilogue_backward",
        [](int32_t device, uintptr_t stream, H grad, H ratio, H new_mask, H grad_raw, H grad_bias,
           H workspace) {
          const TensorView a = view(grad), b = view(ratio), c = view(new_mask), d = view(grad_raw),
                           e = view(grad_bias), f = view(workspace);
          run([&] {
            return cuda_partial_conv_epilogue_backward(device, reinterpret_cast<void*>(stream), a,
                                                       b, c, d, e, f);
          });
        });
  m.def("cuda_region_norm_forward",
        [](int32_t device, uintptr_t stream, H x, H mask, H weight, H bias, double eps,
           bool scale_eps, bool instance, H y, H mean, H rstd, H workspace) {
          const TensorView a = view(x), b = view(mask), c = view(weight), d = view(bias),
                           e = view(y), f = view(mean), g = view(rstd), h = view(workspace);
          run([&] {
            return cuda_region_norm_forward(device, reinterpret_cast<void*>(stream), a, b, c, d,
                                            eps, scale_eps, instance, e, f, g, h);
          });
        });
  m.def("cuda_region_norm_backward",
        [](int32_t device, uintptr_t stream, H grad, H x, H mask, H weight, H mean, H rstd,
           bool instance, H grad_x, H grad_weight, H grad_bias, H workspace) {
          const TensorView a = view(grad), b = view(x), c = view(mask), d = view(weight),
                           e = view(mean), f = view(rstd), g = view(grad_x), h = view(grad_weight),
                           i = view(grad_bias), j = view(workspace);
          run([&] {
            return cuda_region_norm_backward(device, reinterpret_cast<void*>(stream), a, b, c, d, e,
                                             f, instance, g, h, i, j);
          });
        });
  m.def(
      "cuda_block_norm_forward",
      [](int32_t device, uintptr_t stream, H x, H ratio, H new_mask, double slope, H mask, H weight,
         H bias, double eps, bool scale_eps, bool fixed, H y, H mean, H rstd, H workspace) {
        const TensorView a = view(x), b = view(ratio), c = view(new_mask), d = view(mask),
                         e = view(weight), f = view(bias), g = view(y), h = view(mean),
                         i = view(rstd), j = view(workspace);
        run([&] {
          return cuda_block_norm_forward(device, reinterpret_cast<void*>(stream), a, {b, c, slope},
                                         d, e, f, eps, scale_eps, fixed, g, h, i, j);
        });
      });
  m.def("cuda_block_norm_backward",
        [](int32_t device, uintptr_t stream, H grad, H x, H ratio, H new_mask, double slope, H mask,
           H weight, H bias, H mean, H rstd, bool fixed, H grad_x, H grad_weight, H grad_bias,
           H workspace) {
          const TensorView a = view(grad), b = view(x), c = view(ratio), d = view(new_mask),
                           e = view(mask), f = view(weight), g = view(bias), h = view(mean),
                           i = view(rstd), j = view(grad_x), k = view(grad_weight),
                           l = view(grad_bias), o = view(workspace);
          run([&] {
            return cuda_block_norm_backward(device, reinterpret_cast<void*>(stream), a, b,
                                            {c, d, slope}, e, f, g, h, i, fixed, j, k, l, o);
          });
        });
  m.def("cuda_channel_pool", [](int32_t device, uintptr_t stream, H x, H pooled, H argmax) {
    const TensorView a = view(x), b = view(pooled), c = view(argmax);
    run([&] { return cuda_channel_pool(device, reinterpret_cast<void*>(stream), a, b, c); });
  });
  m.def("cuda_attention_region_norm_forward",
        [](int32_t device, uintptr_t stream, H x, H ratio, H new_mask, double slope, H mask, H maps,
           double eps, H y, H mean, H rstd, H workspace) {
          const TensorView a = view(x), b = view(ratio), c = view(new_mask), d = view(mask),
                           e = view(maps), f = view(y), g = view(mean), h = view(rstd),
                           i = view(workspace);
          run([&] {
            return cuda_attention_region_norm_forward(device, reinterpret_cast<void*>(stream), a,
                                                      {b, c, slope}, d, e, eps, f, g, h, i);
          });
        });
  m.def("cuda_attention_region_norm_maps",
        [](int32_t device, uintptr_t stream, H grad, H x, H ratio, H new_mask, double slope, H mask,
           H maps, H mean, H rstd, H grad_maps) {
          const TensorView a = view(grad), b = view(x), c = view(ratio), d = view(new_mask),
                           e = view(mask), f = view(maps), g = view(mean), h = view(rstd),
                           i = view(grad_maps);
          run([&] {
            return cuda_attention_region_norm_maps(device, reinterpret_cast<void*>(stream), a, b,
                                                   {c, d, slope}, e, f, g, h, i);
          });
        });
  m.def("cuda_attention_region_norm_sums",
        [](int32_t device, uintptr_t stream, H grad, H x, H ratio, H new_mask, double slope, H mask,
           H maps, H mean, H rstd, H workspace) {
          const TensorView a = view(grad), b = view(x), c = view(ratio), d = view(new_mask),
                           e = view(mask), f = view(maps), g = view(mean), h = view(rstd),
                           i = view(workspace);
          run([&] {
            return cuda_attention_region_norm_sums(device, reinterpret_cast<void*>(stream), a, b,
                                                   {c, d, slope}, e, f, g, h, i);
          });
        });
  m.def("cuda_attention_region_norm_input",
        [](int32_t device, uintptr_t stream, H grad, H x, H ratio, H new_mask, double slope, H mask,
           H maps, H mean, H rstd, H grad_pooled, H argmax, H grad_x, H workspace) {
          const TensorView a = view(grad), b = view(x), c = view(ratio), d = view(new_mask),
                           e = view(mask), f = view(maps), g = view(mean), h = view(rstd),
                           i = view(grad_pooled), j = view(argmax), k = view(grad_x),
                           l = view(workspace);
          run([&] {
            return cuda_attention_region_norm_input(device, reinterpret_cast<void*>(stream), a, b,
                                                    {c, d, slope}, e, f, g, h, i, j, k, l);
          });
        });
  m.def("cuda_workspace", [](H x, int64_t values) {
    const TensorView a = view(x);
    int64_t count = 0;
    run([&] { return cuda_workspace(a, values, &count); });
    return count;
  });
  m.def("cuda_region_workspace", [](H x, bool instance) {
    const TensorView a = view(x);
    int64_t count = 0;
    run([&] { return cuda_region_workspace(a, instance, &count); });
    return count;
  });
}
