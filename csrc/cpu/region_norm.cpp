// Region normalization with binary regions: one pass of statistics, one that applies them, and two
// for the gradient. Each region's values are summed directly (never the total minus the other
// region) around a shift taken from the region itself, in blocks merged in order.
#include "region_norm.h"

namespace inpaint {
namespace INPAINT_SIMD {
namespace {

// ---- statistics ------------------------------------------------------------------------------

template <class S>
void chunk_moments(const Chunk& k, const S* x, Moments moments[2]) {
  using T = Compute<S>;
  constexpr int kLanes = Lanes<T>::count;
  const T shift[2] = {k.count[0] ? static_cast<T>(x[k.first[0]]) : T(0),
                      k.count[1] ? static_cast<T>(x[k.first[1]]) : T(0)};
  const Vec<T> center[2] = {splat<T>(shift[0]), splat<T>(shift[1])};
  RegionSums<T> sums;
  int64_t s = k.s0;
  for (; s + kLanes <= k.s1; s += kLanes) {
    const Vec<T> v = load(x + s);
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
    const double d = static_cast<double>(x[s] - shift[r]);
    total[r * 2] += d;
    total[r * 2 + 1] += d * d;
  }
  for (int r = 0; r < 2; ++r) {
    merge_moments(&moments[r], moments_from_shifted(k.count[r], static_cast<double>(shift[r]),
                                                    total[r * 2], total[r * 2 + 1]));
  }
}

template <class S>
void plane_moments(const RegionNormArgs& a, int64_t n, int64_t unit, int64_t c) {
  const S* x = static_cast<const S*>(a.x) + (n * a.c + c) * a.s;
  Moments moments[2];
  const int64_t last = min_of((unit + 1) * kUnitChunks, a.regions.chunks);
  for (int64_t chunk = unit * kUnitChunks; chunk < last; ++chunk) {
    chunk_moments<S>(chunk_at(a, n, chunk), x, moments);
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

template <class S, class T = Compute<S>>
INPAINT_INLINE void add_pixel(const S* __restrict x, const S* __restrict shift, T* __restrict sum,
                              T* __restrict squares, int64_t c_count) {
  INPAINT_IVDEP
  for (int64_t c = 0; c < c_count; ++c) {
    const T d = x[c] - shift[c];
    sum[c] += d;
    squares[c] += d * d;
  }
}

// `acc` and `sums` hold [region][sum, squares][channel].
template <class S, class T = Compute<S>>
void statistics_unit(const RegionNormArgs& a, int64_t n, int64_t unit, T* acc, double* sums,
                     double* out) {
  const int64_t C = a.c;
  const S* x = static_cast<const S*>(a.x) + n * a.s * C;
  double counts[2] = {0, 0};
  const int64_t last = min_of((unit + 1) * kUnitChunks, a.regions.chunks);
  for (int64_t chunk = unit * kUnitChunks; chunk < last; ++chunk) {
    const Chunk k = chunk_at(a, n, chunk);
    const S* shift[2] = {x + k.first[0] * C, x + k.first[1] * C};
    for (int64_t i = 0; i < 4 * C; ++i) sums[i] = 0;
    for (int64_t s = k.s0; s < k.s1;) {
      const int64_t stop = min_of(s + kFlush, k.s1);
      for (; s < stop; ++s) {
        const int r = k.labels[s];
        add_pixel<S>(x + s * C, shift[r], acc + r * 2 * C, acc + (r * 2 + 1) * C, C);
      }
      flush(acc, sums, 4 * C);
    }
    for (int r = 0; r < 2; ++r) {
      for (int64_t c = 0; c < C; ++c) {
        Moments m{counts[r], out[r * 2 * C + c], out[(r * 2 + 1) * C + c]};
        merge_moments(&m, moments_from_shifted(k.count[r], static_cast<double>(shift[r][c]),
                                               sums[r * 2 * C + c], sums[(r * 2 + 1) * C + c]));
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
        for (int64_t t = 0; t < a.n * units; ++t) unit_body(t / units, t % units, c);
        a.finish(a.context, c);
        for (int64_t n = 0; n < a.n; ++n) {
          for (int64_t k = 0; k < chunks; ++k) chunk_body(chunk_at(a, n, k), n, c);
        }
      }
    });
  }
  bool ok = parallel_for(a.pool, a.n * units * a.c, min_of(a.s, kChunk * kUnitChunks),
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
  bool ok = parallel_for(a.pool, a.n * units, min_of(a.s, kChunk * kUnitChunks) * a.c,
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

// kMaps: gamma and beta per pixel on top of the normalized value.
template <class S, bool kMaps>
void apply_chunk(const RegionNormArgs& a, const Chunk& k, int64_t n, int64_t c) {
  using T = Compute<S>;
  constexpr int kLanes = Lanes<T>::count;
  const S* __restrict x = static_cast<const S*>(a.x) + (n * a.c + c) * a.s;
  S* __restrict y = static_cast<S*>(a.out) + (n * a.c + c) * a.s;
  const T* gamma = kMaps ? static_cast<const T*>(a.maps) + n * 2 * a.s : nullptr;
  const T* beta = kMaps ? gamma + a.s : nullptr;
  const Choice<T> mean(table<T>(a, a.mean, n), a.c, c), scale(table<T>(a, a.scale, n), a.c, c),
      shift(table<T>(a, a.shift, n), a.c, c);
  int64_t s = k.s0;
  for (; s + kLanes <= k.s1; s += kLanes) {
    const int region = region_of<T>(k.labels + s);
    const auto hole = load_labels<T>(k.labels + s);
    Vec<T> out =
        (load(x + s) - mean.at(region, hole)) * scale.at(region, hole) + shift.at(region, hole);
    if (kMaps) out = out * (load(gamma + s) + T(1)) + load(beta + s);
    store(y + s, out);
  }
  for (; s < k.s1; ++s) {
    const int r = k.labels[s];
    T out = (x[s] - mean.of[r]) * scale.of[r] + shift.of[r];
    if (kMaps) out = out * (gamma[s] + T(1)) + beta[s];
    y[s] = out;
  }
}

template <class S, bool kMaps>
void apply_pixel(const RegionNormArgs& a, int64_t n, int64_t s, int r) {
  using T = Compute<S>;
  const int64_t C = a.c, at = (n * a.s + s) * C;
  const S* __restrict x = static_cast<const S*>(a.x) + at;
  S* __restrict y = static_cast<S*>(a.out) + at;
  const T* __restrict mean = table<T>(a, a.mean, n) + r * C;
  const T* __restrict scale = table<T>(a, a.scale, n) + r * C;
  const T* __restrict shift = table<T>(a, a.shift, n) + r * C;
  const T* maps = kMaps ? static_cast<const T*>(a.maps) + n * 2 * a.s + s : nullptr;
  const T gain = kMaps ? maps[0] + T(1) : T(1);
  const T offset = kMaps ? maps[a.s] : T(0);
  INPAINT_IVDEP
  for (int64_t c = 0; c < C; ++c) {
    const T out = (x[c] - mean[c]) * scale[c] + shift[c];
    y[c] = kMaps ? out * gain + offset : out;
  }
}

template <class S, bool kMaps>
bool forward(const RegionNormArgs& a) {
  using T = Compute<S>;
  if (a.channels_last) {
    return two_passes_channels_last<T>(
        a,
        [&](int64_t n, int64_t unit, T* acc, double* sums, double* out) {
          statistics_unit<S>(a, n, unit, acc, sums, out);
        },
        [&](int64_t n, int64_t s, int r) { apply_pixel<S, kMaps>(a, n, s, r); });
  }
  return two_passes_contiguous(
      a, [&](int64_t n, int64_t unit, int64_t c) { plane_moments<S>(a, n, unit, c); },
      [&](const Chunk& k, int64_t n, int64_t c) { apply_chunk<S, kMaps>(a, k, n, c); });
}

// ---- backward, plain form --------------------------------------------------------------------

// Sums of g and of g * (x - mean), by region.
template <class S, class T = Compute<S>>
void chunk_sums(const Chunk& k, const S* x, const S* g, const Choice<T>& mean, double out[4]) {
  constexpr int kLanes = Lanes<T>::count;
  RegionSums<T> sums;
  int64_t s = k.s0;
  for (; s + kLanes <= k.s1; s += kLanes) {
    const Vec<T> v = load(x + s), grad = load(g + s);
    const int region = region_of<T>(k.labels + s);
    if (region == 0) {
      sums.template add<0>(grad, grad * (v - mean.wide[0]));
    } else if (region == 1) {
      sums.template add<1>(grad, grad * (v - mean.wide[1]));
    } else {
      const auto hole = load_labels<T>(k.labels + s);
      sums.add_mixed(hole, grad, grad * (v - mean.at(-1, hole)));
    }
  }
  sums.collect(out);
  for (; s < k.s1; ++s) {
    const int r = k.labels[s];
    out[r * 2] += static_cast<double>(g[s]);
    out[r * 2 + 1] += static_cast<double>(g[s] * (x[s] - mean.of[r]));
  }
}

template <class S, class T = Compute<S>>
void sums_unit(const RegionNormArgs& a, int64_t n, int64_t unit, T* acc, double* out) {
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
      T* __restrict sum = acc + r * 2 * C;
      T* __restrict product = sum + C;
      INPAINT_IVDEP
      for (int64_t c = 0; c < C; ++c) {
        sum[c] += g[c];
        product[c] += g[c] * (x[c] - mean[c]);
      }
    }
    flush(acc, out, 4 * C);
  }
}

template <class S>
void plane_sums(const RegionNormArgs& a, int64_t n, int64_t unit, int64_t c) {
  using T = Compute<S>;
  const int64_t plane = n * a.c + c;
  const Choice<T> mean(table<T>(a, a.mean, n), a.c, c);
  double sums[4] = {0, 0, 0, 0};
  const int64_t last = min_of((unit + 1) * kUnitChunks, a.regions.chunks);
  for (int64_t chunk = unit * kUnitChunks; chunk < last; ++chunk) {
    chunk_sums<S>(chunk_at(a, n, chunk), static_cast<const S*>(a.x) + plane * a.s,
                  static_cast<const S*>(a.grad) + plane * a.s, mean, sums);
  }
  double* out = a.partials + (n * units_of(a) + unit) * 4 * a.c;
  for (int i = 0; i < 4; ++i) out[i * a.c + c] = sums[i];
}

// grad_x = scale * (g - k1 - (x - mean) * k2)
template <class S>
void backward_chunk(const RegionNormArgs& a, const Chunk& k, int64_t n, int64_t c) {
  using T = Compute<S>;
  constexpr int kLanes = Lanes<T>::count;
  const int64_t plane = (n * a.c + c) * a.s;
  const S* __restrict x = static_cast<const S*>(a.x) + plane;
  const S* __restrict g = static_cast<const S*>(a.grad) + plane;
  S* __restrict out = static_cast<S*>(a.out) + plane;
  const Choice<T> mean(table<T>(a, a.mean, n), a.c, c), scale(table<T>(a, a.scale, n), a.c, c),
      k1(table<T>(a, a.k1, n), a.c, c), k2(table<T>(a, a.k2, n), a.c, c);
  int64_t s = k.s0;
  for (; s + kLanes <= k.s1; s += kLanes) {
    const int region = region_of<T>(k.labels + s);
    const auto hole = load_labels<T>(k.labels + s);
    const Vec<T> centered = load(x + s) - mean.at(region, hole);
    store(out + s, scale.at(region, hole) *
                       (load(g + s) - k1.at(region, hole) - centered * k2.at(region, hole)));
  }
  for (; s < k.s1; ++s) {
    const int r = k.labels[s];
    out[s] = scale.of[r] * (g[s] - k1.of[r] - (x[s] - mean.of[r]) * k2.of[r]);
  }
}

template <class S>
void backward_pixel(const RegionNormArgs& a, int64_t n, int64_t s, int r) {
  using T = Compute<S>;
  const int64_t C = a.c, at = (n * a.s + s) * C;
  const S* __restrict x = static_cast<const S*>(a.x) + at;
  const S* __restrict g = static_cast<const S*>(a.grad) + at;
  S* __restrict out = static_cast<S*>(a.out) + at;
  const T* __restrict mean = table<T>(a, a.mean, n) + r * C;
  const T* __restrict scale = table<T>(a, a.scale, n) + r * C;
  const T* __restrict k1 = table<T>(a, a.k1, n) + r * C;
  const T* __restrict k2 = table<T>(a, a.k2, n) + r * C;
  INPAINT_IVDEP
  for (int64_t c = 0; c < C; ++c) {
    out[c] = scale[c] * (g[c] - k1[c] - (x[c] - mean[c]) * k2[c]);
  }
}

template <class S>
bool backward(const RegionNormArgs& a) {
  using T = Compute<S>;
  if (a.channels_last) {
    return two_passes_channels_last<T>(
        a,
        [&](int64_t n, int64_t unit, T* acc, double*, double* out) {
          sums_unit<S>(a, n, unit, acc, out);
        },
        [&](int64_t n, int64_t s, int r) { backward_pixel<S>(a, n, s, r); });
  }
  return two_passes_contiguous(
      a, [&](int64_t n, int64_t unit, int64_t c) { plane_sums<S>(a, n, unit, c); },
      [&](const Chunk& k, int64_t n, int64_t c) { backward_chunk<S>(a, k, n, c); });
}

}  // namespace

bool region_forward(const RegionNormArgs& a) {
  return for_type(a.dtype, [&](auto zero) {
    using S = decltype(zero);
    return a.maps ? forward<S, true>(a) : forward<S, false>(a);
  });
}

bool region_backward(const RegionNormArgs& a) {
  return for_type(a.dtype, [&](auto zero) { return backward<decltype(zero)>(a); });
}

}  // namespace INPAINT_SIMD
}  // namespace inpaint
