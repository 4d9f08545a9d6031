"""Partial convolution as one matrix product: pixels by output channels, over taps and channels."""

from __future__ import annotations

import triton
import triton.language as tl

from .common import window
from .gemm import load_masked, spot
from .region_norm import gather, leave


@triton.jit
def accumulate(
    x, mask, weight, acc, n, oh, ow, rows, k, C, K, H, W,
    xn, xc, xh, xw, mn, mg, mh, mw, step_h, step_w, pad_h, pad_w, dil_h, dil_w, b1, b2, b3,
    FORM: tl.constexpr, MASKED: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """acc + the product over all taps and channels; ``weight`` is (K, KH, KW, C)."""
    steps = tl.cdiv(C, BLOCK_K)
    for i in range(KH * KW * steps):
        tap = i // steps
        c = i % steps * BLOCK_K + tl.arange(0, BLOCK_K)
        h = oh * step_h - pad_h + tap // KW * dil_h
        w = ow * step_w - pad_w + tap % KW * dil_w
        inside = rows & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        a = load_masked(
            x, mask, n, h, w, c[None, :], C, inside, xn, xc, xh, xw, mn, mg, mh, mw, b1, b2, b3,
            FORM, MASKED,
        )  # fmt: skip
        at = (k.to(tl.int64)[None, :] * (KH * KW) + tap) * C + c[:, None]
        b = tl.load(weight + at, mask=(k < K)[None, :] & (c < C)[:, None], other=0)
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    return acc


@triton.jit
def conv_forward_kernel(
    x, mask, counted, weight, bias, y, new_mask, ratio, partials,
    M, MM, C, K, H, W, OH, OW, CH, CW,
    xn, xc, xh, xw, mn, mg, mh, mw, cn, yn, yk, yh, yw,
    step_h, step_w, pad_h, pad_w, pad_ch, pad_cw, dil_h, dil_w, b1, b2, b3,
    full, count, cells, eps,
    HAS_MASK: tl.constexpr, SELECT: tl.constexpr, FORM: tl.constexpr, HAS_BIAS: tl.constexpr,
    STATISTICS: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M output pixels (of any samples) by BLOCK_N output channels.

    ``counted`` is the plane (N or 1, CH, CW) whose window sums, times ``count``, are the mask's;
    a pixel whose channels are all valid holds ``full``. MM pixels have masks of their own.
    """
    columns = tl.cdiv(K, BLOCK_N)
    pid = tl.program_id(0)
    m = pid // columns * BLOCK_M + tl.arange(0, BLOCK_M)
    k = pid % columns * BLOCK_N + tl.arange(0, BLOCK_N)
    n, oh, ow = spot(m, OH, OW)
    total = tl.zeros([BLOCK_M], tl.float32)
    least = total + full
    for tap in range(KH * KW):
        h = oh * step_h - pad_ch + tap // KW * dil_h
        w = ow * step_w - pad_cw + tap % KW * dil_w
        inside = (m < M) & (h >= 0) & (h < CH) & (w >= 0) & (w < CW)
        if HAS_MASK:
            at = n.to(tl.int64) * cn + h.to(tl.int64) * CW + w
            value = tl.load(counted + at, mask=inside, other=0).to(tl.float32)
            total += value
            least = tl.where(inside, tl.minimum(least, value), least)
        else:
            total += inside.to(tl.float32)
    new, scale = window(total * count, cells, eps)
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    if tl.max(total) > 0:
        holes = tl.min(least) != full if SELECT else False
        if holes:
            acc = accumulate(
                x, mask, weight, acc, n[:, None], oh[:, None], ow[:, None], (m < M)[:, None], k,
                C, K, H, W, xn, xc, xh, xw, mn, mg, mh, mw, step_h, step_w, pad_h, pad_w,
                dil_h, dil_w, b1, b2, b3, FORM, True, KH, KW, PRECISION, BLOCK_K,
            )  # fmt: skip
        else:
            acc = accumulate(
                x, mask, weight, acc, n[:, None], oh[:, None], ow[:, None], (m < M)[:, None], k,
                C, K, H, W, xn, xc, xh, xw, mn, mg, mh, mw, step_h, step_w, pad_h, pad_w,
                dil_h, dil_w, b1, b2, b3, FORM, False, KH, KW, PRECISION, BLOCK_K,
            )  # fmt: skip
    out = tl.where(scale[:, None] == 0, 0.0, acc * scale[:, None])
    if HAS_BIAS:
        b = tl.load(bias + k.to(tl.int64), mask=k < K, other=0).to(tl.float32)
        out = (out + b[None, :]) * new[:, None]
    value = out.to(y.dtype.element_ty)
    at = (n.to(tl.int64) * yn + oh.to(tl.int64) * yh + ow.to(tl.int64) * yw)[:, None]
    at += k.to(tl.int64)[None, :] * yk
    tl.store(y + at, value, mask=(m < M)[:, None] & (k < K)[None, :])
    first = m < tl.where(pid % columns == 0, MM, 0)
    tl.store(new_mask + m.to(tl.int64), new.to(new_mask.dtype.element_ty), mask=first)
    tl.store(ratio + m.to(tl.int64), scale, mask=first)
    if STATISTICS:
        w0 = tl.where(m < M, new, 0.0)[:, None]
        w1 = tl.where(m < M, 1.0 - new, 0.0)[:, None]
        zero, none = tl.zeros([BLOCK_M, BLOCK_N], tl.float32), tl.zeros([BLOCK_N], tl.float32)
        K = tl.cast(K, tl.int64)
        left = partials + (pid // columns) * 12 * K
        rounded = value.to(tl.float32)
        count0, square0, shift0, first0, weighted0, second0 = gather(
            rounded, w0, 0.0, 0.0, none, zero, zero, zero
        )
        leave(left, K, k.to(tl.int64), count0, square0, shift0, first0, weighted0, second0)
        count1, square1, shift1, first1, weighted1, second1 = gather(
            rounded, w1, 0.0, 0.0, none, zero, zero, zero
        )
        left += 6 * K
        leave(left, K, k.to(tl.int64), count1, square1, shift1, first1, weighted1, second1)
