"""The learned form of region normalization (RN_L), Yu et al. 2020, section 3.3."""

from __future__ import annotations

import torch
from torch import Tensor

from ..precision import compute_dtype
from .attention_maps import attention_maps, attention_maps_backward
from .region_norm import normalize, normalized_backward, region_statistics


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
    best, argmax = x.max(1, keepdim=True)
    wide = compute_dtype(x.dtype)
    pooled = torch.cat([x.mean(1, keepdim=True, dtype=wide), best.to(wide)], 1)
    attention, maps = attention_maps(
        pooled, attention_weight, gamma_weight, gamma_bias, beta_weight, beta_bias
    )
    mask = attention.detach() >= threshold
    mean, rstd = region_statistics(x, mask, eps, True, False)
    y = normalize(x, mask, mean, rstd) * (1 + maps[:, :1]) + maps[:, 1:]
    return y.to(x.dtype), pooled, argmax.to(torch.int32), attention, maps, mean, rstd


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
    mask = attention >= threshold
    normalized = normalize(x, mask, mean, rstd)
    wide = grad.to(normalized.dtype)
    grad_gamma = (wide * normalized).sum(1, keepdim=True)
    grad_maps = torch.cat([grad_gamma, wide.sum(1, keepdim=True)], 1)
    grad_pooled, *parameters = attention_maps_backward(
        grad_maps, pooled, attention, attention_weight, gamma_weight, beta_weight
    )
    grad_x = normalized_backward(wide * (1 + maps[:, :1]), x, mask, mean, rstd, False)
    grad_x = grad_x + grad_pooled[:, :1] / x.shape[1]
    grad_x = grad_x.scatter_add(1, argmax.long(), grad_pooled[:, 1:])
    grad_aw, grad_gw, grad_gb, grad_bw, grad_bb = parameters
    return grad_x.to(x.dtype), grad_aw, grad_gw, grad_gb, grad_bw, grad_bb
