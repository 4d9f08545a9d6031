// What the learned form of region normalization (RN_L) adds: the channel mean and maximum that its
// attention map is made from, and a backward that gives the gradients of the per-pixel gamma and
// beta in the pass that sums by region, and adds the gradient of mean and maximum in the pass that
// writes grad_x.
#include "region_norm.h"

namespace inpaint {
namespace INPAINT_SIMD {
namespace {

// torch.max's choice: the first of equal values, and a NaN before anything else.
template <class T>
INPAINT_INLINE bool replaces(T value, T best) {
  return !(value <= best) && best == best;
}

template <class S>
void pool_chunk(const RegionNormArgs& a, int64_t n, int64_t s0, int64_t count) {
  using T = Compute<S>;
  const S* x = static_cast<const S*>(a.x) + n * a.c * a.s + s0;
  T* __restrict mean = static_cast<T*>(a.pooled) + n * 2 * a.s + s0;
  T* __restrict best = mean + a.s;
  int32_t* __restrict arg = a.argmax_out + n * a.s + s0;
  for (int64_t i = 0; i < count; ++i) {
    mean[i] = best[i] = x[i];
    arg[i] = 0;
  }
  for (int64_t c = 1; c < a.c; ++c) {
    const S* __restrict row = x + c * a.s;
    const int32_t channel = static_cast<int32_t>(c);
    INPAINT_IVDEP
    for (int64_t i = 0; i < count; ++i) {
      const T v = row[i];
      const bool take = replaces(v, best[i]);
      mean[i] += v;
      best[i] = take ? v : best[i];
      arg[i] = take ? channel : arg[i];
    }
  }
  const T channels = static_cast<T>(a.c);
  for (int64_t i = 0; i < count; ++i) mean[i] /= channels;
}

template <class S>
void pool_pixel(const RegionNormArgs& a, int64_t n, int64_t s) {
  using T = Compute<S>;
  constexpr int kLanes = Lanes<T>::count;
  const S* x = static_cast<const S*>(a.x) + (n * a.s + s) * a.c;
  double sum = 0;
  T best = x[0];
  int64_t arg = 0, c = 0;
  if (a.c >= kLanes) {
    Vec<T> total = load(x), top = total;
    typename Lanes<T>::Int where{}, index{};
    for (int i = 0; i < kLanes; ++i) where[i] = index[i] = i;
    for (c = kLanes; c + kLanes <= a.c; c += kLanes) {
      const Vec<T> v = load(x + c);
      index += kLanes;
      total += v;
      const auto take = ~(v <= top) & (top == top);
      top = take ? v : top;
      where = take ? index : where;
    }
    sum = horizontal_sum<T>(total);
    T values[kLanes];
    typename Lanes<T>::Index indices[kLanes];
    __builtin_memcpy(values, &top, sizeof(top));
    __builtin_memcpy(indices, &where, sizeof(where));
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int i = 0; i < width; ++i) {
        const T other = values[i + width];
        const bool both_nan = other != other && values[i] != values[i];
        const bool tie = (other == values[i] || both_nan) && indices[i + width] < indices[i];
        const bool take = replaces(other, values[i]) || tie;
        values[i] = take ? other : values[i];
        indices[i] = take ? indices[i + width] : indices[i];
      }
    }
    best = values[0];
    arg = indices[0];
  }
  for (; c < a.c; ++c) {
    sum += static_cast<double>(x[c]);
    const T value = x[c];
    if (replaces(value, best)) {
      best = value;
      arg = c;
    }
  }
  T* pooled = static_cast<T*>(a.pooled) + n * 2 * a.s + s;
  pooled[0] = static_cast<T>(sum / static_cast<double>(a.c));
  pooled[a.s] = best;
  a.argmax_out[n * a.s + s] = static_cast<int32_t>(arg);
}

template <class S>
bool pool(const RegionNormArgs& a) {
  if (a.channels_last) {
    return parallel_for(a.pool, a.n * a.s, a.c, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) pool_pixel<S>(a, p / a.s, p % a.s);
    });
  }
  const int64_t chunks = (a.s + kChunk - 1) / kChunk;
  return parallel_for(a.pool, a.n * chunks, min_of(a.s, kChunk) * a.c,
                      [&](int64_t begin, int64_t end) {
                        for (int64_t t = begin; t < end; ++t) {
                          const int64_t s0 = t % chunks * kChunk;
                          pool_chunk<S>(a, t / chunks, s0, min_of(kChunk, a.s - s0));
                        }
                      });
}

// ---- gradients of gamma and beta, and the sums by region -------------------------------------

