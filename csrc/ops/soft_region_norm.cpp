// Region normalization with soft labels: a pixel belongs to the valid region by m and to the hole
// by 1 - m. Rare, so written for reading, in float64, one channel per task. With w = m or 1 - m:
//
//   mu = sum(w x) / sum(w)      var = sum(w^2 (x - mu)^2) / sum(w)
//   normalized = sum over regions of w (x - mu) / sqrt(var + eps * pixels / sum(w))
#include <cmath>

#include "region_norm.h"

namespace inpaint {

namespace {

// Element access that is blind to the memory order.
struct Problem {
  Dense dense;
  Values x, mask, weight, bias, ratio, new_mask;
  int64_t mask_n_stride = 0, ratio_n_stride = 0, new_mask_n_stride = 0;
  double slope = 1;
  bool has_weight = false, has_bias = false, instance = false, block = false;

  int64_t at(int64_t n, int64_t c, int64_t s) const {
    return dense.channels_last ? (n * dense.s + s) * dense.c + c : (n * dense.c + c) * dense.s + s;
  }
  double share(int64_t n, int64_t s, int r) const {
    const double m = mask[n * mask_n_stride + s];
    return r == 0 ? m : 1.0 - m;
  }
  double gain(int r, int64_t c) const { return has_weight ? weight[r * dense.c + c] : 1.0; }
  double offset(int r, int64_t c) const { return has_bias ? bias[r * dense.c + c] : 0.0; }
  double value(int64_t n, int64_t c, int64_t s) const {
    return block ? x[at(n, c, s)] * factor(n, s) : x[at(n, c, s)];
  }
  double factor(int64_t n, int64_t s) const { return ratio[n * ratio_n_stride + s]; }
  // The result, given what has been normalized; and the gradient the other way.
  double activated(double u, int64_t n, int64_t s) const {
    if (!block) return u;
    return (u > 0 ? u : (slope == 0 && u < 0 ? 0.0 : u * slope)) * kept(n, s);
  }
  double gradient(double grad, double u, int64_t n, int64_t s) const {
    return block ? grad * kept(n, s) * (u > 0 ? 1.0 : slope) : grad;
  }
  double kept(int64_t n, int64_t s) const { return new_mask[n * new_mask_n_stride + s]; }
  int64_t groups() const { return instance ? dense.n : 1; }
  int64_t first_image(int64_t group) const { return instance ? group : 0; }
  int64_t last_image(int64_t group) const { return instance ? group + 1 : dense.n; }
};

Status make_problem(const TensorView& x, const Surround& surround, const TensorView& mask,
                    const TensorView& weight, const TensorView& bias, bool instance, Problem* p) {
  INPAINT_TRY(check_dense("x", x, &p->dense));
  INPAINT_TRY(check_planes("mask", mask, x, 1, &p->mask_n_stride));
  p->x = {x.data, x.dtype};
  p->block = surround.ratio.defined();
  if (p->block) {
    INPAINT_TRY(check_planes("ratio", surround.ratio, x, 1, &p->ratio_n_stride));
    INPAINT_TRY(check_planes("new_mask", surround.new_mask, x, 1, &p->new_mask_n_stride));
    p->ratio = {surround.ratio.data, surround.ratio.dtype};
    p->new_mask = {surround.new_mask.data, surround.new_mask.dtype};
    p->slope = surround.slope;
  }
  p->mask = {mask.data, mask.dtype};
  p->weight = {weight.data, weight.dtype};
  p->bias = {bias.data, bias.dtype};
  p->has_weight = weight.defined();
  p->has_bias = bias.defined();
  p->instance = instance;
  return {};
}

template <class Body>
void for_pixels(const Problem& p, int64_t group, const Body& body) {
  for (int64_t n = p.first_image(group); n < p.last_image(group); ++n) {
    for (int64_t s = 0; s < p.dense.s; ++s) body(n, s);
  }
}

}  // namespace

Status soft_region_norm_forward(ParallelFor pool, const TensorView& x, const Surround& surround,
                                const TensorView& mask, const TensorView& weight,
                                const TensorView& bias, double eps, bool scale_eps, bool instance,
                                const TensorView& y, double* mean, double* rstd) {
  Problem p;
  INPAINT_TRY(make_problem(x, surround, mask, weight, bias, instance, &p));
  const int64_t C = p.dense.c;
  return pool_status(parallel_for(pool, p.groups() * C, p.dense.s, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t group = t / C, c = t % C;
      double mu[2], scale[2];
      for (int r = 0; r < 2; ++r) {
        double share = 0, sum = 0, squares = 0, pixels = 0;
        for_pixels(p, group, [&](int64_t n, int64_t s) {
          const double w = p.share(n, s, r);
          pixels += 1;
          share += w;
          if (w != 0) sum += w * p.value(n, c, s);
        });
        mu[r] = share > 0 ? sum / share : 0.0;
        for_pixels(p, group, [&](int64_t n, int64_t s) {
          const double w = p.share(n, s, r);
          const double d = w != 0 ? w * (p.value(n, c, s) - mu[r]) : 0.0;
          squares += d * d;
        });
        const double eps_r = scale_eps ? eps * pixels / share : eps;
        scale[r] = share > 0 ? 1.0 / std::sqrt(squares / share + eps_r) : 0.0;
        mean[(group * 2 + r) * C + c] = mu[r];
        rstd[(group * 2 + r) * C + c] = scale[r];
      }
      for_pixels(p, group, [&](int64_t n, int64_t s) {
        double normalized = 0, gain = 0, offset = 0;
        for (int r = 0; r < 2; ++r) {
          const double w = p.share(n, s, r);
          if (w != 0) normalized += w * (p.value(n, c, s) - mu[r]) * scale[r];
          gain += w * p.gain(r, c);
          offset += w * p.offset(r, c);
        }
        set_value(y, p.at(n, c, s), p.activated(normalized * gain + offset, n, s));
      });
    }
  }));
}

