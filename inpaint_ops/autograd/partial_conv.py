"""Gradients of partial convolution: none through mask and ratio."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import library  # noqa: F401  (registers the ops)
from ..backends.reference import partial_conv as reference
from .common import remember_backend, same_backend, second_order, wants_graph

_forward = torch.ops.inpaint_ops.partial_conv_forward.default
_backward = torch.ops.inpaint_ops.partial_conv_backward.default


class Geometry(NamedTuple):
    """Everything about a partial convolution that is not a tensor."""

    channels: list[int]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    mask_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    multi_channel: bool
    masked_input: bool
    eps: float


def partial_conv_forward(
    x: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None, geometry: Geometry
) -> tuple[Tensor, Tensor, Tensor]:
    """Call the forward op: y, new_mask and ratio, without autograd."""
    g = geometry
    out: tuple[Tensor, Tensor, Tensor] = _forward(
        x, mask, g.channels, weight, bias, g.stride, g.padding, g.mask_padding, g.dilation,
        g.groups, g.multi_channel, g.masked_input, g.eps,
    )  # fmt: skip
    return out


class PartialConv(torch.autograd.Function):
    """y, new_mask and ratio from x, mask, weight and bias."""

    @staticmethod
    def forward(
        x: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None, *geometry: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the op; ``geometry`` is a Geometry, spread out."""
        return partial_conv_forward(x, mask, weight, bias, Geometry(*geometry))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep x, never x * mask."""
        x, mask, weight, bias, *geometry = inputs
        _, new_mask, ratio = output
        ctx.mark_non_differentiable(new_mask, ratio)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, mask, weight, bias, new_mask, ratio)
        ctx.geometry = geometry
        remember_backend(ctx)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
        """Gradients of x, weight and bias."""
        nothing = (None,) * len(ctx.geometry)
        if grad is None:
            return (None, None, None, None, *nothing)
        x, mask, weight, bias, new_mask, ratio = ctx.saved_tensors
        needs = [ctx.needs_input_grad[i] for i in (0, 2, 3)]
        with same_backend(ctx):
            run = PartialConvBackward.apply if wants_graph() else _run_backward
            grad_x, grad_weight, grad_bias = run(
                grad, x, weight, bias, mask, new_mask, ratio, needs, *ctx.geometry
            )
        return (
            grad_x if needs[0] else None,
            None,
            grad_weight if needs[1] else None,
            grad_bias if needs[2] else None,
            *nothing,
        )


def _run_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    new_mask: Tensor,
    ratio: Tensor,
    needs: list[bool],
    *geometry: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    g = Geometry(*geometry)
    out: tuple[Tensor, Tensor, Tensor] = _backward(
        grad, x, mask, g.channels, weight, new_mask, ratio, bias is not None, g.stride, g.padding,
        g.dilation, g.groups, g.masked_input, needs,
    )  # fmt: skip
    return out


class PartialConvBackward(torch.autograd.Function):
    """The backward op, differentiable once more through the reference's plain formula."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Run the backward op."""
        return _run_backward(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the tensors."""
        grad, x, weight, bias, mask, _, _, ctx.needs, *ctx.geometry = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, x, weight, bias, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        """Gradients of the incoming gradient, x, weight and bias."""
        grad, x, weight, bias, mask = ctx.saved_tensors
        g = Geometry(*ctx.geometry)

        def plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return reference.partial_conv_forward(
                x, mask, g.channels, weight, bias, g.stride, g.padding, g.mask_padding, g.dilation,
                g.groups, g.multi_channel, g.masked_input, g.eps,
            )[0]  # fmt: skip

        asked = [gg if need else None for gg, need in zip(grads, ctx.needs, strict=True)]
        if all(gg is None for gg in asked):
            return (None,) * len(ctx.needs_input_grad)
        second = second_order(plain, [x, weight, bias], grad, asked)
        return (*second, *(None,) * (len(ctx.needs_input_grad) - len(second)))