template <class S, bool kBlock>
void maps_chunk(const RegionNormArgs& a, const Chunk& k, int64_t n, int64_t c, double sums[4]) {
  using T = Compute<S>;
  constexpr int kLanes = Lanes<T>::count;
  const int64_t plane = (n * a.c + c) * a.s;
  const S* __restrict x = static_cast<const S*>(a.x) + plane;
  const S* __restrict g = static_cast<const S*>(a.grad) + plane;
  const Frame<T, kBlock> frame(a, n);
  const T* __restrict gamma = static_cast<const T*>(a.maps) + n * 2 * a.s;
  const T* __restrict beta = gamma + a.s;
  T* __restrict grad_gamma = static_cast<T*>(a.grad_maps) + n * 2 * a.s;
  T* __restrict grad_beta = grad_gamma + a.s;
  const Choice<T> mean(table<T>(a, a.mean, n), a.c, c), scale(table<T>(a, a.scale, n), a.c, c),
      shift(table<T>(a, a.shift, n), a.c, c);
  RegionSums<T> by_region;
  int64_t s = k.s0;
  for (; s + kLanes <= k.s1; s += kLanes) {
    const int region = region_of<T>(k.labels + s);
    const auto hole = load_labels<T>(k.labels + s);
    const Vec<T> centered = frame.input(x, s) - mean.at(region, hole);
    const Vec<T> normalized = centered * scale.at(region, hole) + shift.at(region, hole);
    const Vec<T> gain = load(gamma + s) + T(1);
    Vec<T> grad = load(g + s);
    if (kBlock) grad = frame.gradient(grad, normalized * gain + load(beta + s), frame.kept_by(s));
    store(grad_gamma + s, load(grad_gamma + s) + grad * normalized);
    store(grad_beta + s, load(grad_beta + s) + grad);
    const Vec<T> gained = grad * gain, product = gained * centered;
    if (region == 0) {
      by_region.template add<0>(gained, product);
    } else if (region == 1) {
      by_region.template add<1>(gained, product);
    } else {
      by_region.add_mixed(hole, gained, product);
    }
  }
  by_region.collect(sums);
  for (; s < k.s1; ++s) {
    const int r = k.labels[s];
    const T centered = frame.input_at(x, s) - mean.of[r], gain = gamma[s] + T(1);
    const T normalized = centered * scale.of[r] + shift.of[r];
    const T grad = frame.gradient(static_cast<T>(g[s]), normalized * gain + beta[s], frame.kept(s));
    grad_gamma[s] += grad * normalized;
    grad_beta[s] += grad;
    const T gained = grad * gain;
    sums[r * 2] += static_cast<double>(gained);
    sums[r * 2 + 1] += static_cast<double>(gained * centered);
  }
}

template <class S, bool kBlock>
void maps_unit_contiguous(const RegionNormArgs& a, int64_t n, int64_t unit, double* out) {
  using T = Compute<S>;
  for (int64_t i = 0; i < 4 * a.c; ++i) out[i] = 0;
  const int64_t last = min_of((unit + 1) * kUnitChunks, a.regions.chunks);
  for (int64_t chunk = unit * kUnitChunks; chunk < last; ++chunk) {
    const Chunk k = chunk_at(a, n, chunk);
    for (int64_t s = k.s0; s < k.s1; ++s) {
      static_cast<T*>(a.grad_maps)[n * 2 * a.s + s] = T(0);
      static_cast<T*>(a.grad_maps)[(n * 2 + 1) * a.s + s] = T(0);
    }
    for (int64_t c = 0; c < a.c; ++c) {
      double sums[4] = {0, 0, 0, 0};
      maps_chunk<S, kBlock>(a, k, n, c, sums);
      for (int i = 0; i < 4; ++i) out[i * a.c + c] += sums[i];
    }
  }
}