Status soft_region_norm_backward(ParallelFor pool, const TensorView& grad, const TensorView& x,
                                 const Surround& surround, const TensorView& mask,
                                 const TensorView& weight, const TensorView& bias,
                                 const double* mean, const double* rstd, bool instance,
                                 const TensorView& grad_x, const TensorView& grad_weight,
                                 const TensorView& grad_bias) {
  Problem p;
  INPAINT_TRY(make_problem(x, surround, mask, weight, bias, instance, &p));
  const Values grads{grad.data, grad.dtype};
  const int64_t C = p.dense.c;
  return pool_status(parallel_for(pool, C, p.dense.s * p.groups(), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      double grad_w[2] = {0, 0}, grad_b[2] = {0, 0};
      for (int64_t group = 0; group < p.groups(); ++group) {
        double mu[2], scale[2], share[2], sum_u[2], sum_ud[2], sum_wwd[2];
        for (int r = 0; r < 2; ++r) {
          mu[r] = mean[(group * 2 + r) * C + c];
          scale[r] = rstd[(group * 2 + r) * C + c];
          share[r] = sum_u[r] = sum_ud[r] = sum_wwd[r] = 0;
        }
        // What arrives at the affine map.
        const auto arriving = [&](int64_t n, int64_t s, const double w[2], double gain) {
          double u = w[0] * p.offset(0, c) + w[1] * p.offset(1, c);
          for (int r = 0; r < 2; ++r) {
            if (w[r] != 0) u += w[r] * (p.value(n, c, s) - mu[r]) * scale[r] * gain;
          }
          return p.gradient(grads[p.at(n, c, s)], u, n, s);
        };
        // u is the gradient of w (x - mu) rstd, seen from the normalized value.
        for_pixels(p, group, [&](int64_t n, int64_t s) {
          const double w[2] = {p.share(n, s, 0), p.share(n, s, 1)};
          const double gain = w[0] * p.gain(0, c) + w[1] * p.gain(1, c);
          const double g = arriving(n, s, w, gain);
          double normalized = 0;
          for (int r = 0; r < 2; ++r) {
            const double d = w[r] != 0 ? p.value(n, c, s) - mu[r] : 0.0, u = w[r] * g * gain;
            normalized += w[r] * d * scale[r];
            share[r] += w[r];
            sum_u[r] += u;
            sum_ud[r] += u * d;
            sum_wwd[r] += w[r] * w[r] * d;
          }
          for (int r = 0; r < 2; ++r) {
            grad_w[r] += g * normalized * w[r];
            grad_b[r] += g * w[r];
          }
        });
        for_pixels(p, group, [&](int64_t n, int64_t s) {
          const double w[2] = {p.share(n, s, 0), p.share(n, s, 1)};
          const double gain = w[0] * p.gain(0, c) + w[1] * p.gain(1, c);
          const double g = arriving(n, s, w, gain);
          double out = 0;
          for (int r = 0; r < 2; ++r) {
            if (w[r] == 0 || share[r] <= 0) continue;
            const double cube = scale[r] * scale[r] * scale[r];
            out += w[r] * g * gain * scale[r] - w[r] / share[r] * scale[r] * sum_u[r] -
                   cube * sum_ud[r] / share[r] *
                       (w[r] * w[r] * (p.value(n, c, s) - mu[r]) - w[r] / share[r] * sum_wwd[r]);
          }
          set_value(grad_x, p.at(n, c, s), p.block ? out * p.factor(n, s) : out);
        });
      }
      for (int r = 0; grad_weight.defined() && r < 2; ++r) {
        set_value(grad_weight, r * C + c, grad_w[r]);
        set_value(grad_bias, r * C + c, grad_b[r]);
      }
    }
  }));
}

}  // namespace inpaint
