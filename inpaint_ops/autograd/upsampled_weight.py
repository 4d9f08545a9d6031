"""Cutting the decoder's weights in two is linear; its adjoint puts them together again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import library  # noqa: F401  (registers the ops)
from .common import differentiates, remember_backend, same_backend

_forward = torch.ops.inpaint_ops.upsampled_weight_forward.default
_backward = torch.ops.inpaint_ops.upsampled_weight_backward.default


def upsampled_weight(weight: Tensor, deep: int) -> tuple[Tensor, Tensor]:
    """(O, C1 + C2, 3, 3) as K (C1, O, 4, 4), C1 = ``deep``, and the skip's (O, C2, 3, 3)."""
    run = UpsampledWeight.apply if differentiates(weight) else _forward
    out: tuple[Tensor, Tensor] = run(weight, deep)
    return out


class UpsampledWeight(torch.autograd.Function):
    """The two weights, differentiable any number of times."""

    @staticmethod
    def forward(weight: Tensor, deep: int) -> tuple[Tensor, Tensor]:
        """Run the op."""
        out: tuple[Tensor, Tensor] = _forward(weight, deep)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing is kept: the map is linear."""
        ctx.deep = inputs[1]
        remember_backend(ctx)

    @staticmethod
    def backward(ctx: Any, grad_transposed: Tensor, grad_beside: Tensor) -> tuple[Tensor, None]:
        """The gradient of the weight."""
        if torch.compiler.is_compiling():
            return _backward(grad_transposed, grad_beside), None
        with same_backend(ctx):
            run = _UpsampledWeightBackward.apply if torch.is_grad_enabled() else _backward
            return run(grad_transposed, grad_beside), None


class _UpsampledWeightBackward(torch.autograd.Function):
    """The adjoint, whose gradient is the map itself."""

    @staticmethod
    def forward(grad_transposed: Tensor, grad_beside: Tensor) -> Tensor:
        grad: Tensor = _backward(grad_transposed, grad_beside)
        return grad

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.deep = inputs[0].shape[0]
        remember_backend(ctx)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        with same_backend(ctx):
            return upsampled_weight(grad, ctx.deep)
