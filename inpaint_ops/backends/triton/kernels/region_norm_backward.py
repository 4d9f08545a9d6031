"""Gradients of region normalization: sums by region, and the gradient of x.

With u the gradient of the normalized value, w a region's weights, d = w (x - mu), W = sum of w:

    grad_x = sum over regions of w rstd (u - a - b d)
    b = rstd^2 sum(u d) / W      a = sum(w u) / W - b sum(w d) / W
"""

from __future__ import annotations

import triton
import triton.language as tl

from .common import at_pixels, through_activation, tile
from .region_norm import affine, mixed, normalized, row, weights


@triton.jit
def deviation(x, w, mean, group, region, c, C):
    """w (x - mu); a pixel outside the region is selected away."""
    return tl.where(w == 0, 0.0, w * (x - row(mean, group, region, c, C)))


@triton.jit
def sums_kernel(
    grad, x, mask, weight, bias, mean, rstd, ratio, new_mask, slope, partials,
    C, P, chunks, sn, sc, sp, mn, rn, kn,
    INSTANCE: tl.constexpr, HAS_WEIGHT: tl.constexpr, HAS_BIAS: tl.constexpr, ONE: tl.constexpr,
    FRAMED: tl.constexpr, TILES: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sums of w, w u, u d, w d, w grad and w grad normalized, (N * chunks, 2, 6, C)."""
    rows = tl.cdiv(C, BLOCK_C)
    pid = tl.program_id(0)
    chunk = (pid // rows).to(tl.int64)
    n = chunk // chunks
    c = (pid % rows).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    group = n * INSTANCE
    zero = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    wu0, ud0, wd0, wg0, wy0 = zero, zero, zero, zero, zero
    wu1, ud1, wd1, wg1, wy1 = zero, zero, zero, zero, zero
    share0 = tl.zeros([BLOCK_P, 1], tl.float32)
    share1 = share0
    for t in range(TILES):
        p = (chunk % chunks * TILES + t) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
        inside = (p < P) & (c < C)
        at = n * sn + c * sc + p * sp
        value = tl.load(x + at, mask=inside, other=0).to(tl.float32)
        g = tl.load(grad + at, mask=inside, other=0).to(tl.float32)
        if FRAMED:
            value *= at_pixels(ratio, n, p, P, rn)
        w0, w1 = weights(mask, n, p, P, mn, ONE)
        out = normalized(value, w0, w1, mean, rstd, group, c, C, ONE)
        if FRAMED:
            made = affine(out, weight, bias, w0, w1, n, p, c, C, P, HAS_WEIGHT, HAS_BIAS, 0, ONE)
            g = through_activation(g, made, at_pixels(new_mask, n, p, P, kn), slope)
        u = g * mixed(weight, w0, w1, c, C, ONE) if HAS_WEIGHT else g
        out *= g
        d0 = deviation(value, w0, mean, group, 0, c, C)
        share0 += w0
        wu0 += w0 * u
        ud0 += u * d0
        wd0 += w0 * d0
        wg0 += w0 * g
        wy0 += tl.where(w0 == 0, 0.0, w0 * out)
        if not ONE:
            d1 = deviation(value, w1, mean, group, 1, c, C)
            share1 += w1
            wu1 += w1 * u
            ud1 += u * d1
            wd1 += w1 * d1
            wg1 += w1 * g
            wy1 += tl.where(w1 == 0, 0.0, w1 * out)
    C = tl.cast(C, tl.int64)
    at = partials + chunk * 12 * C + c
    leave(at, C, c, share0, wu0, ud0, wd0)
    tl.store(at + 4 * C, tl.sum(wg0, 0)[None, :], mask=c < C)
    tl.store(at + 5 * C, tl.sum(wy0, 0)[None, :], mask=c < C)
    if not ONE:
        leave(at + 6 * C, C, c, share1, wu1, ud1, wd1)
        tl.store(at + 10 * C, tl.sum(wg1, 0)[None, :], mask=c < C)
        tl.store(at + 11 * C, tl.sum(wy1, 0)[None, :], mask=c < C)


@triton.jit
def leave(at, C, c, share, wu, ud, wd):
    """Write the sums that the gradient of x needs of one region, C apart."""
    C = tl.cast(C, tl.int64)
    total = tl.sum(wu, 0)[None, :]
    tl.store(at, tl.zeros_like(total) + tl.sum(share), mask=c < C)
    tl.store(at + C, total, mask=c < C)
    tl.store(at + 2 * C, tl.sum(ud, 0)[None, :], mask=c < C)
    tl.store(at + 3 * C, tl.sum(wd, 0)[None, :], mask=c < C)


@triton.jit
def coefficients_kernel(
    partials, rstd, coefficients, C, chunks,
    REGIONS: tl.constexpr, SLOTS: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One region of one group: a and b, (groups, REGIONS, 2, C); ``partials`` (., 2, SLOTS, C)."""
    rows = tl.cdiv(C, BLOCK_C)
    C = tl.cast(C, tl.int64)
    pid = tl.program_id(0)
    c = (pid % rows).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    region = (pid // rows % REGIONS).to(tl.int64)
    group = (pid // rows // REGIONS).to(tl.int64)
    zero = tl.zeros([BLOCK_I, BLOCK_C], tl.float64)
    share, wu, ud, wd = zero, zero, zero, zero
    for start in range(0, chunks, BLOCK_I):
        i = start + tl.arange(0, BLOCK_I)[:, None]
        inside = (i < chunks) & (c < C)[None, :]
        at = partials + ((group * chunks + i) * 2 + region) * SLOTS * C + c[None, :]
        share += tl.load(at, mask=inside, other=0)
        wu += tl.load(at + C, mask=inside, other=0)
        ud += tl.load(at + 2 * C, mask=inside, other=0)
        wd += tl.load(at + 3 * C, mask=inside, other=0)
    total = tl.sum(share, 0)
    total = tl.where(total > 0, total, 1.0)
    scale = tl.load(rstd + (group * REGIONS + region) * C + c, mask=c < C, other=0)
    b = scale * scale * tl.sum(ud, 0) / total
    a = tl.sum(wu, 0) / total - b * tl.sum(wd, 0) / total
    out = coefficients + (group * REGIONS + region) * 2 * C + c
    tl.store(out, a.to(tl.float32), mask=c < C)
    tl.store(out + C, b.to(tl.float32), mask=c < C)


@triton.jit
def part(x, u, w, mean, rstd, coefficients, group, region, c, C, FIXED: tl.constexpr):
    """One region's part of the gradient of x; FIXED: the statistics do not depend on x."""
    if not FIXED:
        C = tl.cast(C, tl.int64)
        at = coefficients + (group * 2 + region) * 2 * C + c
        a = tl.load(at, mask=c < C, other=0)
        b = tl.load(at + C, mask=c < C, other=0)
        u -= a + b * deviation(x, w, mean, group, region, c, C)
    return tl.where(w == 0, 0.0, w * row(rstd, group, region, c, C) * u)


@triton.jit
def input_kernel(
    grad, x, mask, weight, bias, mean, rstd, coefficients, grad_pooled, argmax,
    ratio, new_mask, slope, grad_x, C, P, sn, sc, sp, mn, rn, kn,
    INSTANCE: tl.constexpr, HAS_WEIGHT: tl.constexpr, HAS_BIAS: tl.constexpr, MAPS: tl.constexpr,
    ONE: tl.constexpr, FRAMED: tl.constexpr, FIXED: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """The gradient of x; with MAPS, that through the mean and maximum over channels too."""
    n, p, c = tile(C, P, BLOCK_P, BLOCK_C)
    inside = (p < P) & (c < C)
    at = n * sn + c * sc + p * sp
    value = tl.load(x + at, mask=inside, other=0).to(tl.float32)
    u = tl.load(grad + at, mask=inside, other=0).to(tl.float32)
    w0, w1 = weights(mask, n, p, P, mn, ONE)
    group = n * INSTANCE
    if FRAMED:
        factor = at_pixels(ratio, n, p, P, rn)
        value *= factor
        made = normalized(value, w0, w1, mean, rstd, group, c, C, ONE)
        made = affine(made, weight, bias, w0, w1, n, p, c, C, P, HAS_WEIGHT, HAS_BIAS, MAPS, ONE)
        u = through_activation(u, made, at_pixels(new_mask, n, p, P, kn), slope)
    if HAS_WEIGHT:
        u *= mixed(weight, w0, w1, c, C, ONE)
    if MAPS:
        u *= 1.0 + tl.load(weight + n * 2 * P + p, mask=p < P, other=0)
    out = part(value, u, w0, mean, rstd, coefficients, group, 0, c, C, FIXED)
    if not ONE:
        out += part(value, u, w1, mean, rstd, coefficients, group, 1, c, C, FIXED)
    if MAPS:
        P = tl.cast(P, tl.int64)
        pooled = grad_pooled + n * 2 * P + p
        best = tl.load(argmax + n * P + p, mask=p < P, other=-1)
        out += tl.load(pooled, mask=p < P, other=0) / C
        out += tl.where(best == c, tl.load(pooled + P, mask=p < P, other=0), 0.0)
    if FRAMED:
        out *= factor
    tl.store(grad_x + at, out.to(grad_x.dtype.element_ty), mask=inside)
