"""Random shapes, windows, layouts and masks against float64: what the tables of cases forgot."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inpaint_ops import ChannelMask, partial_conv2d, region_norm, update_mask, use_backend

often = settings(max_examples=200, deadline=None, derandomize=True, database=None)

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LAYOUTS = ("contiguous", "channels_last", "strided", "transposed")


def _laid_out(x: Tensor, layout: str) -> Tensor:
    """The same values in another place in memory."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "strided":
        wide = x.new_full((*x.shape[:-1], 2 * x.shape[-1] + 1), torch.nan)
        wide[..., 1::2] = x
        return wide[..., 1::2]
    if layout == "transposed":
        return x.transpose(2, 3).contiguous().transpose(2, 3)
    return x


@st.composite
def _masks(draw: Any, n: int, c: int, h: int, w: int, dtype: torch.dtype) -> tuple[Any, bool]:
    """A mask of any form, and whether the window counts its channels."""
    form = draw(st.sampled_from(["none", "plane", "shared", "counted", "channels", "groups"]))
    if form == "none":
        return None, draw(st.booleans())
    kind = draw(st.sampled_from(["blobs", "noise", "valid", "hole", "soft"]))
    planes = {"channels": c, "groups": min(2, c)}.get(form, 1)
    size = (1 if form == "shared" else n, planes, h, w)
    if kind == "blobs":
        values = torch.ones(size)
        y, x = draw(st.integers(0, h - 1)), draw(st.integers(0, w - 1))
        values[:, :, y:, x:] = 0
    elif kind == "noise":
        values = (torch.rand(size) > 0.5).float()
    elif kind == "soft":
        values = torch.rand(size) * (torch.rand(size) > 0.3)
    else:
        values = torch.full(size, float(kind == "valid"))
    mask = values.to(dtype)
    if kind != "soft" and draw(st.booleans()):
        mask = mask != 0
    mask = _laid_out(mask, draw(st.sampled_from(LAYOUTS))) if mask.is_floating_point() else mask
    if form == "groups":
        counts = (c,) if planes == 1 else (c - 1, 1)
        return ChannelMask(mask, counts), True
    return mask, form in ("counted", "channels")


@often
@given(st.data())
def test_partial_convolution(plain: Any, data: Any) -> None:
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from(DTYPES))
    groups = draw(st.integers(1, 3))
    n, c = draw(st.integers(1, 3)), groups * draw(st.integers(1, 7))
    out = groups * draw(st.integers(1, 4))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    spans = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True)]
    h, w = (max(1, s) + draw(st.integers(0, 20)) for s in spans)
    mask, multi = draw(_masks(n, c, h, w, dtype))
    x = _laid_out(torch.randn(n, c, h, w, dtype=dtype) + 3, draw(st.sampled_from(LAYOUTS)))
    weight = torch.randn(out, c // groups, *kernel, dtype=dtype)
    weight = _laid_out(weight, draw(st.sampled_from(LAYOUTS)))
    bias = torch.randn(out, dtype=dtype) if draw(st.booleans()) else None
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias) if t is not None]
    x, weight = leaves[:2]
    bias = leaves[2] if bias is not None else None
    arguments = (mask, weight, bias, stride, padding, dilation, groups, multi)

    expected, expected_new = plain.partial_conv(x, *arguments)
    with use_backend("cpu"):
        y, new = partial_conv2d(x, *arguments)
    length = c * kernel[0] * kernel[1]
    plain.close(y, expected, length)
    planes = new.planes if isinstance(new, ChannelMask) else new
    plain.close(planes.double()[:, :1].expand_as(expected_new), expected_new, length, dtype)
    grad = _laid_out(torch.randn_like(expected).to(dtype), draw(st.sampled_from(LAYOUTS)))
    wanted = torch.autograd.grad(expected, leaves, grad.double())
    for a, b in zip(torch.autograd.grad(y, leaves, grad), wanted, strict=True):
        plain.close(a, b, max(length, y.numel() / out) * 4)


@often
@given(st.data())
def test_region_normalization(plain: Any, data: Any) -> None:
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from(DTYPES))
    n, c = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 17, 32, 33]))
    h, w = draw(st.integers(1, 45)), draw(st.integers(1, 45))
    x = _laid_out(torch.randn(n, c, h, w, dtype=dtype) + 5, draw(st.sampled_from(LAYOUTS)))
    mask = plain.blobs(draw(st.sampled_from([1, n])), 1, h, w).to(dtype)
    if draw(st.booleans()):
        mask = mask != 0
    affine = draw(st.booleans())
    weight = torch.randn(2, c, dtype=dtype) if affine else None
    bias = torch.randn(2, c, dtype=dtype) if affine else None
    stats = draw(st.sampled_from(["batch", "instance"]))
    eps = draw(st.sampled_from([1e-5, 1e-2]))
    scale_eps = draw(st.booleans())
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias) if t is not None]
    weight, bias = (leaves[1], leaves[2]) if affine else (None, None)

    expected = plain.region_norm(leaves[0], mask, weight, bias, eps, stats, scale_eps)
    with use_backend("cpu"):
        y = region_norm(leaves[0], mask, weight, bias, eps, stats, scale_eps)
    # A region of a pixel or two divides its rounding by sqrt(eps).
    condition = 1 / eps**0.5
    plain.close(y, expected, condition**2)
    grad = _laid_out(torch.randn_like(expected).to(dtype), draw(st.sampled_from(LAYOUTS)))
    wanted = torch.autograd.grad(expected, leaves, grad.double())
    for a, b in zip(torch.autograd.grad(y, leaves, grad), wanted, strict=True):
        plain.close(a, b, condition**2 * n * h * w, scale=float(grad.abs().max()))


@often
@given(st.data())
def test_the_new_mask_grows_with_the_mask(data: Any) -> None:
    """More valid pixels never make a hole; a window of one cell changes nothing."""
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 2**31)))
    h, w = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    small = torch.rand(2, 1, h, w) > 0.7
    large = small | (torch.rand(2, 1, h, w) > 0.7)
    kernel, padding = draw(st.integers(1, 3)), 1
    stride = draw(st.integers(1, 3))
    first, second = (update_mask(m, kernel, stride, padding) for m in (small, large))
    assert bool((first <= second).all())
    assert torch.equal(update_mask(small, 1), small)
