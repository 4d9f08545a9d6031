"""Partial convolution: prologue, the library's convolution, epilogue in place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import core
from ..convolution import convolution, convolution_backward
from ..layout import dense, like
from ..precision import compute_dtype
from .apply_mask import apply_mask, apply_mask_into
from .launch import optional, where, workspace
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
    x = dense(x)
    plane = x.new_ones(()).expand(1, 1, *x.shape[2:]) if mask is None else mask
    new_mask, ratio = mask_update(
        plane, channels if multi_channel else [1], weight.shape[2:], stride, mask_padding, dilation,
        eps, compute_dtype(x.dtype),
    )  # fmt: skip
    source = x if mask is None or masked_input else apply_mask(x, mask, channels)
    y = dense(convolution(source, weight, stride, padding, dilation, groups))
    core.load().cuda_partial_conv_epilogue(
        *where(y), core.view(y), core.view(ratio), core.view(new_mask.to(ratio.dtype)),
        optional(bias),
    )  # fmt: skip
    return y, new_mask, ratio


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
    native = core.load()
    empty = x.new_empty(0)
    grad = dense(grad)
    raw = torch.empty_like(grad)
    grad_bias = x.new_zeros(weight.shape[0]) if has_bias and needs[2] else None
    partials = (
        None if grad_bias is None else workspace(x, native.cuda_workspace(core.view(grad), 1))
    )
    native.cuda_partial_conv_epilogue_backward(
        *where(grad), core.view(grad), core.view(ratio), core.view(new_mask.to(ratio.dtype)),
        core.view(raw), None if grad_bias is None else core.view(grad_bias),
        None if partials is None else core.view(partials),
    )  # fmt: skip
    x = dense(x)
    select = mask is not None and not masked_input
    source = apply_mask(x, mask, channels) if select and needs[1] and mask is not None else x
    grad_x, grad_weight = convolution_backward(
        like(raw, source), source, weight, stride, padding, dilation, groups, needs
    )
    if grad_x is not None and select and mask is not None:
        grad_x = dense(grad_x)
        grad_x = apply_mask_into(grad_x, mask, channels, grad_x)
    return (
        empty if grad_x is None else grad_x,
        empty if grad_weight is None else grad_weight,
        empty if grad_bias is None else grad_bias,
    )
