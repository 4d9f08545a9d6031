"""x * mask with holes selected away: they are not even read, so nothing lies there to multiply."""

from __future__ import annotations

import triton
import triton.language as tl

from .common import plane_of, tile


@triton.jit
def apply_mask_kernel(
    x, mask, out, C, P, sn, sc, sp, mn, mg, mp, b1, b2, b3,
    FORM: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program: one tile of pixels and channels of one sample; out may be x."""
    n, p, c = tile(C, P, BLOCK_P, BLOCK_C)
    inside = (p < P) & (c < C)
    if FORM == 0:
        m = tl.load(mask + n * mn + p * mp, mask=p < P, other=0).to(tl.float32)
    else:
        g = plane_of(c, b1, b2, b3, FORM)
        m = tl.load(mask + n * mn + g * mg + p * mp, mask=inside, other=0).to(tl.float32)
    at = n * sn + c * sc + p * sp
    value = tl.load(x + at, mask=inside & (m != 0), other=0).to(tl.float32)
    tl.store(out + at, (value * m).to(out.dtype.element_ty), mask=inside)
