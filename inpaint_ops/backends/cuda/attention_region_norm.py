"""RN_L: pool, small convolutions by the library, statistics and apply; and their backward."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import core
from ..layout import dense, like
from ..reference.attention_maps import attention_maps, attention_maps_backward
from .launch import where, workspace


def _labels(attention: Tensor, threshold: float) -> Tensor:
    return (attention >= threshold).to(torch.float32)


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
    pooled = torch.empty(n, 2, *spatial, dtype=torch.float32, device=x.device)
    argmax = torch.empty(n, 1, *spatial, dtype=torch.int32, device=x.device)
    native.cuda_channel_pool(*where(x), core.view(x), core.view(pooled), core.view(argmax))
    attention, maps = attention_maps(
        pooled, attention_weight, gamma_weight, gamma_bias, beta_weight, beta_bias
    )
    y = torch.empty_like(x)
    mean = torch.zeros(1, 2, c, dtype=torch.float64, device=x.device)
    rstd = torch.zeros_like(mean)
    scratch = workspace(x, native.cuda_region_workspace(core.view(x), False))
    native.cuda_region_norm_forward(
        *where(x), core.view(x), core.view(_labels(attention, threshold)), None, None,
        core.view(maps), eps, True, False, core.view(y), core.view(mean), core.view(rstd),
        core.view(scratch),
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
    common = (*where(x), core.view(like(grad, x)), core.view(x))
    labels = core.view(_labels(attention, threshold))
    statistics = (core.view(mean), core.view(rstd))
    grad_maps = torch.empty_like(maps)
    native.cuda_attention_region_norm_maps(*common, labels, *statistics, core.view(grad_maps))
    grad_pooled, *parameters = attention_maps_backward(
        grad_maps, pooled, attention, attention_weight, gamma_weight, beta_weight
    )
    grad_x = torch.empty_like(x)
    scratch = core.view(workspace(x, native.cuda_region_workspace(core.view(x), False)))
    regions = (labels, core.view(maps), *statistics)
    native.cuda_attention_region_norm_sums(*common, *regions, scratch)
    native.cuda_attention_region_norm_input(
        *common, *regions, core.view(grad_pooled.contiguous()), core.view(argmax),
        core.view(grad_x), scratch,
    )  # fmt: skip
    grad_aw, grad_gw, grad_gb, grad_bw, grad_bb = parameters
    return grad_x, grad_aw, grad_gw, grad_gb, grad_bw, grad_bb
