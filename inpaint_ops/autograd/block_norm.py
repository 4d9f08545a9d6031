"""Gradients of what follows the convolution in a block: none through ratio and masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import library  # noqa: F401  (registers the ops)
from ..backends.reference import OPS as REFERENCE
from ..backends.reference.composed import activated, fixed_map, through_activation
from .common import differentiates, remember_backend, same_backend, second_order, wants_graph

_forward = torch.ops.inpaint_ops.block_norm_forward.default
_fixed = torch.ops.inpaint_ops.block_norm_fixed.default
_fixed_in_place = torch.ops.inpaint_ops.block_norm_fixed_.default
_backward = torch.ops.inpaint_ops.block_norm_backward.default


class Surround(NamedTuple):
    """What stands around a block's norm: (N or 1, 1, ...) planes, and the activation's slope."""

    ratio: Tensor
    new_mask: Tensor
    slope: float


def block_norm(
    x: Tensor,
    surround: Surround,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    scale_eps: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, mean and rstd by the statistics of x * ratio: of the mask's regions, or of one."""
    run = BlockNorm.apply if differentiates(x, weight, bias) else _forward
    out: tuple[Tensor, Tensor, Tensor] = run(x, *surround, mask, weight, bias, eps, scale_eps)
    return out


def block_norm_fixed(
    x: Tensor,
    surround: Surround,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
) -> Tensor:
    """y by given statistics (1, 1, C); mostly, without a gradient, in place of x, which is lost."""
    if differentiates(x, weight, bias):
        y: Tensor = BlockNormFixed.apply(x, *surround, weight, bias, mean, rstd)
        return y
    if _watched():
        y = _fixed(x, *surround, weight, bias, mean, rstd)
        return y
    _fixed_in_place(x, *surround, weight, bias, mean, rstd)
    return x


def block_activation(x: Tensor, surround: Surround, bias: Tensor | None) -> Tensor:
    """y without a norm: activation(x * ratio + bias) * new_mask, bias (1, C); x is mostly lost."""
    mean, rstd = _identity(x)
    if _watched() or not differentiates(x, bias):
        return block_norm_fixed(x, surround, None, bias, mean, rstd)
    y: Tensor = BlockActivation.apply(x, *surround, bias)
    return y


def _watched() -> bool:
    """Whether a compiler, a functorch transform or a dispatch mode (selective checkpointing, fake
    tensors) follows the operators: they want functions without side effects."""
    if torch.compiler.is_compiling():
        return True
    return torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack() > 0


def _identity(x: Tensor) -> tuple[Tensor, Tensor]:
    rstd = x.new_ones((), dtype=torch.float64).expand(1, 1, x.shape[1])
    return torch.zeros_like(rstd), rstd


class BlockNorm(torch.autograd.Function):
    """y, mean and rstd from the raw result x, ratio, new mask, slope, mask, weight and bias."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Run the op."""
        out: tuple[Tensor, Tensor, Tensor] = _forward(*inputs)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep x, never a result: it is computed again where it is needed."""
        x, ratio, new_mask, slope, mask, weight, bias, *options = inputs
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, ratio, new_mask, mask, weight, bias, mean, rstd)
        ctx.options = (slope, False, *options)
        remember_backend(ctx)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
        """Gradients of x, weight and bias."""
        if grad is None:
            return (None,) * 9
        grad_x, grad_weight, grad_bias = _gradients(ctx, grad, (0, 5, 6))
        return (grad_x, None, None, None, None, grad_weight, grad_bias, None, None)


class BlockNormFixed(torch.autograd.Function):
    """y by statistics that do not depend on x."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        """Run the op."""
        y: Tensor = _fixed(*inputs)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep x."""
        x, ratio, new_mask, slope, weight, bias, mean, rstd = inputs
        ctx.save_for_backward(x, ratio, new_mask, None, weight, bias, mean, rstd)
        ctx.options = (slope, True, 0.0, False)
        remember_backend(ctx)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        """Gradients of x, weight and bias."""
        grad_x, grad_weight, grad_bias = _gradients(ctx, grad, (0, 4, 5))
        return (grad_x, None, None, None, grad_weight, grad_bias, None, None)


