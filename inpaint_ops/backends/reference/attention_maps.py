"""RN_L's attention, Yu et al. 2020, section 3.3, and the published code (kernel 7, padding 3).

a = sigmoid(conv(pooled)); gamma and beta are convolutions of ``a``. ``maps`` holds both.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..convolution import convolution_backward


def _padding(weight: Tensor) -> list[int]:
    return [size // 2 for size in weight.shape[2:]]


def attention_maps(
    pooled: Tensor,
    attention_weight: Tensor,
    gamma_weight: Tensor,
    gamma_bias: Tensor,
    beta_weight: Tensor,
    beta_bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """The attention map (N, 1, H, W), and gamma and beta as (N, 2, H, W)."""
    score = F.conv2d(pooled, attention_weight, None, 1, _padding(attention_weight))
    attention = torch.sigmoid(score)
    gamma = F.conv2d(attention, gamma_weight, gamma_bias, 1, _padding(gamma_weight))
    beta = F.conv2d(attention, beta_weight, beta_bias, 1, _padding(beta_weight))
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

    def conv_backward(grad: Tensor, source: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        one, both = [1, 1], [True, True]
        grads = convolution_backward(grad, source, weight, one, _padding(weight), one, 1, both)
        assert grads[0] is not None
        assert grads[1] is not None
        return grads[0], grads[1]

    grad_gamma, grad_beta = grad_maps[:, :1], grad_maps[:, 1:]
    from_gamma, grad_gamma_weight = conv_backward(grad_gamma, attention, gamma_weight)
    from_beta, grad_beta_weight = conv_backward(grad_beta, attention, beta_weight)
    grad_score = (from_gamma + from_beta) * attention * (1 - attention)
    grad_pooled, grad_attention_weight = conv_backward(grad_score, pooled, attention_weight)
    return (
        grad_pooled,
        grad_attention_weight,
        grad_gamma_weight,
        grad_gamma.sum().reshape(1),
        grad_beta_weight,
        grad_beta.sum().reshape(1),
    )
