"""What follows the convolution in a block, on its raw result: two passes forward, two backward.

The ratio is applied while the raw result is read, activation and new mask while the result is
written: neither has a pass of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..layout import dense, like
from .launch import optional, raw
from .statistics import (
    Frame,
    affine_gradients,
    region_apply,
    region_input_gradient,
    region_statistics,
    region_sums,
)


def _plane(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else raw(mask.contiguous())


def block_norm_forward(
    x: Tensor,
    ratio: Tensor,
    new_mask: Tensor,
    slope: float,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    scale_eps: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y; mean and rstd, (1, 2, C), or (1, 1, C) without a mask: batch norm's one region."""
    x, mask, frame = dense(x), _plane(mask), Frame.around(ratio, new_mask, slope)
    mean, rstd = region_statistics(x, mask, eps, scale_eps, False, frame)
    y = region_apply(x, mask, mean, rstd, optional(weight), optional(bias), None, frame)
    return y, mean, rstd


def block_norm_fixed(
    x: Tensor,
    ratio: Tensor,
    new_mask: Tensor,
    slope: float,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
) -> Tensor:
    """y by given statistics (1, 1, C)."""
    frame = Frame.around(ratio, new_mask, slope)
    return region_apply(
        dense(x), None, mean.contiguous(), rstd.contiguous(), optional(weight), optional(bias),
        None, frame,
    )  # fmt: skip


def block_norm_fixed_(
    x: Tensor,
    ratio: Tensor,
    new_mask: Tensor,
    slope: float,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
) -> None:
    """The same, in place."""
    source, frame = dense(x), Frame.around(ratio, new_mask, slope)
    region_apply(
        source, None, mean.contiguous(), rstd.contiguous(), optional(weight), optional(bias),
        None, frame, source,
    )  # fmt: skip
    if source is not x:
        x.copy_(source)


def block_norm_backward(
    grad: Tensor,
    x: Tensor,
    ratio: Tensor,
    new_mask: Tensor,
    slope: float,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    fixed: bool,
    needs_affine: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias; the statistics are given ones if ``fixed``.

    Those of weight and bias are empty, (0, C), unless ``needs_affine``; given statistics then save
    the pass that sums.
    """
    x, mask, frame = dense(x), _plane(mask), Frame.around(ratio, new_mask, slope)
    grad, weight, bias = like(grad, x), optional(weight), optional(bias)
    norm = (mask, weight, bias, mean.contiguous(), rstd.contiguous())
    partials = region_sums(grad, x, *norm, frame) if needs_affine or not fixed else None
    grad_x = region_input_gradient(grad, x, *norm, None if fixed else partials, None, frame)
    if partials is None or not needs_affine:
        nothing = x.new_empty((0, x.shape[1]), dtype=torch.float32)
        return grad_x, nothing, torch.empty_like(nothing)
    return grad_x, *affine_gradients(partials, mean.shape[1])
