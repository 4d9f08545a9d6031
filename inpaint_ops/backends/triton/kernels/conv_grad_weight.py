"""The gradient of a partial convolution's weight: outputs by inputs for each tap, over pixels.

The pixels are cut into splits, whose float32 results are added afterwards, always in one order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .gemm import load_masked, spot


@triton.jit
def conv_grad_weight_kernel(
    grad, scale, x, mask, partials,
    M, C, K, H, W, OH, OW, splits, gn, gk, gh, gw, sn, xn, xc, xh, xw, mn, mg, mh, mw,
    step_h, step_w, pad_h, pad_w, dil_h, dil_w, b1, b2, b3,
    SELECT: tl.constexpr, FORM: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M outputs by BLOCK_N inputs of one tap, over one split of the pixels.

    ``partials`` is (splits, K, KH * KW, C).
    """
    rows = tl.cdiv(K, BLOCK_M)
    columns = tl.cdiv(C, BLOCK_N)
    pid = tl.program_id(0)
    tile = pid % (rows * columns)
    tap = pid // (rows * columns) % (KH * KW)
    split = pid // (rows * columns * KH * KW)
    k = tile // columns * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tile % columns * BLOCK_N + tl.arange(0, BLOCK_N)
    steps = tl.cdiv(tl.cdiv(M, BLOCK_K), splits)
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for i in range(split * steps, (split + 1) * steps):
        m = i * BLOCK_K + tl.arange(0, BLOCK_K)
        n, oh, ow = spot(m, OH, OW)
        at = n.to(tl.int64) * sn + oh.to(tl.int64) * OW + ow
        factor = tl.load(scale + at, mask=m < M, other=0)
        at = (n.to(tl.int64) * gn + oh.to(tl.int64) * gh + ow.to(tl.int64) * gw)[None, :]
        at += k.to(tl.int64)[:, None] * gk
        a = tl.load(grad + at, mask=(factor != 0)[None, :] & (k < K)[:, None], other=0)
        a = (a.to(tl.float32) * factor[None, :]).to(a.dtype)
        h = oh * step_h - pad_h + tap // KW * dil_h
        w = ow * step_w - pad_w + tap % KW * dil_w
        inside = (factor != 0) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        b = load_masked(
            x, mask, n[:, None], h[:, None], w[:, None], c[None, :], C, inside[:, None],
            xn, xc, xh, xw, mn, mg, mh, mw, b1, b2, b3, FORM, SELECT,
        )  # fmt: skip
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    at = ((split.to(tl.int64) * K + k)[:, None] * (KH * KW) + tap) * C + c[None, :]
    tl.store(partials + at, acc, mask=(k < K)[:, None] & (c < C)[None, :])
