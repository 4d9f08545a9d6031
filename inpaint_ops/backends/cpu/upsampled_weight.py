"""The decoder's weights cut and transposed in one pass, into the memory order of the weight."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import core
from ..layout import dense, like, order
from ..reference import upsampled_weight as reference

_DTYPES = (torch.float32, torch.float64)


def upsampled_weight_forward(weight: Tensor, deep: int) -> tuple[Tensor, Tensor]:
    """(O, C1 + C2, 3, 3) as K (C1, O, 4, 4), C1 = ``deep``, and the skip's (O, C2, 3, 3)."""
    if weight.dtype not in _DTYPES:
        return reference.upsampled_weight_forward(weight, deep)
    weight = dense(weight)
    outputs, inputs, layout = weight.shape[0], weight.shape[1], order(weight)
    windows = torch.empty((deep, outputs, 4, 4), dtype=weight.dtype, memory_format=layout)
    beside = torch.empty((outputs, inputs - deep, 3, 3), dtype=weight.dtype, memory_format=layout)
    core.load().upsampled_weight_forward(core.view(weight), core.view(windows), core.view(beside))
    return windows, beside


def upsampled_weight_backward(grad_transposed: Tensor, grad_beside: Tensor) -> Tensor:
    """The gradient of the weight, in the memory order of ``grad_beside``."""
    if grad_beside.dtype not in _DTYPES:
        return reference.upsampled_weight_backward(grad_transposed, grad_beside)
    grad_beside = dense(grad_beside)
    grad_transposed = like(grad_transposed, grad_beside)
    size = (grad_beside.shape[0], grad_transposed.shape[0] + grad_beside.shape[1], 3, 3)
    grad = torch.empty(size, dtype=grad_beside.dtype, memory_format=order(grad_beside))
    core.load().upsampled_weight_backward(
        core.view(grad_transposed), core.view(grad_beside), core.view(grad)
    )
    return grad
