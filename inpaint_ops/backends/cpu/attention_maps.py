"""RN_L's attention by the native convolution of planes; gamma and beta in one call.

The gradient of a convolution's input is a convolution by the weight turned round, so the same
kernel serves both directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ... import core


def _plane_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out = x.new_empty(x.shape[0], weight.shape[0], *x.shape[2:])
    core.load().plane_conv(
        core.view(x), core.view(weight.contiguous()),
        None if bias is None else core.view(bias), core.view(out),
    )  # fmt: skip
    return out


def _weight_gradient(grad: Tensor, x: Tensor, shape: torch.Size) -> Tensor:
    out = x.new_empty(shape)
    core.load().plane_conv_backward_weight(core.view(grad), core.view(x), core.view(out))
    return out


def _turned(weight: Tensor) -> Tensor:
    return weight.flip(2, 3).transpose(0, 1)


def _joined(gamma_weight: Tensor, beta_weight: Tensor) -> Tensor | None:
    """Both windows as one weight of two planes, if they are of one size."""
    if gamma_weight.shape != beta_weight.shape:
        return None
    return torch.cat([gamma_weight, beta_weight])


def attention_maps(
    pooled: Tensor,
    attention_weight: Tensor,
    gamma_weight: Tensor,
    gamma_bias: Tensor,
    beta_weight: Tensor,
    beta_bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """The attention map (N, 1, H, W), and gamma and beta as (N, 2, H, W)."""
    attention = _plane_conv(pooled, attention_weight, None).sigmoid_()
    weight = _joined(gamma_weight, beta_weight)
    if weight is not None:
        return attention, _plane_conv(attention, weight, torch.cat([gamma_bias, beta_bias]))
    gamma = _plane_conv(attention, gamma_weight, gamma_bias)
    beta = _plane_conv(attention, beta_weight, beta_bias)
    return attention, torch.cat([gamma, beta], 1)


def attention_maps_backward(
    grad_maps: Tensor,
    pooled: Tensor,
    attention: Tensor,
    attention_weight: Tensor,
    gamma_weight: Tensor,
    beta_weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of pooled and of the five parameters, in :func:`attention_maps`' order."""
    weight = _joined(gamma_weight, beta_weight)
    if weight is not None:
        grad_attention = _plane_conv(grad_maps, _turned(weight), None)
        grad_weights = _weight_gradient(grad_maps, attention, weight.shape)
        grad_gamma_weight, grad_beta_weight = grad_weights[:1].clone(), grad_weights[1:].clone()
    else:
        grad_gamma, grad_beta = grad_maps[:, :1].contiguous(), grad_maps[:, 1:].contiguous()
        grad_attention = _plane_conv(grad_gamma, _turned(gamma_weight), None)
        grad_attention += _plane_conv(grad_beta, _turned(beta_weight), None)
        grad_gamma_weight = _weight_gradient(grad_gamma, attention, gamma_weight.shape)
        grad_beta_weight = _weight_gradient(grad_beta, attention, beta_weight.shape)
    grad_biases = grad_maps.sum((0, 2, 3))
    grad_score = grad_attention.mul_(attention).mul_(1 - attention)
    grad_pooled = _plane_conv(grad_score, _turned(attention_weight), None)
    return (
        grad_pooled,
        _weight_gradient(grad_score, pooled, attention_weight.shape),
        grad_gamma_weight,
        grad_biases[:1].clone(),
        grad_beta_weight,
        grad_biases[1:].clone(),
    )
