"""Partial convolution: prologue, cuDNN's convolution, epilogue in place."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..convolution import convolution, convolution_backward
from ..layout import dense, like
from ..precision import compute_dtype
from .apply_mask import apply_mask, apply_mask_into
from .epilogue import epilogue, epilogue_backward
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
    counts = channels if multi_channel else [1]
    plane = x.new_ones(()).expand(1, 1, *x.shape[2:]) if mask is None else mask
    new_mask, ratio = mask_update(
        plane, counts, weight.shape[2:], stride, mask_padding, dilation, eps,
        compute_dtype(x.dtype),
    )  # fmt: skip
    if mask is not None and not masked_input:
        x = apply_mask(x, mask, channels)
    y = dense(convolution(x, weight, stride, padding, dilation, groups))
    epilogue(y, ratio, new_mask, bias)
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
    empty, source = x.new_empty(0), dense(x)
    holes = None if masked_input else mask
    wants = (needs[0] or needs[1], needs[2])
    raw, grad_bias = epilogue_backward(like(grad, source), ratio, new_mask, has_bias, wants)
    grad_x: Tensor | None = None
    grad_weight: Tensor | None = None
    if raw is not None:
        if holes is not None and needs[1]:
            source = apply_mask(source, holes, channels)
        grad_x, grad_weight = convolution_backward(
            raw, source, weight, stride, padding, dilation, groups, needs
        )
    if grad_x is not None and holes is not None:
        grad_x = apply_mask_into(grad_x, holes, channels, grad_x)
    return tuple(empty if g is None else g for g in (grad_x, grad_weight, grad_bias))  # type: ignore[return-value]
