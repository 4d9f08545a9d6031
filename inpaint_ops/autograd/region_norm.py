"""Gradients of region normalization: none through the mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import library  # noqa: F401  (registers the ops)
from ..backends.reference import region_norm as reference
from .common import remember_backend, same_backend, second_order, wants_graph

region_norm_forward = torch.ops.inpaint_ops.region_norm_forward.default
_backward = torch.ops.inpaint_ops.region_norm_backward.default


class RegionNorm(torch.autograd.Function):
    """y, mean and rstd from x, mask, weight and bias."""

    @staticmethod
    def forward(
        x: Tensor,
        mask: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        scale_eps: bool,
        instance: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the op."""
        out: tuple[Tensor, Tensor, Tensor] = region_norm_forward(
            x, mask, weight, bias, eps, scale_eps, instance
        )
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep x and the statistics."""
        x, mask, weight, bias, *ctx.options = inputs
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, mask, weight, bias, mean, rstd)
        remember_backend(ctx)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
        """Gradients of x, weight and bias."""
        if grad is None:
            return (None,) * 7
        x, mask, weight, bias, mean, rstd = ctx.saved_tensors
        with same_backend(ctx):
            if wants_graph():
                grad_x, grad_weight, grad_bias = RegionNormBackward.apply(
                    grad, x, weight, bias, mask, mean, rstd, *ctx.options
                )
            else:
                grad_x, grad_weight, grad_bias = _backward(
                    grad, x, mask, weight, mean, rstd, ctx.options[2]
                )
        needs = ctx.needs_input_grad
        return (
            grad_x if needs[0] else None,
            None,
            grad_weight if needs[2] else None,
            grad_bias if needs[3] else None,
            None,
            None,
            None,
        )


class RegionNormBackward(torch.autograd.Function):
    """The backward op, differentiable once more through the reference's plain formula."""

    @staticmethod
    def forward(
        grad: Tensor,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mask: Tensor,
        mean: Tensor,
        rstd: Tensor,
        *options: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the backward op."""
        out: tuple[Tensor, Tensor, Tensor] = _backward(
            grad, x, mask, weight, mean, rstd, options[2]
        )
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the tensors."""
        grad, x, weight, bias, mask, _, _, *ctx.options = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, x, weight, bias, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        """Gradients of the incoming gradient, x, weight and bias."""
        grad, x, weight, bias, mask = ctx.saved_tensors
        present = [True, weight is not None, bias is not None]
        asked = [gg if has else None for gg, has in zip(grads, present, strict=True)]
        if all(gg is None for gg in asked):
            return (None,) * 10

        def plain(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
            return reference.region_norm_forward(x, mask, weight, bias, *ctx.options)[0]

        second = second_order(plain, [x, weight, bias], grad, asked)
        return (*second, *(None,) * 6)
