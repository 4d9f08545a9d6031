"""The dense convolution and its gradients, through ATen: already near the machine's limit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .layout import like

_convolution_backward = torch.ops.aten.convolution_backward.default


def convolution(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The convolution of one to three spatial axes, without a bias."""
    none = (0,) * len(stride)
    return torch.convolution(x, weight, None, stride, padding, dilation, False, none, groups)


def convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    needs: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of ``x`` and ``weight`` in their memory orders; None where not needed."""
    if not (needs[0] or needs[1]):
        return None, None
    none = (0,) * len(stride)
    wanted = [needs[0], needs[1], False]
    grad_x, grad_weight, _ = _convolution_backward(
        grad, x, weight, None, stride, padding, dilation, False, none, groups, wanted
    )
    # In the memory orders that the fake kernels promise; a copy only where ATen chose another.
    return (
        None if grad_x is None else like(grad_x, x),
        None if grad_weight is None else like(grad_weight, weight),
    )