def _gradients(ctx: Any, grad: Tensor, at: tuple[int, int, int]) -> list[Tensor | None]:
    """Those of x, weight and bias that are asked for; ``at``: where they are among the inputs."""
    needs = [ctx.needs_input_grad[i] for i in at]
    with same_backend(ctx):
        run: Callable[..., Any] = BlockNormBackward.apply if wants_graph() else _run_backward
        grads = run(grad, *ctx.saved_tensors, *ctx.options, needs[1] or needs[2])
    return [g if need else None for g, need in zip(grads, needs, strict=True)]


def _run_backward(
    grad: Tensor,
    x: Tensor,
    ratio: Tensor,
    new_mask: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    slope: float,
    fixed: bool,
    eps: float,
    scale_eps: bool,
    needs_affine: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    out: tuple[Tensor, Tensor, Tensor] = _backward(
        grad, x, ratio, new_mask, slope, mask, weight, bias, mean, rstd, fixed, needs_affine
    )
    return out


class BlockNormBackward(torch.autograd.Function):
    """The backward op, differentiable once more through the reference's plain formula."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Run the backward op."""
        out: tuple[Tensor, Tensor, Tensor] = _run_backward(*inputs)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the tensors."""
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:9])
        ctx.options = inputs[9:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        """Gradients of the incoming gradient, x, weight and bias."""
        grad, x, ratio, new_mask, mask, weight, bias, mean, rstd = ctx.saved_tensors
        slope, fixed, eps, scale_eps, needs_affine = ctx.options
        present = (True, needs_affine and weight is not None, needs_affine and bias is not None)
        asked = [gg if has else None for gg, has in zip(grads, present, strict=True)]
        if all(gg is None for gg in asked):
            return (None,) * 14

        def plain(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
            if fixed:
                u = fixed_map(x * ratio, weight, bias, mean, rstd)
                fixed_y: Tensor = (activated(u, slope) * new_mask).to(x.dtype)
                return fixed_y
            y: Tensor = REFERENCE["block_norm_forward"](
                x, ratio, new_mask, slope, mask, weight, bias, eps, scale_eps
            )[0]
            return y

        grad_grad, grad_x, grad_weight, grad_bias = second_order(
            plain, [x, weight, bias], grad, asked
        )
        return (grad_grad, grad_x, None, None, None, grad_weight, grad_bias, *(None,) * 7)


class BlockActivation(torch.autograd.Function):
    """Without a norm the sign of y is all that the backward needs: y takes the place of x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, ratio: Tensor, new_mask: Tensor, slope: float, bias: Tensor | None
    ) -> Tensor:
        """Run the op in place."""
        _fixed_in_place(x, ratio, new_mask, slope, None, bias, *_identity(x))
        ctx.mark_dirty(x)
        ctx.save_for_backward(x, ratio, new_mask, bias)
        ctx.slope = slope
        remember_backend(ctx)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        """Gradients of x and bias; both are linear in ``grad``, and differentiable."""
        y, ratio, new_mask, bias = ctx.saved_tensors
        if wants_graph():
            through = through_activation(grad, y.detach().to(ratio.dtype), new_mask, ctx.slope)
            grad_x = (through * ratio).to(y.dtype)
            grad_bias = through.sum([0, *range(2, y.dim())]).unsqueeze(0)
        else:
            with same_backend(ctx):
                grad_x, _, grad_bias = _backward(
                    grad, y, ratio, new_mask, ctx.slope, None, None, None, *_identity(y), True,
                    bias is not None,
                )  # fmt: skip
        needs = ctx.needs_input_grad
        return (
            grad_x if needs[0] else None,
            None,
            None,
            None,
            grad_bias if bias is not None and needs[4] else None,
        )
