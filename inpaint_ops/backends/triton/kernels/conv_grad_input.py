"""The gradient of a partial convolution's input: pixels by inputs, over taps and outputs."""

from __future__ import annotations

import triton
import triton.language as tl

from .common import plane_of
from .gemm import spot


@triton.jit
def conv_grad_input_kernel(
    grad, scale, weight, mask, grad_x,
    M, C, K, H, W, OH, OW, gn, gk, gh, gw, sn, mn, mg, mh, mw, xn, xc, xh, xw,
    step_h, step_w, pad_h, pad_w, dil_h, dil_w, b1, b2, b3,
    SELECT: tl.constexpr, FORM: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M input pixels by BLOCK_N input channels.

    ``scale`` (N or 1, OH, OW) multiplies the gradient, ``weight`` is (K, KH, KW, C).
    """
    columns = tl.cdiv(C, BLOCK_N)
    pid = tl.program_id(0)
    m = pid // columns * BLOCK_M + tl.arange(0, BLOCK_M)
    c = pid % columns * BLOCK_N + tl.arange(0, BLOCK_N)
    n, h, w = spot(m, H, W)
    stored = (m < M)[:, None] & (c < C)[None, :]
    on = (n.to(tl.int64) * mn + h.to(tl.int64) * mh + w.to(tl.int64) * mw)[:, None]
    if SELECT:
        if FORM == 0:
            valid = tl.load(mask + on, mask=(m < M)[:, None], other=0).to(tl.float32)
        else:
            on += plane_of(c.to(tl.int64), b1, b2, b3, FORM)[None, :] * mg
            valid = tl.load(mask + on, mask=stored, other=0).to(tl.float32)
    else:
        valid = (m < M).to(tl.float32)[:, None]
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    if tl.max(valid) > 0:
        steps = tl.cdiv(K, BLOCK_K)
        for i in range(KH * KW * steps):
            tap = i // steps
            k = i % steps * BLOCK_K + tl.arange(0, BLOCK_K)
            from_h = h + pad_h - tap // KW * dil_h
            from_w = w + pad_w - tap % KW * dil_w
            oh = from_h // step_h
            ow = from_w // step_w
            inside = (m < M) & (from_h >= 0) & (oh < OH) & (from_w >= 0) & (ow < OW)
            inside = inside & (from_h % step_h == 0) & (from_w % step_w == 0)
            at = n.to(tl.int64) * sn + oh.to(tl.int64) * OW + ow
            factor = tl.load(scale + at, mask=inside, other=0)[:, None]
            at = (n.to(tl.int64) * gn + oh.to(tl.int64) * gh + ow.to(tl.int64) * gw)[:, None]
            at += k.to(tl.int64)[None, :] * gk
            a = tl.load(grad + at, mask=(factor != 0) & (k < K)[None, :], other=0)
            a = (a.to(tl.float32) * factor).to(a.dtype)
            at = (k.to(tl.int64)[:, None] * (KH * KW) + tap) * C + c[None, :]
            b = tl.load(weight + at, mask=(k < K)[:, None] & (c < C)[None, :], other=0)
            acc = tl.dot(a, b, acc, input_precision=PRECISION)
    out = tl.where(valid == 0, 0.0, acc * valid)
    at = (n.to(tl.int64) * xn + h.to(tl.int64) * xh + w.to(tl.int64) * xw)[:, None]
    at += c.to(tl.int64)[None, :] * xc
    tl.store(grad_x + at, out.to(grad_x.dtype.element_ty), mask=stored)
