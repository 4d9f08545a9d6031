"""Region normalization in two passes forward and two backward."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import core
from ..layout import dense, like
from .launch import optional, plane, where, workspace


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
    native = core.load()
    x = dense(x)
    y = torch.empty_like(x)
    size = (x.shape[0] if instance else 1, 2, x.shape[1])
    mean = torch.zeros(size, dtype=torch.float64, device=x.device)
    rstd = torch.zeros_like(mean)
    scratch = workspace(x, native.cuda_region_workspace(core.view(x), instance))
    native.cuda_region_norm_forward(
        *where(x), core.view(x), plane(mask), optional(weight), optional(bias), eps,
        scale_eps, instance, core.view(y), core.view(mean), core.view(rstd),
        core.view(scratch),
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
    native = core.load()
    x = dense(x)
    grad_x = torch.empty_like(x)
    grad_weight = torch.zeros(2, x.shape[1], dtype=torch.float32, device=x.device)
    grad_bias = torch.zeros_like(grad_weight)
    scratch = workspace(x, native.cuda_region_workspace(core.view(x), instance))
    native.cuda_region_norm_backward(
        *where(x), core.view(like(grad, x)), core.view(x), plane(mask),
        optional(weight), core.view(mean), core.view(rstd), instance, core.view(grad_x),
        core.view(grad_weight), core.view(grad_bias), core.view(scratch),
    )  # fmt: skip
    return grad_x, grad_weight, grad_bias
