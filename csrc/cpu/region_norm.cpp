// Region normalization with binary regions: one pass of statistics, one that applies them, and two
// for the gradient. Each region's values are summed directly (never the total minus the other
// region) around a shift taken from the region itself, in blocks merged in order.
#include "region_norm.h"

namespace inpaint {
namespace INPAINT_SIMD {
namespace {

// ---- statistics ------------------------------------------------------------------------------

template <class S, bool kBlock, class T = Compute<S>>
void chunk_moments(const Chunk& k, const S* x, const Frame<T, kBlock>& frame, Moments moments[2]) {
  constexpr int kLanes = Lanes<T>::count;
  const T shift[2] = {k.count[0] ? frame.input_at(x, k.first[0]) : T(0),
                      k.count[1] ? frame.input_at(x, k.first[1]) : T(0)};
  const Vec<T> center[2] = {splat<T>(shift[0]), splat<T>(shift[1])};
  RegionSums<T> sums;
  int64_t s = k.s0;
  for (; s + kLanes <= k.s1; s += kLanes) {
    const Vec<T> v = frame.input(x, s);
    const int region = region_of<T>(k.labels + s);
    if (region == 0) {
      const Vec<T> d = v - center[0];
      sums.template add<0>(d, d * d);
    } else if (region == 1) {
      const Vec<T> d = v - center[1];
      sums.template add<1>(d, d * d);
    } else {
      const auto hole = load_labels<T>(k.labels + s);
      const Vec<T> d = v - (hole ? center[1] : center[0]);
      sums.add_mixed(hole, d, d * d);
    }
  }
  double total[4] = {0, 0, 0, 0};
  sums.collect(total);
  for (; s < k.s1; ++s) {
    const int r = k.labels[s];
    const double d = static_cast<double>(frame.input_at(x, s) - shift[r]);
    total[r * 2] += d;
    total[r * 2 + 1] += d * d;
  }
  for (int r = 0; r < 2; ++r) {
    merge_moments(&moments[r], moments_from_shifted(k.count[r], static_cast<double>(shift[r]),
                                                    total[r * 2], total[r * 2 + 1]));
  }
}

template <class S, bool kBlock>
void plane_moments(const RegionNormArgs& a, int64_t n, int64_t unit, int64_t c) {
  const Frame<Compute<S>, kBlock> frame(a, n);
  const S* x = static_cast<const S*>(a.x) + (n * a.c + c) * a.s;
  Moments moments[2];
  const int64_t last = min_of((unit + 1) * kUnitChunks, a.regions.chunks);
  for (int64_t chunk = unit * kUnitChunks; chunk < last; ++chunk) {
    chunk_moments<S, kBlock>(chunk_at(a, n, chunk), x, frame, moments);
  }
  double* out = a.partials + (n * units_of(a) + unit) * 4 * a.c;
  for (int r = 0; r < 2; ++r) {
    out[(r * 2 + 0) * a.c + c] = moments[r].mean;
    out[(r * 2 + 1) * a.c + c] = moments[r].m2;
  }
}

template <class T>
void flush(T* __restrict acc, double* __restrict sums, int64_t count) {
  INPAINT_IVDEP
  for (int64_t i = 0; i < count; ++i) {
    sums[i] += static_cast<double>(acc[i]);
    acc[i] = T(0);
  }
}

// x and the pixel that the sums are shifted by, with what each is multiplied by.
template <class S, bool kBlock, class T = Compute<S>>
INPAINT_INLINE void add_pixel(const S* __restrict x, T factor, const S* __restrict shift,
                              T shift_factor, T* __restrict sum, T* __restrict squares,
                              int64_t c_count) {
  INPAINT_IVDEP
  for (int64_t c = 0; c < c_count; ++c) {
    const T d = kBlock ? x[c] * factor - shift[c] * shift_factor : x[c] - shift[c];
    sum[c] += d;
    squares[c] += d * d;
  }
}

// `acc` and `sums` hold [region][sum, squares][channel].
template <class S, bool kBlock, class T = Compute<S>>
void statistics_unit(const RegionNormArgs& a, int64_t n, int64_t unit, T* acc, double* sums,
                     double* out) {
  const Frame<T, kBlock> frame(a, n);
  const int64_t C = a.c;
  const S* x = static_cast<const S*>(a.x) + n * a.s * C;
  double counts[2] = {0, 0};
  const int64_t last = min_of((unit + 1) * kUnitChunks, a.regions.chunks);
  for (int64_t chunk = unit * kUnitChunks; chunk < last; ++chunk) {
    const Chunk k = chunk_at(a, n, chunk);
    const S* shift[2] = {x + k.first[0] * C, x + k.first[1] * C};
    const T shift_factor[2] = {frame.factor(k.first[0]), frame.factor(k.first[1])};
    for (int64_t i = 0; i < 4 * C; ++i) sums[i] = 0;
    for (int64_t s = k.s0; s < k.s1;) {
      const int64_t stop = min_of(s + kFlush, k.s1);
      for (; s < stop; ++s) {
        const int r = k.labels[s];
        add_pixel<S, kBlock>(x + s * C, frame.factor(s), shift[r], shift_factor[r], acc + r * 2 * C,
                             acc + (r * 2 + 1) * C, C);
      }
      flush(acc, sums, 4 * C);
    }
    for (int r = 0; r < 2; ++r) {
      for (int64_t c = 0; c < C; ++c) {
        Moments m{counts[r], out[r * 2 * C + c], out[(r * 2 + 1) * C + c]};
        const double center = static_cast<double>(shift[r][c] * shift_factor[r]);
        merge_moments(&m, moments_from_shifted(k.count[r], center, sums[r * 2 * C + c],
                                               sums[(r * 2 + 1) * C + c]));
        out[r * 2 * C + c] = m.mean;
        out[(r * 2 + 1) * C + c] = m.m2;
      }
      counts[r] += k.count[r];
    }
  }
}

// With this many channels each of them goes through both passes before the next is begun, so that
// the second pass finds its planes in the cache. Fewer would not keep the threads busy.
constexpr int64_t kManyChannels = 32;

// A reduction, `finish`, and a pass that uses the result. unit_body(n, unit, c) reduces one unit of
// a plane and chunk_body(chunk, n, c) writes one chunk. Either order gives the same numbers.
template <class UnitBody, class ChunkBody>
bool two_passes_contiguous(const RegionNormArgs& a, const UnitBody& unit_body,
                           const ChunkBody& chunk_body) {
  const int64_t units = units_of(a), chunks = a.regions.chunks;
  if (a.c >= kManyChannels) {
    return parallel_for(a.pool, a.c, a.n * a.s, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        for (int64_t t = 0; !a.fixed && t < a.n * units; ++t) unit_body(t / units, t % units, c);
        a.finish(a.context, c);
        for (int64_t n = 0; n < a.n; ++n) {
          for (int64_t k = 0; k < chunks; ++k) chunk_body(chunk_at(a, n, k), n, c);
        }
      }
    });
  }
  bool ok = a.fixed || parallel_for(a.pool, a.n * units * a.c, min_of(a.s, kChunk * kUnitChunks),
                                    [&](int64_t begin, int64_t end) {
                                      for (int64_t t = begin; t < end; ++t) {
                                        const int64_t plane = t / units;
                                        unit_body(plane / a.c, t % units, plane % a.c);
                                      }
                                    });
  for (int64_t c = 0; c < a.c; ++c) a.finish(a.context, c);
  return ok && parallel_for(a.pool, a.n * a.c * chunks, min_of(a.s, kChunk),
                            [&](int64_t begin, int64_t end) {
                              for (int64_t t = begin; t < end; ++t) {
                                const int64_t plane = t / chunks, n = plane / a.c;
                                chunk_body(chunk_at(a, n, t % chunks), n, plane % a.c);
                              }
                            });
}

// The same for channels-last tensors. unit_body(n, unit, acc, sums, partial row) reduces a unit,
// with cleared accumulators; pixel_body(n, s, label) writes one pixel. The accumulators lie behind
// the partial rows, one piece for each unit.
template <class T, class UnitBody, class PixelBody>
bool two_passes_channels_last(const RegionNormArgs& a, const UnitBody& unit_body,
                              const PixelBody& pixel_body) {
  const int64_t units = units_of(a), row = 4 * a.c;
  bool ok = a.fixed || parallel_for(a.pool, a.n * units, min_of(a.s, kChunk * kUnitChunks) * a.c,
                                    [&](int64_t begin, int64_t end) {
                                      for (int64_t t = begin; t < end; ++t) {
                                        double* out = a.partials + t * row;
                                        double* sums = a.partials + (a.n * units + t * 2) * row;
                                        T* acc = reinterpret_cast<T*>(sums + row);
                                        for (int64_t i = 0; i < row; ++i)
                                          out[i] = 0, sums[i] = 0, acc[i] = T(0);
                                        unit_body(t / units, t % units, acc, sums, out);
                                      }
                                    });
  for (int64_t c = 0; c < a.c; ++c) a.finish(a.context, c);
  return ok && parallel_for(a.pool, a.n * a.s, a.c, [&](int64_t begin, int64_t end) {
           for (int64_t p = begin; p < end; ++p) {
             const int64_t n = p / a.s, s = p % a.s;
             pixel_body(n, s, a.regions.labels[n * a.regions.n_stride + s]);
           }
         });
}

// ---- apply -----------------------------------------------------------------------------------

// kMaps: gamma and beta per pixel on top of the normalized value. y may be x.
template <class S, bool kMaps, bool kBlock>
void apply_chunk(const RegionNormArgs& a, const Chunk& k, int64_t n, int64_t c) {
  using T = Compute<S>;
  constexpr int kLanes = Lanes<T>::count;
  const Frame<T, kBlock> frame(a, n);
  const S* x = static_cast<const S*>(a.x) + (n * a.c + c) * a.s;
  S* y = static_cast<S*>(a.out) + (n * a.c + c) * a.s;
  const T* gamma = kMaps ? static_cast<const T*>(a.maps) + n * 2 * a.s : nullptr;
  const T* beta = kMaps ? gamma + a.s : nullptr;
  const Choice<T> mean(table<T>(a, a.mean, n), a.c, c), scale(table<T>(a, a.scale, n), a.c, c),
      shift(table<T>(a, a.shift, n), a.c, c);
  int64_t s = k.s0;
  for (; s + kLanes <= k.s1; s += kLanes) {
    const int region = region_of<T>(k.labels + s);
    const auto hole = load_labels<T>(k.labels + s);
    Vec<T> out = (frame.input(x, s) - mean.at(region, hole)) * scale.at(region, hole) +
                 shift.at(region, hole);
    if (kMaps) out = out * (load(gamma + s) + T(1)) + load(beta + s);
    store(y + s, frame.activated(out, frame.kept_by(s)));
  }
  for (; s < k.s1; ++s) {
    const int r = k.labels[s];
    T out = (frame.input_at(x, s) - mean.of[r]) * scale.of[r] + shift.of[r];
    if (kMaps) out = out * (gamma[s] + T(1)) + beta[s];
    y[s] = frame.activated(out, frame.kept(s));
  }
}

template <class S, bool kMaps, bool kBlock>
void apply_pixel(const RegionNormArgs& a, int64_t n, int64_t s, int r) {
  using T = Compute<S>;
  const Frame<T, kBlock> frame(a, n);
  const T factor = frame.factor(s), kept = frame.kept(s);
  const int64_t C = a.c, at = (n * a.s + s) * C;
  const S* x = static_cast<const S*>(a.x) + at;
  S* y = static_cast<S*>(a.out) + at;
  const T* __restrict mean = table<T>(a, a.mean, n) + r * C;
  const T* __restrict scale = table<T>(a, a.scale, n) + r * C;
  const T* __restrict shift = table<T>(a, a.shift, n) + r * C;
  const T* maps = kMaps ? static_cast<const T*>(a.maps) + n * 2 * a.s + s : nullptr;
  const T gain = kMaps ? maps[0] + T(1) : T(1);
  const T offset = kMaps ? maps[a.s] : T(0);
  INPAINT_IVDEP
  for (int64_t c = 0; c < C; ++c) {
    const T value = kBlock ? x[c] * factor : static_cast<T>(x[c]);
    const T normalized = (value - mean[c]) * scale[c] + shift[c];
    y[c] = frame.activated(kMaps ? normalized * gain + offset : normalized, kept);
  }
}

template <class S, bool kMaps, bool kBlock>
bool forward(const RegionNormArgs& a) {
  using T = Compute<S>;
  if (a.channels_last) {
    return two_passes_channels_last<T>(
        a,
        [&](int64_t n, int64_t unit, T* acc, double* sums, double* out) {
          statistics_unit<S, kBlock>(a, n, unit, acc, sums, out);
        },
        [&](int64_t n, int64_t s, int r) { apply_pixel<S, kMaps, kBlock>(a, n, s, r); });
  }
  return two_passes_contiguous(
      a, [&](int64_t n, int64_t unit, int64_t c) { plane_moments<S, kBlock>(a, n, unit, c); },
      [&](const Chunk& k, int64_t n, int64_t c) { apply_chunk<S, kMaps, kBlock>(a, k, n, c); });
}

// ---- backward, plain form --------------------------------------------------------------------

// What the backward of a channel reads of the forward's tables.
template <class T>
struct Forward {
  const Choice<T> mean, scale, shift;
  INPAINT_INLINE Forward(const RegionNormArgs& a, int64_t n, int64_t c)
      : mean(table<T>(a, a.mean, n), a.c, c),
        scale(table<T>(a, a.scale, n), a.c, c),
        shift(table<T>(a, a.shift, n), a.c, c) {}
};

// Sums of g and of g * (x - mean), by region; in a block g is the gradient before the activation,
// whose sign is found again.
template <class S, bool kBlock, class T = Compute<S>>
void chunk_sums(const Chunk& k, const S* x, const S* g, const Frame<T, kBlock>& frame,
                const Forward<T>& f, double out[4]) {
  constexpr int kLanes = Lanes<T>::count;
  RegionSums<T> sums;
  int64_t s = k.s0;
  for (; s + kLanes <= k.s1; s += kLanes) {
    const Vec<T> v = frame.input(x, s);
    const int region = region_of<T>(k.labels + s);
    const auto hole = load_labels<T>(k.labels + s);
    const Vec<T> centered = v - f.mean.at(region, hole);
    Vec<T> grad = load(g + s);
    if (kBlock) {
      const Vec<T> u = centered * f.scale.at(region, hole) + f.shift.at(region, hole);
      grad = frame.gradient(grad, u, frame.kept_by(s));
    }
    if (region == 0) {
      sums.template add<0>(grad, grad * centered);
    } else if (region == 1) {
      sums.template add<1>(grad, grad * centered);
    } else {
      sums.add_mixed(hole, grad, grad * centered);
    }
  }
  sums.collect(out);
  for (; s < k.s1; ++s) {
    const int r = k.labels[s];
    const T centered = frame.input_at(x, s) - f.mean.of[r];
    const T u = centered * f.scale.of[r] + f.shift.of[r];
    const T grad = frame.gradient(static_cast<T>(g[s]), u, frame.kept(s));
    out[r * 2] += static_cast<double>(grad);
    out[r * 2 + 1] += static_cast<double>(grad * centered);
  }
}

template <class S, bool kBlock, class T = Compute<S>>
void sums_unit(const RegionNormArgs& a, int64_t n, int64_t unit, T* acc, double* out) {
  const Frame<T, kBlock> frame(a, n);
  const int64_t C = a.c, base = n * a.s * C;
  const uint8_t* labels = a.regions.labels + n * a.regions.n_stride;
  const int64_t s1 = min_of((unit + 1) * kUnitChunks * kChunk, a.s);
  for (int64_t s = unit * kUnitChunks * kChunk; s < s1;) {
    const int64_t stop = min_of(s + kFlush, s1);
    for (; s < stop; ++s) {
      const int r = labels[s];
      const S* __restrict x = static_cast<const S*>(a.x) + base + s * C;
      const S* __restrict g = static_cast<const S*>(a.grad) + base + s * C;
      const T* __restrict mean = table<T>(a, a.mean, n) + r * C;
      const T* __restrict scale = kBlock ? table<T>(a, a.scale, n) + r * C : nullptr;
      const T* __restrict shift = kBlock ? table<T>(a, a.shift, n) + r * C : nullptr;
      const T factor = frame.factor(s), kept = frame.kept(s);
      T* __restrict sum = acc + r * 2 * C;
      T* __restrict product = sum + C;
      INPAINT_IVDEP
      for (int64_t c = 0; c < C; ++c) {
        const T centered = (kBlock ? x[c] * factor : static_cast<T>(x[c])) - mean[c];
        const T u = kBlock ? centered * scale[c] + shift[c] : T(0);
        const T grad = frame.gradient(static_cast<T>(g[c]), u, kept);
        sum[c] += grad;
        product[c] += grad * centered;
      }
    }
    flush(acc, out, 4 * C);
  }
}

template <class S, bool kBlock>
void plane_sums(const RegionNormArgs& a, int64_t n, int64_t unit, int64_t c) {
  using T = Compute<S>;
  const int64_t plane = n * a.c + c;
  const Frame<T, kBlock> frame(a, n);
  const Forward<T> f(a, n, c);
  double sums[4] = {0, 0, 0, 0};
  const int64_t last = min_of((unit + 1) * kUnitChunks, a.regions.chunks);
  for (int64_t chunk = unit * kUnitChunks; chunk < last; ++chunk) {
    chunk_sums<S, kBlock>(chunk_at(a, n, chunk), static_cast<const S*>(a.x) + plane * a.s,
                          static_cast<const S*>(a.grad) + plane * a.s, frame, f, sums);
  }
  double* out = a.partials + (n * units_of(a) + unit) * 4 * a.c;
  for (int i = 0; i < 4; ++i) out[i * a.c + c] = sums[i];
}

// grad_x = scale * (g - k1 - (x - mean) * k2), times the ratio in a block
template <class S, bool kBlock>
void backward_chunk(const RegionNormArgs& a, const Chunk& k, int64_t n, int64_t c) {
  using T = Compute<S>;
  constexpr int kLanes = Lanes<T>::count;
  const int64_t plane = (n * a.c + c) * a.s;
  const S* __restrict x = static_cast<const S*>(a.x) + plane;
  const S* __restrict g = static_cast<const S*>(a.grad) + plane;
  S* __restrict out = static_cast<S*>(a.out) + plane;
  const Frame<T, kBlock> frame(a, n);
  const Forward<T> f(a, n, c);
  const Choice<T> k1(table<T>(a, a.k1, n), a.c, c), k2(table<T>(a, a.k2, n), a.c, c);
  int64_t s = k.s0;
  for (; s + kLanes <= k.s1; s += kLanes) {
    const int region = region_of<T>(k.labels + s);
    const auto hole = load_labels<T>(k.labels + s);
    const Vec<T> centered = frame.input(x, s) - f.mean.at(region, hole);
    const Vec<T> scale = f.scale.at(region, hole);
    Vec<T> grad = load(g + s);
    if (kBlock) {
      grad = frame.gradient(grad, centered * scale + f.shift.at(region, hole), frame.kept_by(s));
    }
    // Not by zeros: x may be infinite.
    if (!kBlock || !a.given) grad = grad - k1.at(region, hole) - centered * k2.at(region, hole);
    store(out + s, kBlock ? scale * grad * frame.factor_by(s) : scale * grad);
  }
  for (; s < k.s1; ++s) {
    const int r = k.labels[s];
    const T centered = frame.input_at(x, s) - f.mean.of[r], scale = f.scale.of[r];
    const T u = centered * scale + f.shift.of[r];
    T grad = frame.gradient(static_cast<T>(g[s]), u, frame.kept(s));
    if (!kBlock || !a.given) grad = grad - k1.of[r] - centered * k2.of[r];
    out[s] = scale * grad * frame.factor(s);
  }
}

template <class S, bool kBlock>
void backward_pixel(const RegionNormArgs& a, int64_t n, int64_t s, int r) {
  using T = Compute<S>;
  const int64_t C = a.c, at = (n * a.s + s) * C;
  const S* __restrict x = static_cast<const S*>(a.x) + at;
  const S* __restrict g = static_cast<const S*>(a.grad) + at;
  S* __restrict out = static_cast<S*>(a.out) + at;
  const T* __restrict mean = table<T>(a, a.mean, n) + r * C;
  const T* __restrict scale = table<T>(a, a.scale, n) + r * C;
  const T* __restrict shift = kBlock ? table<T>(a, a.shift, n) + r * C : nullptr;
  const T* __restrict k1 = table<T>(a, a.k1, n) + r * C;
  const T* __restrict k2 = table<T>(a, a.k2, n) + r * C;
  const Frame<T, kBlock> frame(a, n);
  const T factor = frame.factor(s), kept = frame.kept(s);
  const bool given = kBlock && a.given;
  INPAINT_IVDEP
  for (int64_t c = 0; c < C; ++c) {
    const T centered = (kBlock ? x[c] * factor : static_cast<T>(x[c])) - mean[c];
    const T u = kBlock ? centered * scale[c] + shift[c] : T(0);
    const T grad = frame.gradient(static_cast<T>(g[c]), u, kept);
    out[c] = scale[c] * (given ? grad : grad - k1[c] - centered * k2[c]) * factor;
  }
}

template <class S, bool kBlock>
bool backward(const RegionNormArgs& a) {
  using T = Compute<S>;
  if (a.channels_last) {
    return two_passes_channels_last<T>(
        a,
        [&](int64_t n, int64_t unit, T* acc, double*, double* out) {
          sums_unit<S, kBlock>(a, n, unit, acc, out);
        },
        [&](int64_t n, int64_t s, int r) { backward_pixel<S, kBlock>(a, n, s, r); });
  }
  return two_passes_contiguous(
      a, [&](int64_t n, int64_t unit, int64_t c) { plane_sums<S, kBlock>(a, n, unit, c); },
      [&](const Chunk& k, int64_t n, int64_t c) { backward_chunk<S, kBlock>(a, k, n, c); });
}

}  // namespace

bool region_forward(const RegionNormArgs& a) {
  return for_type(a.dtype, [&](auto zero) {
    using S = decltype(zero);
    if (a.ratio) return a.maps ? forward<S, true, true>(a) : forward<S, false, true>(a);
    return a.maps ? forward<S, true, false>(a) : forward<S, false, false>(a);
  });
}

bool region_backward(const RegionNormArgs& a) {
  return for_type(a.dtype, [&](auto zero) {
    using S = decltype(zero);
    return a.ratio ? backward<S, true>(a) : backward<S, false>(a);
  });
}

}  // namespace INPAINT_SIMD
}  // namespace inpaint