template <class S, bool kBlock, class T = Compute<S>>
void maps_pixel(const RegionNormArgs& a, int64_t n, int64_t s, T* __restrict sum,
                T* __restrict product) {
  constexpr int kLanes = Lanes<T>::count;
  const int64_t C = a.c, at = (n * a.s + s) * C;
  const int r = a.regions.labels[n * a.regions.n_stride + s];
  const S* x = static_cast<const S*>(a.x) + at;
  const S* g = static_cast<const S*>(a.grad) + at;
  const T* mean = table<T>(a, a.mean, n) + r * C;
  const T* scale = table<T>(a, a.scale, n) + r * C;
  const T* shift = table<T>(a, a.shift, n) + r * C;
  sum += r * 2 * C;
  product += r * 2 * C;
  const T* maps = static_cast<const T*>(a.maps) + n * 2 * a.s + s;
  const T gain = maps[0] + T(1), offset = maps[a.s];
  const Frame<T, kBlock> frame(a, n);
  const T factor = frame.factor(s), kept = frame.kept(s);
  Vec<T> gammas{}, betas{};
  int64_t c = 0;
  for (; c + kLanes <= C; c += kLanes) {
    const Vec<T> value = kBlock ? load(x + c) * factor : load(x + c);
    const Vec<T> centered = value - load(mean + c);
    const Vec<T> normalized = centered * load(scale + c) + load(shift + c);
    Vec<T> grad = load(g + c);
    if (kBlock) grad = frame.gradient(grad, normalized * gain + offset, splat<T>(kept));
    gammas += grad * normalized;
    betas += grad;
    const Vec<T> gained = grad * gain;
    store(sum + c, load(sum + c) + gained);
    store(product + c, load(product + c) + gained * centered);
  }
  double gamma_sum = horizontal_sum<T>(gammas), beta_sum = horizontal_sum<T>(betas);
  for (; c < C; ++c) {
    const T centered = x[c] * factor - mean[c];
    const T normalized = centered * scale[c] + shift[c];
    const T grad = frame.gradient(static_cast<T>(g[c]), normalized * gain + offset, kept);
    gamma_sum += static_cast<double>(grad * normalized);
    beta_sum += static_cast<double>(grad);
    sum[c] += grad * gain;
    product[c] += grad * gain * centered;
  }
  T* grad_maps = static_cast<T*>(a.grad_maps) + n * 2 * a.s + s;
  grad_maps[0] = static_cast<T>(gamma_sum);
  grad_maps[a.s] = static_cast<T>(beta_sum);
}

template <class S, bool kBlock>
bool maps(const RegionNormArgs& a) {
  using T = Compute<S>;
  const int64_t units = units_of(a), row = 4 * a.c;
  return parallel_for(a.pool, a.n * units, min_of(a.s, kChunk * kUnitChunks) * a.c,
                      [&](int64_t begin, int64_t end) {
                        for (int64_t t = begin; t < end; ++t) {
                          const int64_t n = t / units, unit = t % units;
                          double* __restrict out = a.partials + t * row;
                          if (!a.channels_last) {
                            maps_unit_contiguous<S, kBlock>(a, n, unit, out);
                            continue;
                          }
                          T* acc = reinterpret_cast<T*>(a.partials + (a.n * units + t) * row);
                          for (int64_t i = 0; i < row; ++i) out[i] = 0, acc[i] = T(0);
                          const int64_t s1 = min_of((unit + 1) * kUnitChunks * kChunk, a.s);
                          for (int64_t s = unit * kUnitChunks * kChunk; s < s1;) {
                            const int64_t stop = min_of(s + kFlush, s1);
                            for (; s < stop; ++s) maps_pixel<S, kBlock>(a, n, s, acc, acc + a.c);
                            for (int64_t i = 0; i < row; ++i) {
                              out[i] += static_cast<double>(acc[i]);
                              acc[i] = T(0);
                            }
                          }
                        }
                      });
}

// ---- gradient of the input -------------------------------------------------------------------

template <class S, bool kBlock>
void input_chunk(const RegionNormArgs& a, int64_t n, int64_t c, int64_t s0, int64_t s1) {
  using T = Compute<S>;
  const int64_t plane = (n * a.c + c) * a.s;
  const S* __restrict x = static_cast<const S*>(a.x) + plane;
  const S* __restrict g = static_cast<const S*>(a.grad) + plane;
  S* __restrict out = static_cast<S*>(a.out) + plane;
  const uint8_t* __restrict labels = a.regions.labels + n * a.regions.n_stride;
  const Frame<T, kBlock> frame(a, n);
  const T* __restrict gamma = static_cast<const T*>(a.maps) + n * 2 * a.s;
  const T* __restrict beta = gamma + a.s;
  const T* __restrict grad_mean = static_cast<const T*>(a.grad_pooled) + n * 2 * a.s;
  const T* __restrict grad_max = grad_mean + a.s;
  const int32_t* __restrict argmax = a.argmax + n * a.s;
  const Choice<T> mean(table<T>(a, a.mean, n), a.c, c), scale(table<T>(a, a.scale, n), a.c, c),
      shift(table<T>(a, a.shift, n), a.c, c), k1(table<T>(a, a.k1, n), a.c, c),
      k2(table<T>(a, a.k2, n), a.c, c);
  const T share = T(1) / static_cast<T>(a.c);
  const int32_t channel = static_cast<int32_t>(c);
  INPAINT_IVDEP
  for (int64_t s = s0; s < s1; ++s) {
    const bool hole = labels[s] != 0;
    const T factor = frame.factor(s), gain = gamma[s] + T(1);
    const T value = kBlock ? x[s] * factor : static_cast<T>(x[s]);
    const T centered = value - (hole ? mean.of[1] : mean.of[0]);
    const T scaling = hole ? scale.of[1] : scale.of[0];
    const T normalized = centered * scaling + (hole ? shift.of[1] : shift.of[0]);
    const T u = kBlock ? normalized * gain + beta[s] : T(0);
    const T gained = frame.gradient(static_cast<T>(g[s]), u, frame.kept(s)) * gain;
    const T through_norm =
        scaling * (gained - (hole ? k1.of[1] : k1.of[0]) - centered * (hole ? k2.of[1] : k2.of[0]));
    const T sum = through_norm + grad_mean[s] * share + (argmax[s] == channel ? grad_max[s] : T(0));
    out[s] = kBlock ? sum * factor : sum;
  }
}

