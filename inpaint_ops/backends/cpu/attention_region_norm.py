"""RN_L: pool, small convolutions, statistics and apply; backward in two passes over x.

In a block x is a convolution's raw result: see :mod:`block_norm`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ... import core
from ..layout import dense, like
from ..precision import compute_dtype
from .attention_maps import attention_maps, attention_maps_backward
from .block_norm import plane


class _Surround(NamedTuple):
    """What stands around the norm, as the native core takes it; nothing without a block."""

    ratio: core.TensorView | None = None
    new_mask: core.TensorView | None = None
    slope: float = 1.0


def _forward(
    x: Tensor,
    ratio: Tensor | None,
    surround: _Surround,
    parameters: tuple[Tensor, ...],
    threshold: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    native = core.load()
    n, c, *spatial = x.shape
    pooled = x.new_empty(n, 2, *spatial, dtype=compute_dtype(x.dtype))
    argmax = torch.empty(n, 1, *spatial, dtype=torch.int32)
    native.channel_pool(core.view(x), core.view(pooled), core.view(argmax))
    if ratio is not None:
        pooled.mul_(ratio)  # never negative: mean and maximum of x * ratio
    attention, maps = attention_maps(pooled, *parameters)
    y = torch.empty_like(x)
    mean = torch.zeros(1, 2, c, dtype=torch.float64)
    rstd = torch.zeros_like(mean)
    native.attention_region_norm_forward(
        core.view(x), *surround, core.view(attention >= threshold), core.view(maps), eps,
        core.view(y), core.view(mean), core.view(rstd),
    )  # fmt: skip
    return y, pooled, argmax, attention, maps, mean, rstd


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
    parameters = (attention_weight, gamma_weight, gamma_bias, beta_weight, beta_bias)
    return _forward(dense(x), None, _Surround(), parameters, threshold, eps)


def attention_block_norm_forward(
    x: Tensor,
    ratio: Tensor,
    new_mask: Tensor,
    slope: float,
    attention_weight: Tensor,
    gamma_weight: Tensor,
    gamma_bias: Tensor,
    beta_weight: Tensor,
    beta_bias: Tensor,
    threshold: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """y = activation(norm(x * ratio)) * new_mask; then as without a block."""
    x = dense(x)
    parameters = (attention_weight, gamma_weight, gamma_bias, beta_weight, beta_bias)
    surround = _Surround(plane(ratio, x), plane(new_mask, x), slope)
    return _forward(x, ratio, surround, parameters, threshold, eps)


def _backward(
    grad: Tensor,
    x: Tensor,
    surround: _Surround,
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
    native = core.load()
    grad = like(grad, x)
    grad_maps = torch.empty_like(maps)
    sums = torch.zeros(2, 2, x.shape[1], dtype=torch.float64)
    common = (
        core.view(grad),
        core.view(x),
        *surround,
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


def attention_region_norm_backward(
    grad: Tensor, x: Tensor, *rest: Tensor | float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x and of the five parameters."""
    return _backward(grad, dense(x), _Surround(), *rest)  # type: ignore[arg-type]


def attention_block_norm_backward(
    grad: Tensor, x: Tensor, ratio: Tensor, new_mask: Tensor, slope: float, *rest: Tensor | float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the raw result x and of the five parameters."""
    x = dense(x)
    surround = _Surround(plane(ratio, x), plane(new_mask, x), slope)
    return _backward(grad, x, surround, *rest)  # type: ignore[arg-type]
