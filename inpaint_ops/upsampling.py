"""Partial convolution of an enlarged map beside a skip: the decoder's step in U-Nets.

Where it pays, neither the enlarged map nor the concatenation is made. A 3x3 convolution of a map
that was enlarged by nearest neighbour is a transposed convolution of the small map, stride 2, whose
4x4 windows hold sums of the 3x3 weights::

    conv(up2(x), W, padding=1) = conv_transpose(x, K, stride=2, padding=1)
    K = S W S^T,   S = [[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]]

with 16 multiplications per small pixel instead of 36. Masks commute with the enlargement, so x is
masked while it is small.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .autograd.apply_mask import apply_mask
from .autograd.upsampled_weight import upsampled_weight
from .backends import dispatch
from .channel_mask import ChannelMask
from .functional import partial_conv2d
from .masks import check_plane, normalize_dtype
from .raw_conv import Raw, planes, raw_partial_conv2d
from .validation import autocast, check_parameters, check_skip, check_x

# Output pixels of a batch from which on the transposed convolution was the faster form of a
# training step, in both memory orders (two CPU cores, oneDNN): what it saves grows with them, what
# it costs (other weights, and their gradient) does not. 0.5 of the time at 4 x 64x64, level at
# 4 x 16x16 and at 256 x 2x2, slower below.
_LEAST_PIXELS = 1024


def partial_conv2d_upsampled(
    x: Tensor,
    mask: Tensor,
    skip: Tensor,
    skip_mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    padding: int = 1,
    eps: float = 1e-8,
    masked_input: bool = False,
) -> tuple[Tensor, Tensor]:
    """Partial convolution of x, enlarged to the skip's size, beside the skip.

    The same as this, mostly without making the enlarged map and the concatenation::

        size = skip.shape[2:]
        joined = torch.cat([F.interpolate(x, size, mode="nearest"), skip], 1)
        planes = torch.cat([F.interpolate(mask, size, mode="nearest"), skip_mask], 1)
        mask = ChannelMask(planes, (x.shape[1], skip.shape[1]))
        y, new_mask = partial_conv2d(joined, mask, weight, bias, padding=padding)

    (Liu et al. 2018, section 3.2: "concatenating two feature maps and two masks").

    Args:
        x: (N, C1, h, w), floating.
        mask: (N or 1, 1, h, w), 1 = valid, bool, integer or floating. Gets no gradient.
        skip: (N, C2, H, W), dtype of x.
        skip_mask: (N or 1, 1, H, W), dtype of mask.
        weight: (C_out, C1 + C2, kh, kw), dtype of x; the first C1 channels belong to x.
        bias: (C_out,) or None.
        padding: on all sides.
        eps: added to the window's sum.
        masked_input: x and skip have been multiplied by their masks already.

    Returns:
        y (N, C_out, H', W') and the new mask (N or 1, 1, H', W') in the mask's dtype.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or device; the message names the argument.
    """
    form = _prepare(x, mask, skip, skip_mask, weight, bias)
    if not _as_transposed(form, padding):
        y, new = partial_conv2d(
            _joined(form), ChannelMask(form.planes, form.channels), form.weight, form.bias,
            padding=padding, eps=eps, masked_input=masked_input,
        )  # fmt: skip
        assert isinstance(new, ChannelMask)
        return y, new.planes
    raw, ratio, new_mask = _raw(form, padding, eps, masked_input)
    y = raw * ratio
    if form.bias is not None:
        y = (y + form.bias.view(1, -1, 1, 1)) * new_mask
    return y, new_mask if new_mask.dtype == mask.dtype else new_mask.to(mask.dtype)


def raw_partial_conv2d_upsampled(
    x: Tensor,
    mask: Tensor,
    skip: Tensor,
    skip_mask: Tensor,
    weight: Tensor,
    padding: int,
    eps: float,
    masked_input: bool,
) -> Raw:
    """The same without a bias and without its epilogue: see :mod:`raw_conv`."""
    form = _prepare(x, mask, skip, skip_mask, weight, None)
    if _as_transposed(form, padding):
        return _raw(form, padding, eps, masked_input)
    return raw_partial_conv2d(
        _joined(form), ChannelMask(form.planes, form.channels), form.weight, 1, padding, 1, 1, True,
        eps, masked_input,
    )  # fmt: skip


class _Form(NamedTuple):
    """The arguments, checked, in the dtype to compute in, with both masks at the skip's size."""

    x: Tensor
    mask: Tensor
    skip: Tensor
    skip_mask: Tensor
    weight: Tensor
    bias: Tensor | None
    planes: Tensor

    @property
    def channels(self) -> tuple[int, int]:
        return self.x.shape[1], self.skip.shape[1]


