"""Gradients of the learned region norm in a block: none through ratio, mask and threshold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import library  # noqa: F401  (registers the ops)
from ..backends.reference import OPS as REFERENCE
from .block_norm import Surround
from .common import differentiates, remember_backend, same_backend, second_order, wants_graph

_forward = torch.ops.inpaint_ops.attention_block_norm_forward.default
_backward = torch.ops.inpaint_ops.attention_block_norm_backward.default

_SURROUND = 3  # ratio, new mask, slope
_PARAMETERS = 5  # the attention weight, and weight and bias of gamma and of beta
_INPUTS = 1 + _SURROUND + _PARAMETERS + 2


def attention_block_norm(
    x: Tensor, surround: Surround, parameters: tuple[Tensor, ...], threshold: float, eps: float
) -> Tensor:
    """y = activation(norm(x * ratio)) * new_mask, the norm being RN_L."""
    run = AttentionBlockNorm.apply if differentiates(x, *parameters) else _forward
    y: Tensor = run(x, *surround, *parameters, threshold, eps)[0]
    return y


class AttentionBlockNorm(torch.autograd.Function):
    """y, and what the backward needs, from the raw result x and the five parameters."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        """Run the op."""
        out: tuple[Tensor, ...] = _forward(*inputs)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep x, the parameters and the op's small by-products."""
        x, ratio, new_mask, slope, *rest = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, ratio, new_mask, *rest[:_PARAMETERS], *output[1:])
        ctx.options = (slope, *rest[_PARAMETERS:])
        remember_backend(ctx)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
        """Gradients of x and the five parameters."""
        if grad is None:
            return (None,) * _INPUTS
        with same_backend(ctx):
            run = AttentionBlockNormBackward.apply if wants_graph() else _run_backward
            grads = run(grad, *ctx.saved_tensors, *ctx.options)
        needs = ctx.needs_input_grad
        asked = [g if needs[i] else None for g, i in zip(grads, (0, 4, 5, 6, 7, 8), strict=True)]
        return (asked[0], None, None, None, *asked[1:], None, None)


def _run_backward(grad: Tensor, x: Tensor, ratio: Tensor, new_mask: Tensor, *rest: Any) -> Any:
    attention_weight, gamma_weight, _, beta_weight, _, *by_products = rest[:-3]
    slope, threshold, _ = rest[-3:]
    return _backward(
        grad, x, ratio, new_mask, slope, attention_weight, gamma_weight, beta_weight, *by_products,
        threshold,
    )  # fmt: skip


class AttentionBlockNormBackward(torch.autograd.Function):
    """The backward op, differentiable once more through the reference's plain formula."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        """Run the backward op."""
        out: tuple[Tensor, ...] = _run_backward(*inputs)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the gradient, x and the parameters."""
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[: 1 + _SURROUND + _PARAMETERS])
        ctx.options = inputs[-3:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        """Gradients of the incoming gradient, x and the parameters."""
        grad, x, ratio, new_mask, *parameters = ctx.saved_tensors
        slope, *options = ctx.options
        if all(gg is None for gg in grads):
            return (None,) * len(ctx.needs_input_grad)

        def plain(x: Tensor, *parameters: Tensor) -> Tensor:
            y: Tensor = REFERENCE["attention_block_norm_forward"](
                x, ratio, new_mask, slope, *parameters, *options
            )[0]
            return y

        second = second_order(plain, [x, *parameters], grad, grads)
        found = (second[0], second[1], None, None, *second[2:])
        return (*found, *(None,) * (len(ctx.needs_input_grad) - len(found)))
