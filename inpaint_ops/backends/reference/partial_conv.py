"""Partial convolution, Liu et al. 2018, equation 1, as NVIDIA/partialconv computes it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..convolution import convolution, convolution_backward
from ..precision import compute_dtype
from .apply_mask import apply_mask
from .mask_update import mask_update


def partial_conv_forward(
    x: Tensor,
    mask: Tensor | None,
    channels: Sequence[int],
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    mask_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    multi_channel: bool,
    masked_input: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """y = (conv(x*mask) * ratio + bias) * new_mask, or conv(x*mask) * ratio without a bias."""
    plane = x.new_ones(1, 1, *x.shape[2:]) if mask is None else mask
    counts = channels if multi_channel else [1]
    dtype = compute_dtype(x.dtype)
    new_mask, ratio = mask_update(
        plane, counts, weight.shape[2:], stride, mask_padding, dilation, eps, dtype
    )
    masked = x if mask is None or masked_input else apply_mask(x, mask, channels)
    y = convolution(masked, weight, stride, padding, dilation, groups) * ratio
    if bias is not None:
        y = (y + bias.view(1, -1, *[1] * len(stride))) * new_mask
    return y.to(x.dtype), new_mask, ratio


def partial_conv_backward(
    grad: Tensor,
    x: Tensor,
    mask: Tensor | None,
    channels: Sequence[int],
    weight: Tensor,
    new_mask: Tensor,
    ratio: Tensor,
    has_bias: bool,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    masked_input: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias; an empty tensor where ``needs`` is False."""
    empty = x.new_empty(0)
    through = grad * new_mask if has_bias else grad
    raw = (through * ratio).to(x.dtype)
    select = mask is not None and not masked_input
    masked = apply_mask(x, mask, channels) if select and mask is not None else x
    grad_x, grad_weight = convolution_backward(
        raw, masked, weight, stride, padding, dilation, groups, needs
    )
    if grad_x is not None and select and mask is not None:
        grad_x = apply_mask(grad_x, mask, channels)
    grad_bias = empty
    if has_bias and needs[2]:
        axes = [0, *range(2, grad.dim())]
        grad_bias = through.to(ratio.dtype).sum(axes).to(x.dtype)
    return (
        empty if grad_x is None else grad_x,
        empty if grad_weight is None else grad_weight,
        grad_bias,
    )
