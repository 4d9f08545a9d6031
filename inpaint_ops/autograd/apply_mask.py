"""Selecting holes away is linear and its own adjoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import library  # noqa: F401  (registers the ops)
from .common import differentiates, remember_backend, same_backend

_apply_mask = torch.ops.inpaint_ops.apply_mask.default


def apply_mask(x: Tensor, mask: Tensor, channels: list[int]) -> Tensor:
    """x without its holes, differentiable where that is asked for."""
    run = ApplyMask.apply if differentiates(x) else _apply_mask
    out: Tensor = run(x, mask, channels)
    return out


class ApplyMask(torch.autograd.Function):
    """out = mask == 0 ? 0 : x * mask; the mask gets no gradient."""

    @staticmethod
    def forward(x: Tensor, mask: Tensor, channels: list[int]) -> Tensor:
        """Run the op."""
        out: Tensor = _apply_mask(x, mask, channels)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the mask."""
        _, mask, ctx.channels = inputs
        ctx.save_for_backward(mask)
        remember_backend(ctx)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient, masked likewise; differentiable as the function itself."""
        (mask,) = ctx.saved_tensors
        if torch.compiler.is_compiling():
            return _apply_mask(grad, mask, ctx.channels), None, None
        with same_backend(ctx):
            return ApplyMask.apply(grad, mask, ctx.channels), None, None
