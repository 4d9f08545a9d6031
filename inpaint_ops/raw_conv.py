"""A partial convolution without its epilogue: the raw result, and what is still to be done to it.

What follows in a block (norm, activation, mask) applies the ratio in a pass of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .autograd.apply_mask import apply_mask
from .backends.precision import compute_dtype
from .masks import Mask, planes_for
from .validation import autocast, check_parameters, check_weight, check_x, constant, window

_mask_update = torch.ops.inpaint_ops.mask_update.default


class Raw(NamedTuple):
    """``x * ratio`` is the partial convolution without a bias."""

    x: Tensor  # (N, C_out, H', W')
    ratio: Tensor  # (N or 1, 1, H', W'), in the dtype that x is computed in
    new_mask: Tensor  # (N or 1, 1, H', W'), in the dtype of ratio


def raw_partial_conv2d(
    x: Tensor,
    mask: Mask,
    weight: Tensor,
    stride: int | Sequence[int],
    padding: int | Sequence[int] | str,
    dilation: int | Sequence[int],
    groups: int,
    multi_channel: bool,
    eps: float,
    masked_input: bool,
) -> Raw:
    """As :func:`partial_conv2d` without a bias."""
    check_x(x, 2)
    check_parameters(weight, None)
    cast, cast_weight = autocast(x, weight)
    assert cast is not None
    assert cast_weight is not None
    x, weight = cast, cast_weight
    check_weight(x, weight, None, groups)
    form = planes_for(mask, x, multi_channel)
    assert form.planes is not None
    strides, before, extra, dilations = window(
        "x", x.shape[2:], weight.shape[2:], stride, padding, dilation
    )
    if any(extra):
        raise ValueError(f"padding: expected the same on both sides, got {padding!r}")
    if not masked_input:
        x = apply_mask(x, form.planes, form.channels)
    raw = F.conv2d(x, weight, None, strides, before, dilations, groups)
    counts = form.channels if form.multi_channel else [1]
    kernel = tuple(weight.shape[2:])
    return Raw(raw, *planes(form.planes, counts, kernel, strides, before, dilations, eps, x.dtype))


def planes(
    mask: Tensor,
    counts: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    eps: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Ratio and new mask, both in the dtype that features of ``dtype`` are computed in."""
    wide = compute_dtype(dtype)
    new_mask, ratio = _mask_update(
        mask, counts, kernel, stride, padding, dilation, constant("eps", eps), wide
    )
    return ratio, new_mask if new_mask.dtype == wide else new_mask.to(wide)
