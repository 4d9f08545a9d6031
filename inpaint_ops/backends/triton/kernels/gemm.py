"""What the three matrix products of a convolution share: pixels as rows, and masked loads of x."""

from __future__ import annotations

import triton
import triton.language as tl

from .common import plane_of


@triton.jit
def spot(i, H, W):
    """Sample, row and column of pixel ``i`` of planes of H x W; below 2**31 pixels in all."""
    return i // (H * W), i // W % H, i % W


@triton.jit
def load_masked(
    x, mask, n, h, w, c, C, inside, xn, xc, xh, xw, mn, mg, mh, mw, b1, b2, b3,
    FORM: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """x at pixels [A, 1] and channels [1, B], or the other way round; holes are not read."""
    at = n.to(tl.int64) * xn + h.to(tl.int64) * xh + w.to(tl.int64) * xw + c.to(tl.int64) * xc
    read = inside & (c < C)
    if MASKED:
        on = n.to(tl.int64) * mn + h.to(tl.int64) * mh + w.to(tl.int64) * mw
        if FORM == 0:
            m = tl.load(mask + on, mask=inside, other=0)
        else:
            on += plane_of(c.to(tl.int64), b1, b2, b3, FORM) * mg
            m = tl.load(mask + on, mask=read, other=0)
        value = tl.load(x + at, mask=read & (m != 0), other=0)
        if mask.dtype.element_ty != tl.uint8:
            value = (value.to(tl.float32) * m.to(tl.float32)).to(value.dtype)
    else:
        value = tl.load(x + at, mask=read, other=0)
    return value
