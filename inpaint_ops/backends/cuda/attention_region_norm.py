"""RN_L: pool, small convolutions by the library, statistics and apply; and their backward.

In a block x is a convolution's raw result: see :mod:`block_norm`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import core
from ..layout import dense, like
from ..reference.attention_maps import attention_maps, attention_maps_backward
from .block_norm import Surround, surround
from .launch import plane, where, workspace


def _forward(
    x: Tensor,
    ratio: Tensor | None,
    block: Surround,
    parameters: tuple[Tensor, ...],
    threshold: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    native = core.load()
    n, c, *spatial = x.shape
    pooled = torch.empty(n, 2, *spatial, dtype=torch.float32, device=x.device)
    argmax = torch.empty(n, 1, *spatial, dtype=torch.int32, device=x.device)
    native.cuda_channel_pool(*where(x), core.view(x), core.view(pooled), core.view(argmax))
    if ratio is not None:
        pooled.mul_(ratio)  # never negative: mean and maximum of x * ratio
    attention, maps = attention_maps(pooled, *parameters)
    y = torch.empty_like(x)
    mean = torch.zeros(1, 2, c, dtype=torch.float64, device=x.device)
    rstd = torch.zeros_like(mean)
    scratch = workspace(x, native.cuda_region_workspace(core.view(x), False))
    native.cuda_attention_region_norm_forward(
        *where(x), core.view(x), *block, plane(attention >= threshold), core.view(maps), eps,
        core.view(y), core.view(mean), core.view(rstd), core.view(scratch),
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
    return _forward(dense(x), None, Surround(), parameters, threshold, eps)


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
    parameters = (attention_weight, gamma_weight, gamma_bias, beta_weight, beta_bias)
    block = surround(ratio, new_mask, slope)
    return _forward(dense(x), ratio, block, parameters, threshold, eps)


def _backward(
    grad: Tensor,
    x: Tensor,
    block: Surround,
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
    common = (
        *where(x), core.view(like(grad, x)), core.view(x), *block, plane(attention >= threshold),
        core.view(maps), core.view(mean), core.view(rstd),
    )  # fmt: skip
    grad_maps = torch.empty_like(maps)
    native.cuda_attention_region_norm_maps(*common, core.view(grad_maps))
    grad_pooled, *parameters = attention_maps_backward(
        grad_maps, pooled, attention, attention_weight, gamma_weight, beta_weight
    )
    grad_x = torch.empty_like(x)
    scratch = core.view(workspace(x, native.cuda_region_workspace(core.view(x), False)))
    native.cuda_attention_region_norm_sums(*common, scratch)
    native.cuda_attention_region_norm_input(
        *common, core.view(grad_pooled.contiguous()), core.view(argmax), core.view(grad_x), scratch
    )
    grad_aw, grad_gw, grad_gb, grad_bw, grad_bb = parameters
    return grad_x, grad_aw, grad_gw, grad_gb, grad_bw, grad_bb


def attention_region_norm_backward(
    grad: Tensor, x: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x and of the five parameters."""
    return _backward(grad, dense(x), Surround(), *rest)


def attention_block_norm_backward(
    grad: Tensor, x: Tensor, ratio: Tensor, new_mask: Tensor, slope: float, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The same in a block."""
    return _backward(grad, dense(x), surround(ratio, new_mask, slope), *rest)
