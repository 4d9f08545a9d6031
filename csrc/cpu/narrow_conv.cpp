// Convolution into one to four channels, stride 1: the last layer of a generator. Libraries of
// dense convolutions put output channels into the lanes of a vector, so with three of them they
// leave most lanes empty. Here the lanes are pixels of a row (contiguous) or input channels
// (channels-last). An output is computed by one thread, in one order: no result depends on the cut.
#include "simd.h"

namespace inpaint {
namespace INPAINT_SIMD {
namespace {

constexpr int kRowVectors = 2;         // contiguous: vectors of pixels in flight for each output
constexpr int64_t kSegment = 256;      // contiguous: pixels of a row whose sums stay in L1
constexpr int64_t kFlushChannels = 8;  // contiguous: channels summed before the total takes over
constexpr int kPixels = 4;             // channels-last: pixels in flight

// ---- contiguous: weights packed (in, kh, kw, outputs) ------------------------------------------

// Adds the taps of one input row to the sums of a segment of all outputs.
template <class T, int kOut>
void add_taps(const T* row, const T* weight, int64_t taps, int64_t dilation, int64_t count,
              T (*sums)[kSegment]) {
  constexpr int kLanes = Lanes<T>::count;
  for (int64_t i = 0; i < count; i += kRowVectors * kLanes) {
    Vec<T> sum[kOut][kRowVectors];
    for (int q = 0; q < kOut; ++q) {
      for (int v = 0; v < kRowVectors; ++v) sum[q][v] = load(sums[q] + i + v * kLanes);
    }
    for (int64_t k = 0; k < taps; ++k) {
      for (int v = 0; v < kRowVectors; ++v) {
        const Vec<T> x = load(row + i + v * kLanes + k * dilation);
        for (int q = 0; q < kOut; ++q) sum[q][v] += x * weight[k * kOut + q];
      }
    }
    for (int q = 0; q < kOut; ++q) {
      for (int v = 0; v < kRowVectors; ++v) store(sums[q] + i + v * kLanes, sum[q][v]);
    }
  }
}

// A segment of one row of all outputs. Input rows are copied with their zero border, so that the
// loops know none; and rows of different channels, which often lie a power of two apart, do not
// compete for the same lines of the cache.
template <class T, int kOut>
void segment_contiguous(const NarrowConvArgs& a, int64_t n, int64_t oh, int64_t ow) {
  const int64_t count = min_of(kSegment, a.ow - ow), span = (a.kw - 1) * a.dilation[1];
  const int64_t h0 = oh - a.padding[0], w0 = ow - a.padding[1];
  int64_t kh0, kh1;
  taps_inside(h0, a.dilation[0], a.kh, a.h, &kh0, &kh1);
  T sums[kOut][kSegment] = {}, totals[kOut][kSegment] = {};
  T row[kSegment + kNarrowSpan] = {};
  const int64_t begin = w0 < 0 ? -w0 : 0, end = min_of(count + span, a.w - w0);
  for (int64_t c = 0; c < a.in; ++c) {
    const T* plane = static_cast<const T*>(a.x) + (n * a.in + c) * a.h * a.w;
    for (int64_t kh = kh0; kh < kh1; ++kh) {
      const T* source = plane + (h0 + kh * a.dilation[0]) * a.w + w0;
      INPAINT_IVDEP
      for (int64_t i = begin; i < end; ++i) row[i] = source[i];
      add_taps<T, kOut>(row, static_cast<const T*>(a.weight) + (c * a.kh + kh) * a.kw * kOut, a.kw,
                        a.dilation[1], count, sums);
    }
    if (c % kFlushChannels == kFlushChannels - 1 || c == a.in - 1) {
      for (int q = 0; q < kOut; ++q) {
        INPAINT_IVDEP
        for (int64_t i = 0; i < count; ++i) totals[q][i] += sums[q][i], sums[q][i] = T(0);
      }
    }
  }
  for (int q = 0; q < kOut; ++q) {
    T* out = static_cast<T*>(a.out) + ((n * kOut + q) * a.oh + oh) * a.ow + ow;
    for (int64_t i = 0; i < count; ++i) out[i] = totals[q][i];
  }
}

// ---- channels-last: weights packed (kh, kw, outputs, in), in padded to whole vectors -----------

// The last vector of a pixel's channels begins earlier, and the lanes that were read before are 0.
template <class T>
struct Tail {
  int64_t offset;
  typename Lanes<T>::Int fresh;
  INPAINT_INLINE explicit Tail(int64_t in) {
    constexpr int kLanes = Lanes<T>::count;
    const int64_t rest = in % kLanes;
    offset = in - kLanes;
    for (int i = 0; i < kLanes; ++i) fresh[i] = i >= kLanes - rest ? -1 : 0;
  }
};

template <class T, int kOut, int kCount>
void pixel_block(const NarrowConvArgs& a, const Tail<T>& tail, int64_t n, int64_t oh, int64_t ow) {
  constexpr int kLanes = Lanes<T>::count;
  Vec<T> sum[kOut][kCount] = {};
  const int64_t h0 = oh - a.padding[0], w0 = ow - a.padding[1];
  const int64_t whole = a.in / kLanes, padded = a.padded_in;
  int64_t kh0, kh1, kw0 = 0, kw1 = a.kw;
  taps_inside(h0, a.dilation[0], a.kh, a.h, &kh0, &kh1);
  if (kCount == 1) taps_inside(w0, a.dilation[1], a.kw, a.w, &kw0, &kw1);
  for (int64_t kh = kh0; kh < kh1; ++kh) {
    for (int64_t kw = kw0; kw < kw1; ++kw) {
      const int64_t h = h0 + kh * a.dilation[0], w = w0 + kw * a.dilation[1];
      const T* x = static_cast<const T*>(a.x) + ((n * a.h + h) * a.w + w) * a.in;
      const T* weight = static_cast<const T*>(a.weight) + (kh * a.kw + kw) * kOut * padded;
      for (int64_t k = 0; k < whole; ++k) {
        for (int p = 0; p < kCount; ++p) {
          const Vec<T> v = load(x + p * a.in + k * kLanes);
          for (int q = 0; q < kOut; ++q) sum[q][p] += v * load(weight + q * padded + k * kLanes);
        }
      }
      if (whole * kLanes < a.in) {
        const Vec<T> zero{};
        for (int p = 0; p < kCount; ++p) {
          const Vec<T> v = tail.fresh ? load(x + p * a.in + tail.offset) : zero;
          for (int q = 0; q < kOut; ++q) {
            sum[q][p] += v * load(weight + q * padded + whole * kLanes);
          }
        }
      }
    }
  }
  T* out = static_cast<T*>(a.out) + ((n * a.oh + oh) * a.ow + ow) * kOut;
  for (int p = 0; p < kCount; ++p) {
    for (int q = 0; q < kOut; ++q) {
      out[p * kOut + q] = static_cast<T>(horizontal_sum<T>(sum[q][p]));
    }
  }
}

template <class T, int kOut>
void row_channels_last(const NarrowConvArgs& a, int64_t n, int64_t oh) {
  const Tail<T> tail(a.in);
  const int64_t span = (a.kw - 1) * a.dilation[1];
  int64_t ow = 0;
  while (ow < a.ow) {
    const int64_t first = ow - a.padding[1];
    if (first >= 0 && first + kPixels + span <= a.w && ow + kPixels <= a.ow) {
      pixel_block<T, kOut, kPixels>(a, tail, n, oh, ow);
      ow += kPixels;
    } else {
      pixel_block<T, kOut, 1>(a, tail, n, oh, ow);
      ++ow;
    }
  }
}

template <class T, int kOut>
bool run(const NarrowConvArgs& a) {
  return parallel_for(a.pool, a.n * a.oh, capped(a.ow) * capped(a.in) * a.kh * a.kw,
                      [&](int64_t begin, int64_t end) {
                        for (int64_t t = begin; t < end; ++t) {
                          if (a.channels_last) {
                            row_channels_last<T, kOut>(a, t / a.oh, t % a.oh);
                          } else {
                            for (int64_t ow = 0; ow < a.ow; ow += kSegment) {
                              segment_contiguous<T, kOut>(a, t / a.oh, t % a.oh, ow);
                            }
                          }
                        }
                      });
}

template <class T>
bool run_outputs(const NarrowConvArgs& a) {
  switch (a.outputs) {
    case 1: return run<T, 1>(a);
    case 2: return run<T, 2>(a);
    case 3: return run<T, 3>(a);
    default: return run<T, 4>(a);
  }
}

}  // namespace

bool narrow_conv(const NarrowConvArgs& a) {
  return a.dtype == DType::kFloat64 ? run_outputs<double>(a) : run_outputs<float>(a);
}

}  // namespace INPAINT_SIMD
}  // namespace inpaint
