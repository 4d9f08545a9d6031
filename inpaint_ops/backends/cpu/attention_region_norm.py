"""RN_L: pool, small convolutions, statistics and apply; backward in two passes over x."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import core
from ..layout import dense, like
from ..precision import compute_dtype
from .attention_maps import attention_maps, attention_maps_backward


def attention_region_norm_forward(
    x: Tensor,
    attention_weight: Tensor,
    gamma_weight: Tensor,
    gamma_bias: Tensor,
    beta_weight: Tensor,
    beta_bias: Tensor,
    threshold: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """y; then, for the backward, pooled, argmax, attention, maps, mean and rstd."""
    native = core.load()
    x = dense(x)
    n, c, *spatial = x.shape
    pooled = x.new_empty(n, 2, *spatial, dtype=compute_dtype(x.dtype))
    argmax = torch.empty(n, 1, *spatial, dtype=torch.int32)
    native.channel_pool(core.view(x), core.view(pooled), core.view(argmax))
    attention, maps = attention_maps(
        pooled, attention_weight, gamma_weight, gamma_bias, beta_weight, beta_bias
    )
    y = torch.empty_like(x)
    mean = torch.zeros(1, 2, c, dtype=torch.float64)
    rstd = torch.zeros_like(mean)
    native.attention_region_norm_forward(
        core.view(x), core.view(attention >= threshold), core.view(maps), eps, core.view(y),
        core.view(mean), core.view(rstd),
    )  # fmt: skip
    return y, pooled, argmax, attention, maps, mean, rstd


def attention_region_norm_backward(
    grad: Tensor,
    x: Tensor,
    attention_weight: Tensor,
    gamma_weight: Tensor,
    beta_weight: Tensor,
    pooled: Tensor,
    argmax: Tensor,
    attention: Tensor,
    maps: Tensor,
    mean: Tensor,
    rstd: Tensor,
    threshold: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x and of the five parameters."""
    native = core.load()
    x = dense(x)
    grad = like(grad, x)
    grad_maps = torch.empty_like(maps)
    sums = torch.zeros(2, 2, x.shape[1], dtype=torch.float64)
    common = (
        core.view(grad),
        core.view(x),
        core.view(attention >= threshold),
        core.view(maps),
        core.view(mean),
        core.view(rstd),
    )
    native.attention_region_norm_backward_maps(*common, core.view(grad_maps), core.view(sums))
    grad_pooled, *parameters = attention_maps_backward(
        grad_maps, pooled, attention, attention_weight, gamma_weight, beta_weight
    )
    grad_x = torch.empty_like(x)
    native.attention_region_norm_backward_input(
        *common, core.view(sums), core.view(grad_pooled), core.view(argmax),
        core.view(grad_x),
    )  # fmt: skip
    grad_aw, grad_gw, grad_gb, grad_bw, grad_bb = parameters
    return grad_x, grad_aw, grad_gw, grad_gb, grad_bw, grad_bb
