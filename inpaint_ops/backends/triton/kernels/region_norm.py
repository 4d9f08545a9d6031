"""Statistics of both regions, and their application.

A chunk of pixels leaves, for each region and channel, the sums w, w^2, w (x - s), w^2 (x - s) and
w^2 (x - s)^2 around a shift s: the region's mean in the chunk's first tile that has such pixels.
The finish adds the shifts back and merges chunks in float64, in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .common import activated, at_pixels, tile


@triton.jit
def weights(mask, n, p, P, mn, ONE: tl.constexpr):
    """How much each pixel belongs to the valid and to the hole region; ONE: all to the first."""
    valid = (p < P).to(tl.float32) if ONE else at_pixels(mask, n, p, P, mn)
    return valid, tl.where(p < P, 1.0 - valid, 0.0)


@triton.jit
def gather(x, w, count, square, shift, first, weighted, second):
    """Add one tile to a region's sums."""
    total = tl.sum(w)
    if count == 0:
        safe = tl.where(total > 0, total, 1.0)
        shift = tl.sum(tl.where(w == 0, 0.0, w * x), 0) / safe
    d = tl.where(w == 0, 0.0, w * (x - shift[None, :]))
    return count + total, square + tl.sum(w * w), shift, first + d, weighted + w * d, second + d * d


@triton.jit
def leave(out, C, c, count, square, shift, first, weighted, second):
    """Write a region's six sums, C apart."""
    C = tl.cast(C, tl.int64)
    tl.store(out + c, tl.zeros_like(shift) + count, mask=c < C)
    tl.store(out + C + c, tl.zeros_like(shift) + square, mask=c < C)
    tl.store(out + 2 * C + c, shift, mask=c < C)
    tl.store(out + 3 * C + c, tl.sum(first, 0), mask=c < C)
    tl.store(out + 4 * C + c, tl.sum(weighted, 0), mask=c < C)
    tl.store(out + 5 * C + c, tl.sum(second, 0), mask=c < C)


