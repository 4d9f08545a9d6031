"""Launches the reductions of region normalization: chunks of pixels, then the chunks."""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels.region_norm import apply_kernel, statistics_finish_kernel, statistics_kernel
from .kernels.region_norm_backward import coefficients_kernel, input_kernel
from .launch import Blocks, blocks, ceil_div, chunked, launch, pixels, power_of_2, strides

_TILE, _WARPS = 2048, 8
_FINISH_CHUNKS, _FINISH_CHANNELS = 128, 8
SLOTS = 6  # sums that a chunk leaves for each region and channel


def mask_step(mask: Tensor, x: Tensor) -> int:
    """From sample to sample of a contiguous mask; 0 if it is one for all of them."""
    return 0 if mask.shape[0] == 1 else pixels(x)


def cut(x: Tensor) -> tuple[Blocks, int, int]:
    """The tile of a reduction over x, tiles in a chunk, and chunks in a sample."""
    tile = blocks(x, _TILE)
    return tile, *chunked(x.shape[0] * tile.rows, tile.columns)


def _finish(chunks: int, channels: int) -> tuple[int, dict[str, int]]:
    block = min(_FINISH_CHANNELS, power_of_2(channels))
    return ceil_div(channels, block), {
        "BLOCK_I": min(_FINISH_CHUNKS, power_of_2(chunks)),
        "BLOCK_C": block,
    }


def region_statistics(
    x: Tensor, mask: Tensor, eps: float, scale_eps: bool, instance: bool
) -> tuple[Tensor, Tensor]:
    """Mean and 1/sqrt(var + eps) of both regions, (groups, 2, C) float64; 0 for an empty region.

    x is dense, the mask (N or 1, 1, ...) contiguous and not bool.
    """
    n, c = x.shape[:2]
    tile, tiles, chunks = cut(x)
    partials = x.new_empty((n * chunks, 2, SLOTS, c), dtype=torch.float32)
    launch(
        statistics_kernel, n * chunks * tile.rows, x,
        x, mask, partials, c, pixels(x), chunks, *strides(x), mask_step(mask, x),
        TILES=tiles, BLOCK_P=tile.pixels, BLOCK_C=tile.channels, num_warps=_WARPS,
    )  # fmt: skip
    return finish_statistics(partials, n if instance else 1, n * pixels(x), eps, scale_eps)


def finish_statistics(
    partials: Tensor, groups: int, count: int, eps: float, scale_eps: bool
) -> tuple[Tensor, Tensor]:
    """Merge the chunks' sums; ``count`` pixels lie in all groups together."""
    total, _, _, c = partials.shape
    mean = partials.new_zeros((groups, 2, c), dtype=torch.float64)
    rstd = torch.zeros_like(mean)
    if total:
        programs, block = _finish(total // groups, c)
        launch(
            statistics_finish_kernel, programs * 2 * groups, partials,
            partials, mean, rstd, c, total // groups, float(count // groups), eps,
            SCALE_EPS=scale_eps, **block,
        )  # fmt: skip
    return mean, rstd


def region_apply(
    x: Tensor,
    mask: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    maps: Tensor | None,
) -> Tensor:
    """x normalized by region, then scaled and moved by region or, with ``maps``, by pixel."""
    y, tile = torch.empty_like(x), blocks(x, _TILE)
    given = maps if maps is not None else weight
    launch(
        apply_kernel, x.shape[0] * tile.columns * tile.rows, x,
        x, mask, mean, rstd, mean if given is None else given, mean if bias is None else bias, y,
        x.shape[1], pixels(x), *strides(x), mask_step(mask, x),
        INSTANCE=int(mean.shape[0] > 1), HAS_WEIGHT=weight is not None, HAS_BIAS=bias is not None,
        MAPS=maps is not None, BLOCK_P=tile.pixels, BLOCK_C=tile.channels,
    )  # fmt: skip
    return y


def region_input_gradient(
    grad: Tensor,
    x: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    partials: Tensor,
    maps: tuple[Tensor, Tensor, Tensor] | None,
) -> Tensor:
    """The gradient of x from the chunks' sums; ``maps``: gamma and beta, grad_pooled, argmax."""
    groups, _, c = mean.shape
    total, _, slots, _ = partials.shape
    grad_x, tile = torch.empty_like(x), blocks(x, _TILE)
    coefficients = partials.new_empty(groups, 2, 2, c)
    if total:
        programs, block = _finish(total // groups, c)
        launch(
            coefficients_kernel, programs * 2 * groups, x,
            partials, rstd, coefficients, c, total // groups, SLOTS=slots, **block,
        )  # fmt: skip
    given, pooled, argmax = (weight, mean, mean) if maps is None else maps
    launch(
        input_kernel, x.shape[0] * tile.columns * tile.rows, x,
        grad, x, mask, mean if given is None else given, mean, rstd, coefficients, pooled, argmax,
        grad_x, c, pixels(x), *strides(x), mask_step(mask, x),
        INSTANCE=int(groups > 1), HAS_WEIGHT=weight is not None, MAPS=maps is not None,
        BLOCK_P=tile.pixels, BLOCK_C=tile.channels,
    )  # fmt: skip
    return grad_x