template <class S, bool kBlock>
void input_pixel(const RegionNormArgs& a, int64_t n, int64_t s) {
  using T = Compute<S>;
  const int64_t C = a.c, at = (n * a.s + s) * C;
  const int r = a.regions.labels[n * a.regions.n_stride + s];
  const S* __restrict x = static_cast<const S*>(a.x) + at;
  const S* __restrict g = static_cast<const S*>(a.grad) + at;
  S* __restrict out = static_cast<S*>(a.out) + at;
  const T* __restrict mean = table<T>(a, a.mean, n) + r * C;
  const T* __restrict scale = table<T>(a, a.scale, n) + r * C;
  const T* __restrict shift = table<T>(a, a.shift, n) + r * C;
  const T* __restrict k1 = table<T>(a, a.k1, n) + r * C;
  const T* __restrict k2 = table<T>(a, a.k2, n) + r * C;
  const T* maps = static_cast<const T*>(a.maps) + n * 2 * a.s + s;
  const T gain = maps[0] + T(1), offset = maps[a.s];
  const Frame<T, kBlock> frame(a, n);
  const T factor = frame.factor(s), kept = frame.kept(s);
  const T* pooled = static_cast<const T*>(a.grad_pooled) + n * 2 * a.s + s;
  const T from_mean = pooled[0] / static_cast<T>(C);
  const auto value = [&](int64_t c) {
    const T centered = (kBlock ? x[c] * factor : static_cast<T>(x[c])) - mean[c];
    const T u = kBlock ? (centered * scale[c] + shift[c]) * gain + offset : T(0);
    const T gained = frame.gradient(static_cast<T>(g[c]), u, kept) * gain;
    return scale[c] * (gained - k1[c] - centered * k2[c]) + from_mean;
  };
  INPAINT_IVDEP
  for (int64_t c = 0; c < C; ++c) out[c] = value(c) * factor;
  const int64_t best = a.argmax[n * a.s + s];
  out[best] = (value(best) + pooled[a.s]) * factor;  // rounded once
}

template <class S, bool kBlock>
bool input(const RegionNormArgs& a) {
  if (a.channels_last) {
    return parallel_for(a.pool, a.n * a.s, a.c, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) input_pixel<S, kBlock>(a, p / a.s, p % a.s);
    });
  }
  const int64_t chunks = a.regions.chunks;
  return parallel_for(
      a.pool, a.n * a.c * chunks, min_of(a.s, kChunk), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          const int64_t plane = t / chunks, s0 = t % chunks * kChunk;
          input_chunk<S, kBlock>(a, plane / a.c, plane % a.c, s0, min_of(s0 + kChunk, a.s));
        }
      });
}

}  // namespace

bool channel_pool(const RegionNormArgs& a) {
  return for_type(a.dtype, [&](auto zero) { return pool<decltype(zero)>(a); });
}

bool attention_backward_maps(const RegionNormArgs& a) {
  return for_type(a.dtype, [&](auto zero) {
    using S = decltype(zero);
    return a.ratio ? maps<S, true>(a) : maps<S, false>(a);
  });
}

bool attention_backward_input(const RegionNormArgs& a) {
  return for_type(a.dtype, [&](auto zero) {
    using S = decltype(zero);
    return a.ratio ? input<S, true>(a) : input<S, false>(a);
  });
}

}  // namespace INPAINT_SIMD
}  // namespace inpaint
