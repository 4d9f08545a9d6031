"""Partial convolution: prologue into scratch, ATen's convolution, epilogue in place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import core
from ..convolution import convolution_backward
from ..layout import dense, like, native_planes
from ..precision import compute_dtype
from ..window import output_size
from . import scratch
from .apply_mask import apply_mask_in_place, apply_mask_into
from .convolution import convolution
from .mask_update import empty_planes, mask_update


def _holes(mask: Tensor | None, masked_input: bool) -> Tensor | None:
    """The mask, if there is anything to select away."""
    if mask is None or masked_input or core.load().all_valid(core.view(mask)):
        return None
    return mask


def _masked(x: Tensor, holes: Tensor | None, channels: Sequence[int]) -> Tensor:
    """x with its holes at zero, in scratch memory if there are any."""
    x = dense(x)
    if holes is None:
        return x
    return apply_mask_into(x, holes, channels, scratch.empty_like(x, scratch.INPUT))


def _as(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return mask if mask.dtype == dtype else mask.to(dtype)


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
    counts = channels if multi_channel else [1]
    x, kernel = dense(x), weight.shape[2:]
    if mask is None or masked_input:
        plane = x.new_ones(()).expand(1, 1, *x.shape[2:]) if mask is None else mask
        new_mask, ratio = mask_update(
            plane, counts, kernel, stride, mask_padding, dilation, eps, compute_dtype(x.dtype)
        )
    else:
        spatial = output_size(mask.shape[2:], kernel, stride, mask_padding, dilation)
        new_mask, ratio = empty_planes(mask, spatial, compute_dtype(x.dtype))
        masked = scratch.empty_like(x, scratch.INPUT)
        holes = core.load().partial_conv_prologue(
            core.view(x), core.view(native_planes(mask, x, channels)), channels, counts, kernel,
            stride, mask_padding, dilation, eps, core.view(new_mask), core.view(ratio),
            core.view(masked),
        )  # fmt: skip
        x = masked if holes else x
    y = convolution(x, weight, stride, padding, dilation, groups)
    core.load().partial_conv_epilogue(
        core.view(y),
        core.view(ratio),
        core.view(_as(new_mask, ratio.dtype)),
        None if bias is None else core.view(bias.contiguous()),
    )
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
    empty = x.new_empty(0)
    grad = dense(grad)
    raw = scratch.empty_like(grad, scratch.GRAD)
    grad_bias = x.new_empty(weight.shape[0]) if has_bias else None
    core.load().partial_conv_epilogue_backward(
        core.view(grad),
        core.view(ratio),
        core.view(_as(new_mask, ratio.dtype)),
        core.view(raw),
        None if grad_bias is None else core.view(grad_bias),
    )
    holes = _holes(mask, masked_input)
    source = _masked(x, holes, channels) if needs[1] else dense(x)
    grad_x, grad_weight = convolution_backward(
        like(raw, source), source, weight, stride, padding, dilation, groups, needs
    )
    if grad_x is not None and holes is not None:
        grad_x = apply_mask_in_place(grad_x, holes, channels)
    return (
        empty if grad_x is None else grad_x,
        empty if grad_weight is None else grad_weight,
        grad_bias if grad_bias is not None and needs[2] else empty,
    )
