"""RN_L's passes over channels: mean and maximum of each pixel, and the gradients of its maps."""

from __future__ import annotations

import triton
import triton.language as tl

from .common import at_pixels, through_activation, tile
from .region_norm import normalized, weights
from .region_norm_backward import deviation, leave


@triton.jit
def channel_pool_kernel(
    x, pooled, argmax, C, P, sn, sc, sp, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):
    """One program: BLOCK_P pixels; the first of equal maxima counts. ``pooled`` is (N, 2, P)."""
    P = tl.cast(P, tl.int64)
    n, p, _ = tile(1, P, BLOCK_P, 1)
    total = tl.zeros([BLOCK_P], tl.float32)
    best = tl.full([BLOCK_P], -float("inf"), tl.float32)
    where = tl.zeros([BLOCK_P], tl.int32)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)[None, :].to(tl.int64)
        at = n * sn + c * sc + p * sp
        value = tl.load(x + at, mask=(p < P) & (c < C), other=0).to(tl.float32)
        total += tl.sum(value, 1)
        largest, index = tl.max(tl.where(c < C, value, -float("inf")), 1, return_indices=True)
        where = tl.where(largest > best, start + index, where)
        best = tl.maximum(best, largest)
    p1 = tl.max(p, 1)
    out = n * 2 * P + p1
    tl.store(pooled + out, total / C, mask=p1 < P)
    tl.store(pooled + out + P, best, mask=p1 < P)
    tl.store(argmax + n * P + p1, where, mask=p1 < P)


@triton.jit
def grad_maps_kernel(
    grad, x, mask, maps, mean, rstd, ratio, new_mask, slope, grad_maps, partials,
    C, P, sn, sc, sp, mn, rn, kn,
    FRAMED: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_P pixels of one sample, all channels, one pass over grad and x.

    Leaves the gradients of gamma and beta, (N, 2, P), and the sums by region that the gradient of x
    needs, (N * chunks, 2, 4, C).
    """
    C = tl.cast(C, tl.int64)
    P = tl.cast(P, tl.int64)
    n, p, _ = tile(1, P, BLOCK_P, 1)
    at = n * 2 * P + p
    gain = 1.0 + tl.load(maps + at, mask=p < P, other=0)
    w0, w1 = weights(mask, n, p, P, mn, False)
    if FRAMED:
        offset = tl.load(maps + at + P, mask=p < P, other=0)
        factor = at_pixels(ratio, n, p, P, rn)
        kept = at_pixels(new_mask, n, p, P, kn)
    gamma = tl.zeros([BLOCK_P, 1], tl.float32)
    beta = gamma
    chunk = tl.program_id(0).to(tl.int64)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)[None, :].to(tl.int64)
        inside = (p < P) & (c < C)
        value = tl.load(x + n * sn + c * sc + p * sp, mask=inside, other=0).to(tl.float32)
        g = tl.load(grad + n * sn + c * sc + p * sp, mask=inside, other=0).to(tl.float32)
        if FRAMED:
            value *= factor
        d0 = deviation(value, w0, mean, 0, 0, c, C)
        d1 = deviation(value, w1, mean, 0, 1, c, C)
        out = normalized(value, w0, w1, mean, rstd, 0, c, C, False)
        if FRAMED:
            g = through_activation(g, out * gain + offset, kept, slope)
        gamma += tl.sum(g * out, 1)[:, None]
        beta += tl.sum(g, 1)[:, None]
        u = g * gain
        left = partials + chunk * 8 * C + c
        leave(left, C, c, w0, w0 * u, u * d0, w0 * d0)
        leave(left + 4 * C, C, c, w1, w1 * u, u * d1, w1 * d1)
    tl.store(grad_maps + at, gamma, mask=p < P)
    tl.store(grad_maps + at + P, beta, mask=p < P)
