"""Partial convolution: an implicit matrix product, or cuDNN's convolution between two passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..convolution import convolution, convolution_backward
from ..layout import dense, like, order
from ..precision import compute_dtype
from . import choice, gemm
from .apply_mask import apply_mask, apply_mask_into
from .epilogue import epilogue, epilogue_backward
from .mask_update import mask_update

Form = tuple[Tensor, Tensor, Tensor]


def _what(op: str, x: Tensor, mask: Tensor | None, weight: Tensor, *rest: Any) -> tuple[Any, ...]:
    """What a measured choice holds for."""
    planes = None if mask is None else (mask.shape[0] == 1, mask.shape[1], mask.dtype)
    shapes = (tuple(x.shape), tuple(weight.shape), *(tuple(r) for r in rest))
    return (op, *shapes, x.dtype, order(x), order(weight), planes, gemm.precision())


def partial_conv_forward(
    x: Tensor,
    mask: Tensor | None,
    channels: Sequence[int],
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    mask_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    multi_channel: bool,
    masked_input: bool,
    eps: float,
) -> Form:
    """y = (conv(x*mask) * ratio + bias) * new_mask, or conv(x*mask) * ratio without a bias."""
    x = dense(x)
    window = gemm.Window(stride, padding, dilation)

    def run(config: gemm.Config | None) -> Form:
        if config is not None:
            return gemm.forward(
                x, mask, channels, weight, bias, window, mask_padding, multi_channel,
                masked_input, eps, config,
            )[:3]  # fmt: skip
        counts = channels if multi_channel else [1]
        plane = x.new_ones(()).expand(1, 1, *x.shape[2:]) if mask is None else mask
        new_mask, ratio = mask_update(
            plane, counts, weight.shape[2:], stride, mask_padding, dilation, eps,
            compute_dtype(x.dtype),
        )  # fmt: skip
        select = mask is not None and not masked_input
        source = apply_mask(x, mask, channels) if mask is not None and select else x
        y = dense(convolution(source, weight, stride, padding, dilation, groups))
        epilogue(y, ratio, new_mask, bias)
        return y, new_mask, ratio

    if not gemm.applies(x, weight, groups):
        return run(None)
    what = _what("forward", x, mask, weight, *window, channels, [masked_input, bias is None])
    pixels = x.shape[0] * gemm.image(x)
    return run(choice.choose(what, gemm.fitting(pixels, weight.shape[0], x.shape[1]), run, x))


def partial_conv_backward(
    grad: Tensor,
    x: Tensor,
    mask: Tensor | None,
    channels: Sequence[int],
    weight: Tensor,
    new_mask: Tensor,
    ratio: Tensor,
    has_bias: bool,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    masked_input: bool,
    needs: Sequence[bool],
) -> Form:
    """Gradients of x, weight and bias; an empty tensor where ``needs`` is False."""
    x = dense(x)
    grad, new_mask, ratio = like(grad, x), new_mask.contiguous(), ratio.contiguous()
    holes = None if masked_input else mask
    window = gemm.Window(stride, padding, dilation)

    def sums(raw: bool, bias: bool) -> tuple[Tensor | None, Tensor | None]:
        return epilogue_backward(grad, ratio, new_mask, has_bias, (raw, bias))

    def product(raw: Tensor, masked: Tensor, wanted: list[bool]) -> tuple[Tensor | None, ...]:
        return convolution_backward(raw, masked, weight, stride, padding, dilation, groups, wanted)

    def of_input(config: gemm.Config | None, raw: Tensor | None = None) -> Tensor:
        if config is not None:
            scale = gemm.scaled(new_mask, ratio, has_bias)
            return gemm.grad_input(grad, scale, x, holes, channels, weight, window, config)
        raw = sums(True, False)[0] if raw is None else raw
        assert raw is not None
        grad_x = product(raw, x, [True, False])[0]
        assert grad_x is not None
        return grad_x if holes is None else apply_mask_into(grad_x, holes, channels, grad_x)

    def of_weight(config: gemm.Config | None, raw: Tensor | None = None) -> Tensor:
        if config is not None:
            scale = gemm.scaled(new_mask, ratio, has_bias)
            return gemm.grad_weight(grad, scale, x, holes, channels, weight, window, config)
        raw = sums(True, False)[0] if raw is None else raw
        assert raw is not None
        masked = x if holes is None else apply_mask(x, holes, channels)
        grad_weight = product(raw, masked, [False, True])[1]
        assert grad_weight is not None
        return grad_weight

    chosen: list[gemm.Config | None] = [None, None]
    if gemm.applies(x, weight, groups):
        k, c = weight.shape[:2]
        sizes = ((x.shape[0] * gemm.image(x), c, k), (k, c, grad.shape[0] * gemm.image(grad)))
        for i, (name, run) in enumerate((("grad_input", of_input), ("grad_weight", of_weight))):
            if needs[i]:
                what = _what(name, x, mask, weight, *window, channels, [masked_input, has_bias])
                chosen[i] = choice.choose(what, gemm.fitting(*sizes[i]), run, x)
    by_library = any(need and c is None for need, c in zip(needs[:2], chosen, strict=True))
    raw, grad_bias = sums(by_library, needs[2])
    empty = x.new_empty(0)
    return (
        of_input(chosen[0], raw) if needs[0] else empty,
        of_weight(chosen[1], raw) if needs[1] else empty,
        empty if grad_bias is None else grad_bias,
    )
