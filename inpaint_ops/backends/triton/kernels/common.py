"""What the kernels share: where a program's tile lies, and the arithmetic of windows."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile(C, P, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    """Sample, pixels [BLOCK_P, 1] and channels [1, BLOCK_C] of this program, in 64 bits."""
    rows = tl.cdiv(C, BLOCK_C)
    columns = tl.cdiv(P, BLOCK_P)
    pid = tl.program_id(0)
    row = pid % rows
    rest = pid // rows
    n = (rest // columns).to(tl.int64)
    p = (rest % columns).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
    c = row.to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    return n, p, c


@triton.jit
def at_pixels(plane, n, p, P, step):
    """What a plane holds for each pixel, in float32."""
    return tl.load(plane + n * step + p, mask=p < P, other=0).to(tl.float32)


@triton.jit
def activated(u, kept, slope):
    """ReLU (slope 0) or LeakyReLU, by selection: zero times infinity is no zero."""
    return tl.where(u < 0, tl.where(slope == 0, 0.0, u * slope), u) * kept


@triton.jit
def through_activation(grad, u, kept, slope):
    """The gradient of u, given that of activated(u, kept, slope)."""
    through = grad * kept
    return tl.where(u > 0, through, tl.where(slope == 0, 0.0, through * slope))


@triton.jit
def plane_of(c, b1, b2, b3, FORM: tl.constexpr):
    """The plane of a mask that goes with each channel."""
    if FORM == 2:
        g = c
    elif FORM == 1:
        g = (c >= b1).to(tl.int64) + (c >= b2).to(tl.int64) + (c >= b3).to(tl.int64)
    else:
        g = c * 0
    return g


@triton.jit
def divide(a, b):
    """a / b, rounded to nearest: Triton's own division of float32 is not."""
    return a / b if b.dtype == tl.float64 else tl.div_rn(a, b)


@triton.jit
def window(total, cells, eps):
    """New mask and ratio of windows whose mask sums to ``total``, as csrc/common/window.h."""
    new = tl.minimum(tl.maximum(total, 0.0), 1.0)
    safe = tl.where(total > 0, total + eps, 1.0)
    ratio = tl.where(total > 0, divide(tl.zeros_like(total) + cells, safe) * new, 0.0)
    return new, ratio