@triton.jit
def statistics_kernel(
    x, mask, ratio, partials, C, P, chunks, sn, sc, sp, mn, rn,
    ONE: tl.constexpr, FRAMED: tl.constexpr, TILES: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program: TILES tiles of pixels of one sample; ``partials`` is (N * chunks, 2, 6, C)."""
    rows = tl.cdiv(C, BLOCK_C)
    pid = tl.program_id(0)
    chunk = (pid // rows).to(tl.int64)
    n = chunk // chunks
    c = (pid % rows).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    zero = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    first0, weighted0, second0 = zero, zero, zero
    first1, weighted1, second1 = zero, zero, zero
    shift0 = tl.zeros([BLOCK_C], tl.float32)
    shift1 = shift0
    count0, square0, count1, square1 = 0.0, 0.0, 0.0, 0.0
    for t in range(TILES):
        p = (chunk % chunks * TILES + t) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
        inside = (p < P) & (c < C)[None, :]
        value = tl.load(x + n * sn + c[None, :] * sc + p * sp, mask=inside, other=0).to(tl.float32)
        if FRAMED:
            value *= at_pixels(ratio, n, p, P, rn)
        w0, w1 = weights(mask, n, p, P, mn, ONE)
        count0, square0, shift0, first0, weighted0, second0 = gather(
            value, w0, count0, square0, shift0, first0, weighted0, second0
        )
        if not ONE:
            count1, square1, shift1, first1, weighted1, second1 = gather(
                value, w1, count1, square1, shift1, first1, weighted1, second1
            )
    C = tl.cast(C, tl.int64)
    out = partials + chunk * 12 * C
    leave(out, C, c, count0, square0, shift0, first0, weighted0, second0)
    if not ONE:
        leave(out + 6 * C, C, c, count1, square1, shift1, first1, weighted1, second1)


@triton.jit
def statistics_finish_kernel(
    partials, mean, rstd, C, chunks, pixels, eps,
    REGIONS: tl.constexpr, SCALE_EPS: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One region of one group of ``chunks`` chunks; mean and rstd are (groups, REGIONS, C)."""
    rows = tl.cdiv(C, BLOCK_C)
    C = tl.cast(C, tl.int64)
    pid = tl.program_id(0)
    c = (pid % rows).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    region = (pid // rows % REGIONS).to(tl.int64)
    group = (pid // rows // REGIONS).to(tl.int64)
    base = partials + region * 6 * C + c[None, :]
    zero = tl.zeros([BLOCK_I, BLOCK_C], tl.float64)
    count, total = zero, zero
    for start in range(0, chunks, BLOCK_I):
        i = start + tl.arange(0, BLOCK_I)[:, None]
        inside = (i < chunks) & (c < C)[None, :]
        at = base + (group * chunks + i) * 12 * C
        w = tl.load(at, mask=inside, other=0).to(tl.float64)
        shift = tl.load(at + 2 * C, mask=inside, other=0).to(tl.float64)
        count += w
        total += w * shift + tl.load(at + 3 * C, mask=inside, other=0)
    share = tl.sum(count, 0)
    safe = tl.where(share > 0, share, 1.0)
    mu = tl.sum(total, 0) / safe
    spread = zero
    for start in range(0, chunks, BLOCK_I):
        i = start + tl.arange(0, BLOCK_I)[:, None]
        inside = (i < chunks) & (c < C)[None, :]
        at = base + (group * chunks + i) * 12 * C
        square = tl.load(at + C, mask=inside, other=0).to(tl.float64)
        apart = tl.load(at + 2 * C, mask=inside, other=0).to(tl.float64) - mu[None, :]
        weighted = tl.load(at + 4 * C, mask=inside, other=0).to(tl.float64)
        second = tl.load(at + 5 * C, mask=inside, other=0).to(tl.float64)
        spread += second + apart * (2 * weighted + apart * square)
    var = tl.maximum(tl.sum(spread, 0) / safe, 0.0)
    scale = pixels / safe if SCALE_EPS else tl.full([BLOCK_C], 1.0, tl.float64)
    found = tl.where(share > 0, 1.0 / tl.sqrt(var + eps * scale), 0.0)
    out = (group * REGIONS + region) * C + c
    tl.store(mean + out, tl.where(share > 0, mu, 0.0), mask=c < C)
    tl.store(rstd + out, found, mask=c < C)


@triton.jit
def row(values, group, region, c, C):
    """One region's value for each channel, [1, BLOCK_C] in float32."""
    at = (group * 2 + region) * tl.cast(C, tl.int64) + c
    return tl.load(values + at, mask=c < C, other=0).to(tl.float32)


@triton.jit
def normalized(x, w0, w1, mean, rstd, group, c, C, ONE: tl.constexpr):
    """Each pixel normalized by the statistics of its region, whatever the other's are."""
    d0 = w0 * (x - row(mean, group, 0, c, C)) * row(rstd, group, 0, c, C)
    out = tl.where(w0 == 0, 0.0, d0)
    if not ONE:
        d1 = w1 * (x - row(mean, group, 1, c, C)) * row(rstd, group, 1, c, C)
        out += tl.where(w1 == 0, 0.0, d1)
    return out


@triton.jit
def mixed(values, w0, w1, c, C, ONE: tl.constexpr):
    """(2, C) parameters over pixels, mixed by the regions' weights."""
    out = w0 * row(values, 0, 0, c, C)
    if not ONE:
        out += w1 * row(values, 0, 1, c, C)
    return out


@triton.jit
def affine(
    out, weight, bias, w0, w1, n, p, c, C, P,
    HAS_WEIGHT: tl.constexpr, HAS_BIAS: tl.constexpr, MAPS: tl.constexpr, ONE: tl.constexpr,
):  # fmt: skip
    """out * weight + bias by region; with MAPS by pixel, ``weight`` being (N, 2, P)."""
    if MAPS:
        P = tl.cast(P, tl.int64)
        gamma = weight + n * 2 * P + p
        out *= 1.0 + tl.load(gamma, mask=p < P, other=0)
        out += tl.load(gamma + P, mask=p < P, other=0)
    if HAS_WEIGHT:
        out *= mixed(weight, w0, w1, c, C, ONE)
    if HAS_BIAS:
        out += mixed(bias, w0, w1, c, C, ONE)
    return out


@triton.jit
def apply_kernel(
    x, mask, mean, rstd, weight, bias, ratio, new_mask, slope, y, C, P, sn, sc, sp, mn, rn, kn,
    INSTANCE: tl.constexpr, HAS_WEIGHT: tl.constexpr, HAS_BIAS: tl.constexpr, MAPS: tl.constexpr,
    ONE: tl.constexpr, FRAMED: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """y = affine(normalized); FRAMED: of x * ratio, then activated and times the new mask."""
    n, p, c = tile(C, P, BLOCK_P, BLOCK_C)
    inside = (p < P) & (c < C)
    at = n * sn + c * sc + p * sp
    value = tl.load(x + at, mask=inside, other=0).to(tl.float32)
    if FRAMED:
        value *= at_pixels(ratio, n, p, P, rn)
    w0, w1 = weights(mask, n, p, P, mn, ONE)
    out = normalized(value, w0, w1, mean, rstd, n * INSTANCE, c, C, ONE)
    out = affine(out, weight, bias, w0, w1, n, p, c, C, P, HAS_WEIGHT, HAS_BIAS, MAPS, ONE)
    if FRAMED:
        out = activated(out, at_pixels(new_mask, n, p, P, kn), slope)
    tl.store(y + at, out.to(y.dtype.element_ty), mask=inside)
