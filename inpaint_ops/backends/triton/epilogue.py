"""Launches what surrounds a dense convolution."""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels.partial_conv import epilogue_backward_kernel, epilogue_kernel
from .launch import blocks, chunked, launch, pixels, raw, strides

_TILE = 2048


def _step(plane: Tensor) -> int:
    return 0 if plane.shape[0] == 1 else pixels(plane)


def epilogue(y: Tensor, ratio: Tensor, new_mask: Tensor, bias: Tensor | None) -> None:
    """y = (y * ratio + bias) * new_mask, or y * ratio without a bias, in place; y is dense."""
    tile = blocks(y, _TILE)
    launch(
        epilogue_kernel, y.shape[0] * tile.columns * tile.rows, y,
        y, ratio, raw(new_mask), ratio if bias is None else bias.contiguous(), y.shape[1],
        pixels(y), *strides(y), _step(ratio),
        HAS_BIAS=bias is not None, BLOCK_P=tile.pixels, BLOCK_C=tile.channels,
    )  # fmt: skip


def epilogue_backward(
    grad: Tensor, ratio: Tensor, new_mask: Tensor, has_bias: bool, wants: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the dense convolution's result and of the bias, those that are wanted.

    The first has the dtype and memory order of ``grad``, which is dense; sums are taken in chunks
    of fixed size and then over the chunks.
    """
    tile = blocks(grad, _TILE)
    tiles, chunks = chunked(grad.shape[0] * tile.rows, tile.columns)
    out = torch.empty_like(grad) if wants[0] else None
    sums = has_bias and wants[1]
    partials = ratio.new_empty((grad.shape[0] * chunks, grad.shape[1]) if sums else (0,))
    if sums or wants[0]:
        launch(
            epilogue_backward_kernel, grad.shape[0] * chunks * tile.rows, grad,
            grad, ratio, raw(new_mask), grad if out is None else out, partials, grad.shape[1],
            pixels(grad), chunks, *strides(grad), _step(ratio),
            HAS_BIAS=has_bias, RAW=wants[0], SUMS=sums, TILES=tiles, BLOCK_P=tile.pixels,
            BLOCK_C=tile.channels,
        )  # fmt: skip
    return out, partials.sum(0).to(grad.dtype) if sums else None
