// Count, mean and sum of squared deviations of a set of values, and how two sets merge
// (Chan, Golub, LeVeque 1979). Stable for means far from zero, unlike E[x^2] - E[x]^2.
#pragma once

#include "portable.h"

namespace inpaint {

struct Moments {
  double count = 0;
  double mean = 0;
  double m2 = 0;
};

// From sums of (x - shift) and (x - shift)^2 over `count` values.
INPAINT_HOST_DEVICE Moments moments_from_shifted(double count, double shift, double sum,
                                                 double squares) {
  Moments out;
  if (count > 0) {
    const double offset = sum / count;
    const double m2 = squares - sum * offset;
    out.count = count;
    out.mean = shift + offset;
    out.m2 = m2 < 0 ? 0 : m2;  // a NaN stays: it fails the comparison
  }
  return out;
}

INPAINT_HOST_DEVICE void merge_moments(Moments* into, const Moments& other) {
  if (other.count <= 0) return;
  if (into->count <= 0) {
    *into = other;
    return;
  }
  const double total = into->count + other.count;
  const double delta = other.mean - into->mean;
  into->mean += delta * (other.count / total);
  into->m2 += other.m2 + delta * delta * (into->count * other.count / total);
  into->count = total;
}

}  // namespace inpaint
