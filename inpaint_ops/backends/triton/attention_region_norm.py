"""RN_L: pool, the library's small convolutions, statistics and apply; backward in two passes.

In a block x is a convolution's raw result: see :mod:`block_norm`. The 7x7 convolutions of one and
two planes are cuDNN's, and so are their precision and determinism.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..layout import dense, like
from ..reference.attention_maps import attention_maps, attention_maps_backward
from .kernels.attention_region_norm import channel_pool_kernel, grad_maps_kernel
from .launch import ceil_div, last, launch, pixels, power_of_2, raw, strides
from .statistics import (
    Frame,
    frame_arguments,
    mask_step,
    region_apply,
    region_input_gradient,
    region_statistics,
)

_TILE, _SLOTS = 2048, 4


def _blocks(x: Tensor) -> tuple[int, int]:
    """Pixels and channels of a tile that walks over all channels."""
    wide = min(power_of_2(x.shape[1]), 64 if last(x) else 8)
    return min(power_of_2(pixels(x)), _TILE // wide), wide


def _forward(
    x: Tensor,
    ratio: Tensor | None,
    frame: Frame | None,
    parameters: tuple[Tensor, ...],
    threshold: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    n, c, *spatial = x.shape
    pooled = x.new_empty((n, 2, *spatial), dtype=torch.float32)
    argmax = x.new_empty((n, 1, *spatial), dtype=torch.int32)
    long, wide = _blocks(x)
    launch(
        channel_pool_kernel, n * ceil_div(pixels(x), long), x,
        x, pooled, argmax, c, pixels(x), *strides(x), BLOCK_P=long, BLOCK_C=wide,
    )  # fmt: skip
    if ratio is not None:
        pooled.mul_(ratio)  # never negative: mean and maximum of x * ratio
    attention, maps = attention_maps(pooled, *parameters)
    mask = raw((attention >= threshold).contiguous())
    mean, rstd = region_statistics(x, mask, eps, True, False, frame)
    y = region_apply(x, mask, mean, rstd, None, None, maps.contiguous(), frame)
    return y, pooled, argmax, attention.contiguous(), maps.contiguous(), mean, rstd


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
    return _forward(dense(x), None, None, parameters, threshold, eps)


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
    frame = Frame.around(ratio, new_mask, slope)
    return _forward(dense(x), ratio, frame, parameters, threshold, eps)


def _backward(
    grad: Tensor,
    x: Tensor,
    frame: Frame | None,
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
    grad = like(grad, x)
    n, c = x.shape[:2]
    mask = raw((attention >= threshold).contiguous())
    long, wide = _blocks(x)
    chunks = ceil_div(pixels(x), long)
    grad_maps = torch.empty_like(maps)
    partials = maps.new_empty(n * chunks, 2, _SLOTS, c)
    around, steps = frame_arguments(frame, x)
    launch(
        grad_maps_kernel, n * chunks, x,
        grad, x, mask, maps, mean, rstd, *around, grad_maps, partials, c, pixels(x), *strides(x),
        mask_step(mask, x), *steps, FRAMED=frame is not None, BLOCK_P=long, BLOCK_C=wide,
    )  # fmt: skip
    grad_pooled, *parameters = attention_maps_backward(
        grad_maps, pooled, attention, attention_weight, gamma_weight, beta_weight
    )
    by_pixel = (maps, grad_pooled.contiguous(), argmax)
    grad_x = region_input_gradient(grad, x, mask, None, None, mean, rstd, partials, by_pixel, frame)
    grad_aw, grad_gw, grad_gb, grad_bw, grad_bb = parameters
    return grad_x, grad_aw, grad_gw, grad_gb, grad_bw, grad_bb


def attention_region_norm_backward(
    grad: Tensor, x: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x and of the five parameters."""
    return _backward(grad, dense(x), None, *rest)


def attention_block_norm_backward(
    grad: Tensor, x: Tensor, ratio: Tensor, new_mask: Tensor, slope: float, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The same of the raw result x."""
    return _backward(grad, dense(x), Frame.around(ratio, new_mask, slope), *rest)
