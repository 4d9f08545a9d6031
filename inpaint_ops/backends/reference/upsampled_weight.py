"""The weights of a convolution of an enlarged map beside a skip, cut in two.

A 3x3 convolution of a map that was enlarged by nearest neighbour is a transposed convolution of the
small map, stride 2, padding 1, whose 4x4 windows hold sums of the 3x3 weights W::

    K = S W S^T,   S = [[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]]
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..layout import like, order

_SPREAD = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def upsampled_weight_forward(weight: Tensor, deep: int) -> tuple[Tensor, Tensor]:
    """(O, C1 + C2, 3, 3) as K (C1, O, 4, 4), C1 = ``deep``, and the skip's (O, C2, 3, 3)."""
    spread = weight.new_tensor(_SPREAD)
    windows = (spread @ weight[:, :deep] @ spread.t()).transpose(0, 1)
    layout = order(weight)
    beside = torch.empty_like(weight[:, deep:], memory_format=layout).copy_(weight[:, deep:])
    return windows.contiguous(memory_format=layout), beside


def upsampled_weight_backward(grad_transposed: Tensor, grad_beside: Tensor) -> Tensor:
    """The gradient of the weight, in the memory order of ``grad_beside``."""
    spread = grad_beside.new_tensor(_SPREAD)
    deep = spread.t() @ grad_transposed.transpose(0, 1) @ spread
    return like(torch.cat([deep, grad_beside], 1), grad_beside)
