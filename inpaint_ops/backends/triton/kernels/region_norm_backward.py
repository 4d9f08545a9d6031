"""Gradients of region normalization: sums by region, and the gradient of x.

With u the gradient of the normalized value, w a region's weights, d = w (x - mu), W = sum of w:

    grad_x = sum over regions of w rstd (u - a - b d)
    b = rstd^2 sum(u d) / W      a = sum(w u) / W - b sum(w d) / W
"""

from __future__ import annotations

import triton
import triton.language as tl

from .common import tile
from .region_norm import mixed, normalized, row, weights


@triton.jit
def deviation(x, w, mean, group, region, c, C):
    """w (x - mu); a pixel outside the region is selected away."""
    return tl.where(w == 0, 0.0, w * (x - row(mean, group, region, c, C)))


@triton.jit
def sums_kernel(
    grad, x, mask, weight, mean, rstd, partials, C, P, chunks, sn, sc, sp, mn,
    INSTANCE: tl.constexpr, HAS_WEIGHT: tl.constexpr, TILES: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
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
        w0, w1 = weights(mask, n, p, P, mn)
        u = g * mixed(weight, w0, w1, c, C) if HAS_WEIGHT else g
        d0 = deviation(value, w0, mean, group, 0, c, C)
        d1 = deviation(value, w1, mean, group, 1, c, C)
        out = g * normalized(value, w0, w1, mean, rstd, group, c, C)
        share0 += w0
        share1 += w1
        wu0 += w0 * u
        wu1 += w1 * u
        ud0 += u * d0
        ud1 += u * d1
        wd0 += w0 * d0
        wd1 += w1 * d1
        wg0 += w0 * g
        wg1 += w1 * g
        wy0 += tl.where(w0 == 0, 0.0, w0 * out)
        wy1 += tl.where(w1 == 0, 0.0, w1 * out)
    C = tl.cast(C, tl.int64)
    at = partials + chunk * 12 * C + c
    leave(at, C, c, share0, wu0, ud0, wd0)
    leave(at + 6 * C, C, c, share1, wu1, ud1, wd1)
    tl.store(at + 4 * C, tl.sum(wg0, 0)[None, :], mask=c < C)
    tl.store(at + 5 * C, tl.sum(wy0, 0)[None, :], mask=c < C)
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
    SLOTS: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One region of one group: a and b, (groups, 2, 2, C); ``partials`` (., 2, SLOTS, C)."""
    rows = tl.cdiv(C, BLOCK_C)
    C = tl.cast(C, tl.int64)
    pid = tl.program_id(0)
    c = (pid % rows).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    region = (pid // rows % 2).to(tl.int64)
    group = (pid // rows // 2).to(tl.int64)
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
    scale = tl.load(rstd + (group * 2 + region) * C + c, mask=c < C, other=0)
    b = scale * scale * tl.sum(ud, 0) / total
    a = tl.sum(wu, 0) / total - b * tl.sum(wd, 0) / total
    out = coefficients + (group * 2 + region) * 2 * C + c
    tl.store(out, a.to(tl.float32), mask=c < C)
    tl.store(out + C, b.to(tl.float32), mask=c < C)


@triton.jit
def part(x, u, w, mean, rstd, coefficients, group, region, c, C):
    """One region's part of the gradient of x."""
    C = tl.cast(C, tl.int64)
    at = coefficients + (group * 2 + region) * 2 * C + c
    a = tl.load(at, mask=c < C, other=0)
    b = tl.load(at + C, mask=c < C, other=0)
    d = deviation(x, w, mean, group, region, c, C)
    return tl.where(w == 0, 0.0, w * row(rstd, group, region, c, C) * (u - a - b * d))


@triton.jit
def input_kernel(
    grad, x, mask, weight, mean, rstd, coefficients, grad_pooled, argmax, grad_x,
    C, P, sn, sc, sp, mn,
    INSTANCE: tl.constexpr, HAS_WEIGHT: tl.constexpr, MAPS: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """The gradient of x; with MAPS, that through the mean and maximum over channels too."""
    n, p, c = tile(C, P, BLOCK_P, BLOCK_C)
    inside = (p < P) & (c < C)
    at = n * sn + c * sc + p * sp
    value = tl.load(x + at, mask=inside, other=0).to(tl.float32)
    u = tl.load(grad + at, mask=inside, other=0).to(tl.float32)
    w0, w1 = weights(mask, n, p, P, mn)
    if HAS_WEIGHT:
        u *= mixed(weight, w0, w1, c, C)
    if MAPS:
        u *= 1.0 + tl.load(weight + n * 2 * P + p, mask=p < P, other=0)
    group = n * INSTANCE
    out = part(value, u, w0, mean, rstd, coefficients, group, 0, c, C)
    out += part(value, u, w1, mean, rstd, coefficients, group, 1, c, C)
    if MAPS:
        P = tl.cast(P, tl.int64)
        pooled = grad_pooled + n * 2 * P + p
        best = tl.load(argmax + n * P + p, mask=p < P, other=-1)
        out += tl.load(pooled, mask=p < P, other=0) / C
        out += tl.where(best == c, tl.load(pooled + P, mask=p < P, other=0), 0.0)
    tl.store(grad_x + at, out.to(grad_x.dtype.element_ty), mask=inside)