def _prepare(
    x: Tensor, mask: Tensor, skip: Tensor, skip_mask: Tensor, weight: Tensor, bias: Tensor | None
) -> _Form:
    check_x(x, 2)
    check_x(skip, 2, "skip")
    check_parameters(weight, bias)
    x, skip, weight, bias = autocast(x, skip, weight, bias)  # type: ignore[assignment]
    check_skip(x, skip, weight, bias)
    check_plane("mask", mask, x)
    check_plane("skip_mask", skip_mask, skip, "skip")
    if skip_mask.dtype != mask.dtype:
        raise TypeError(f"skip_mask: expected {mask.dtype} (as mask), got {skip_mask.dtype}")
    return _Form(x, mask, skip, skip_mask, weight, bias, _join_masks(mask, skip_mask, skip))


def _joined(form: _Form) -> Tensor:
    large = F.interpolate(form.x, size=form.skip.shape[2:], mode="nearest")
    return torch.cat([large, form.skip], 1)


def _raw(form: _Form, padding: int, eps: float, masked_input: bool) -> Raw:
    """By the identity, without the epilogue."""
    x, skip = form.x, form.skip
    if not masked_input:
        x = apply_mask(x, normalize_dtype(form.mask, x.dtype), [x.shape[1]])
        skip = apply_mask(skip, normalize_dtype(form.skip_mask, x.dtype), [skip.shape[1]])
    transposed, beside = upsampled_weight(form.weight, x.shape[1])
    raw = F.conv_transpose2d(x, transposed, None, 2, 1)
    raw += F.conv2d(skip, beside, None, 1, padding)
    mask = normalize_dtype(form.planes, x.dtype)
    one = (1, 1)
    return Raw(
        raw, *planes(mask, form.channels, (3, 3), one, (padding, padding), one, eps, x.dtype)
    )


def _join_masks(mask: Tensor, skip_mask: Tensor, skip: Tensor) -> Tensor:
    """Both masks as planes of the skip's size, enlarged as the features are."""
    values = mask if mask.is_floating_point() else (mask != 0).to(torch.uint8)
    large = F.interpolate(values, size=skip.shape[2:], mode="nearest").to(mask.dtype)
    pair = [large, skip_mask]
    if mask.shape[0] != skip_mask.shape[0]:
        batch = skip_mask.shape[0] if mask.shape[0] == 1 else mask.shape[0]
        pair = [m.expand(batch, *m.shape[1:]) for m in pair]
    return torch.cat(pair, 1)


def _as_transposed(form: _Form, padding: int) -> bool:
    """Whether the identity holds and was measured to pay.

    Not in an exported program, which would be bound to one side of the threshold, nor on a backend
    that was asked for by name and is not the one measured.
    """
    if torch.compiler.is_exporting():
        return False
    if not torch.compiler.is_compiling() and dispatch.current() not in (dispatch.AUTO, "cpu"):
        return False
    x, weight = form.x, form.weight
    height, width = form.skip.shape[2:]
    return (
        weight.shape[2:] == (3, 3)
        and padding == 1
        and height == 2 * x.shape[2]
        and width == 2 * x.shape[3]
        and x.shape[0] * height * width >= _LEAST_PIXELS
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
    )
