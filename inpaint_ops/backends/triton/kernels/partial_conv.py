"""What surrounds a dense convolution: ratio, bias and new mask, and the gradients through them."""

from __future__ import annotations

import triton
import triton.language as tl

from .common import tile


@triton.jit
def epilogue_kernel(
    y, ratio, new_mask, bias, C, P, sn, sc, sp, mn,
    HAS_BIAS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """y = (y * ratio + bias) * new_mask, or y * ratio, in place; empty windows are not read."""
    n, p, c = tile(C, P, BLOCK_P, BLOCK_C)
    inside = (p < P) & (c < C)
    scale = tl.load(ratio + n * mn + p, mask=p < P, other=0)
    at = n * sn + c * sc + p * sp
    value = tl.load(y + at, mask=inside & (scale != 0), other=0).to(tl.float32) * scale
    if HAS_BIAS:
        new = tl.load(new_mask + n * mn + p, mask=p < P, other=0).to(tl.float32)
        value = (value + tl.load(bias + c, mask=c < C, other=0).to(tl.float32)) * new
    tl.store(y + at, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def epilogue_backward_kernel(
    grad, ratio, new_mask, raw, partials, C, P, chunks, sn, sc, sp, mn,
    HAS_BIAS: tl.constexpr, RAW: tl.constexpr, SUMS: tl.constexpr, TILES: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """raw = grad * new_mask * ratio, and the sums of grad * new_mask over TILES tiles of pixels.

    ``partials`` is (N * chunks, C); without a bias new_mask takes no part.
    """
    rows = tl.cdiv(C, BLOCK_C)
    pid = tl.program_id(0)
    row = pid % rows
    chunk = (pid // rows).to(tl.int64)
    n = chunk // chunks
    c = row.to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for t in range(TILES):
        p = (chunk % chunks * TILES + t) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
        inside = (p < P) & (c < C)
        scale = tl.load(ratio + n * mn + p, mask=p < P, other=0)
        at = n * sn + c * sc + p * sp
        through = tl.load(grad + at, mask=inside & (scale != 0), other=0).to(tl.float32)
        if HAS_BIAS:
            through *= tl.load(new_mask + n * mn + p, mask=p < P, other=0).to(tl.float32)
        if SUMS:
            total += through
        if RAW:
            tl.store(raw + at, (through * scale).to(raw.dtype.element_ty), mask=inside)
    if SUMS:
        out = partials + chunk * C + c
        tl.store(out, tl.sum(total, 0)[None, :], mask=c < C)
