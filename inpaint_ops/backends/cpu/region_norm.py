"""Region normalization in two passes forward and two backward."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import core
from ..layout import dense, like
from ..precision import compute_dtype


def optional(tensor: Tensor | None) -> core.TensorView | None:
    """A view of a tensor, if there is one."""
    return None if tensor is None else core.view(tensor.contiguous())


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
    x = dense(x)
    y = torch.empty_like(x)
    mean = torch.zeros(x.shape[0] if instance else 1, 2, x.shape[1], dtype=torch.float64)
    rstd = torch.zeros_like(mean)
    core.load().region_norm_forward(
        core.view(x), core.view(mask.contiguous()), optional(weight), optional(bias), eps,
        scale_eps, instance, core.view(y), core.view(mean), core.view(rstd),
    )  # fmt: skip
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
    x = dense(x)
    grad_x = torch.empty_like(x)
    grad_weight = x.new_zeros(2, x.shape[1], dtype=compute_dtype(x.dtype))
    grad_bias = torch.zeros_like(grad_weight)
    core.load().region_norm_backward(
        core.view(like(grad, x)), core.view(x), core.view(mask.contiguous()), optional(weight),
        core.view(mean), core.view(rstd), instance, core.view(grad_x), core.view(grad_weight),
        core.view(grad_bias),
    )  # fmt: skip
    return grad_x, grad_weight, grad_bias
