"""The dense convolution: a kernel of our own into a few channels, else ATen's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import core
from ..convolution import convolution as aten_convolution
from ..layout import dense, order
from ..window import output_size

_DTYPES = (torch.float32, torch.float64)
_MAX_OUTPUTS = 4
_MAX_SPAN = 64
_VECTOR_BYTES = 64


def convolution(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The convolution without a bias; x is dense."""
    if weight.shape[0] <= _MAX_OUTPUTS and _narrow(x, weight, stride, dilation, groups):
        spatial = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
        size = (x.shape[0], weight.shape[0], *spatial)
        y = torch.empty(size, dtype=x.dtype, memory_format=order(x))
        core.load().narrow_conv(core.view(x), core.view(weight), padding, dilation, core.view(y))
        return y
    return dense(aten_convolution(x, weight, stride, padding, dilation, groups))


def _narrow(
    x: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int
) -> bool:
    """Whether the native kernel takes these, and ATen would choose the memory order of x."""
    return (
        x.dim() == 4
        and x.dtype in _DTYPES
        and groups == 1
        and all(s == 1 for s in stride)
        and x.shape[1] * x.element_size() >= _VECTOR_BYTES
        and weight.shape[2] * weight.shape[3] > 1
        and all(d * (k - 1) <= _MAX_SPAN for k, d in zip(weight.shape[2:], dilation, strict=True))
        and weight.is_contiguous(memory_format=order(x))
    )
