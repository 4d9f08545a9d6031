"""Gradients of the learned form of region normalization: none through the threshold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import library  # noqa: F401  (registers the ops)
from ..backends.reference import attention_region_norm as reference
from .common import remember_backend, same_backend, second_order, wants_graph

attention_region_norm_forward = torch.ops.inpaint_ops.attention_region_norm_forward.default
_backward = torch.ops.inpaint_ops.attention_region_norm_backward.default

_TENSORS = 6  # x, the attention weight, and weight and bias of gamma and of beta


class AttentionRegionNorm(torch.autograd.Function):
    """y, and what the backward needs, from x and the five parameters."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        """Run the op on x, five parameters, threshold and eps."""
        out: tuple[Tensor, ...] = attention_region_norm_forward(*inputs)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep x, the parameters and the op's small by-products."""
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:_TENSORS], *output[1:])
        ctx.options = inputs[_TENSORS:]
        remember_backend(ctx)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
        """Gradients of x and the five parameters."""
        if grad is None:
            return (None,) * (_TENSORS + 2)
        saved = ctx.saved_tensors
        with same_backend(ctx):
            run = AttentionRegionNormBackward.apply if wants_graph() else _run_backward
            grads = run(grad, *saved, *ctx.options)
        needs = ctx.needs_input_grad
        return (*(g if need else None for g, need in zip(grads, needs, strict=False)), None, None)


def _run_backward(
    grad: Tensor,
    x: Tensor,
    attention_weight: Tensor,
    gamma_weight: Tensor,
    gamma_bias: Tensor,
    beta_weight: Tensor,
    beta_bias: Tensor,
    *rest: Any,
) -> tuple[Tensor, ...]:
    *by_products, threshold, _ = rest
    out: tuple[Tensor, ...] = _backward(
        grad, x, attention_weight, gamma_weight, beta_weight, *by_products, threshold
    )
    return out


class AttentionRegionNormBackward(torch.autograd.Function):
    """The backward op, differentiable once more through the reference's plain formula."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        """Run the backward op."""
        return _run_backward(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the gradient, x and the parameters."""
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[: 1 + _TENSORS])
        ctx.options = inputs[-2:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        """Gradients of the incoming gradient, x and the parameters."""
        grad, *tensors = ctx.saved_tensors

        def plain(*tensors: Any) -> Tensor:
            y: Tensor = reference.attention_region_norm_forward(*tensors, *ctx.options)[0]
            return y

        if all(gg is None for gg in grads):
            return (None,) * len(ctx.needs_input_grad)
        second = second_order(plain, tensors, grad, grads)
        return (*second, *(None,) * (len(ctx.needs_input_grad) - len(second)))
