"""Region normalization in two passes forward and two backward."""

from __future__ import annotations

import torch
from torch import Tensor

from ..layout import dense, like
from .kernels.region_norm_backward import sums_kernel
from .launch import launch, pixels, raw, strides
from .statistics import (
    SLOTS,
    cut,
    mask_step,
    region_apply,
    region_input_gradient,
    region_statistics,
)


def _optional(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def region_norm_forward(
    x: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    scale_eps: bool,
    instance: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, and mean and rstd (groups, 2, C) float64 for the backward."""
    x, mask = dense(x), raw(mask.contiguous())
    mean, rstd = region_statistics(x, mask, eps, scale_eps, instance)
    y = region_apply(x, mask, mean, rstd, _optional(weight), _optional(bias), None)
    return y, mean, rstd


def region_norm_backward(
    grad: Tensor,
    x: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    instance: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight (2, C) and bias (2, C)."""
    x, mask, weight = dense(x), raw(mask.contiguous()), _optional(weight)
    grad = like(grad, x)
    n, c = x.shape[:2]
    tile, tiles, chunks = cut(x)
    partials = x.new_empty((n * chunks, 2, SLOTS, c), dtype=torch.float32)
    launch(
        sums_kernel, n * chunks * tile.rows, x,
        grad, x, mask, mean if weight is None else weight, mean, rstd, partials, c, pixels(x),
        chunks, *strides(x), mask_step(mask, x),
        INSTANCE=int(mean.shape[0] > 1), HAS_WEIGHT=weight is not None, TILES=tiles,
        BLOCK_P=tile.pixels, BLOCK_C=tile.channels, num_warps=8,
    )  # fmt: skip
    grad_x = region_input_gradient(grad, x, mask, weight, mean, rstd, partials, None)
    total = partials[:, :, 4:].sum(0)
    return grad_x, total[:, 1].contiguous(), total[:, 0].contiguous()
