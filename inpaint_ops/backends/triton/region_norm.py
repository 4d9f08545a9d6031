"""Region normalization in two passes forward and two backward."""

from __future__ import annotations

from torch import Tensor

from ..layout import dense, like
from .launch import optional, raw
from .statistics import (
    affine_gradients,
    region_apply,
    region_input_gradient,
    region_statistics,
    region_sums,
)


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
    y = region_apply(x, mask, mean, rstd, optional(weight), optional(bias), None)
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
    x, mask, weight = dense(x), raw(mask.contiguous()), optional(weight)
    grad = like(grad, x)
    partials = region_sums(grad, x, mask, weight, None, mean, rstd)
    grad_x = region_input_gradient(grad, x, mask, weight, None, mean, rstd, partials, None)
    return grad_x, *affine_gradients(partials, 2)
