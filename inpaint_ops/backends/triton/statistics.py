"""Launches the reductions of region normalization: chunks of pixels, then the chunks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .kernels.region_norm import apply_kernel, statistics_finish_kernel, statistics_kernel
from .kernels.region_norm_backward import coefficients_kernel, input_kernel, sums_kernel
from .launch import Blocks, blocks, ceil_div, chunked, launch, pixels, power_of_2, raw, strides

_TILE, _WARPS = 2048, 8
_FINISH_CHUNKS, _FINISH_CHANNELS = 128, 8
SLOTS = 6  # sums that a chunk leaves for each region and channel


class Frame(NamedTuple):
    """What stands around the norm in a block: planes as kernels read them, the activation's slope.

    Ratio and new mask are (N or 1, 1, ...), contiguous and not bool.
    """

    ratio: Tensor
    new_mask: Tensor
    slope: float

    @classmethod
    def around(cls, ratio: Tensor, new_mask: Tensor, slope: float) -> Frame:
        """Of planes as they come."""
        return cls(ratio.contiguous(), raw(new_mask.contiguous()), slope)


def frame_arguments(frame: Frame | None, x: Tensor) -> tuple[Frame, tuple[int, int]]:
    """Ratio, new mask and slope for a kernel, and the planes' steps from sample to sample."""
    if frame is None:
        return Frame(x, x, 1.0), (0, 0)
    return frame, (mask_step(frame.ratio, x), mask_step(frame.new_mask, x))


def mask_step(mask: Tensor | None, x: Tensor) -> int:
    """From sample to sample of a contiguous mask; 0 if it is one for all of them."""
    return 0 if mask is None or mask.shape[0] == 1 else pixels(x)


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
    x: Tensor,
    mask: Tensor | None,
    eps: float,
    scale_eps: bool,
    instance: bool,
    frame: Frame | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean and 1/sqrt(var + eps) of the regions, (groups, 2, C) float64; 0 for an empty region.

    x is dense, the mask (N or 1, 1, ...) contiguous and not bool. Without a mask there is one
    region, and a row for it.
    """
    n, c = x.shape[:2]
    tile, tiles, chunks = cut(x)
    partials = x.new_empty((n * chunks, 2, SLOTS, c), dtype=torch.float32)
    around, (ratio_step, _) = frame_arguments(frame, x)
    launch(
        statistics_kernel, n * chunks * tile.rows, x,
        x, x if mask is None else mask, around.ratio, partials, c, pixels(x), chunks, *strides(x),
        mask_step(mask, x), ratio_step,
        ONE=mask is None, FRAMED=frame is not None, TILES=tiles, BLOCK_P=tile.pixels,
        BLOCK_C=tile.channels, num_warps=_WARPS,
    )  # fmt: skip
    groups, regions = n if instance else 1, 1 if mask is None else 2
    return finish_statistics(partials, groups, n * pixels(x), eps, scale_eps, regions)


def finish_statistics(
    partials: Tensor, groups: int, count: int, eps: float, scale_eps: bool, regions: int = 2
) -> tuple[Tensor, Tensor]:
    """Merge the chunks' sums; ``count`` pixels lie in all groups together."""
    total, _, _, c = partials.shape
    mean = partials.new_zeros((groups, regions, c), dtype=torch.float64)
    rstd = torch.zeros_like(mean)
    if total:
        programs, block = _finish(total // groups, c)
        launch(
            statistics_finish_kernel, programs * regions * groups, partials,
            partials, mean, rstd, c, total // groups, float(count // groups), eps,
            REGIONS=regions, SCALE_EPS=scale_eps, **block,
        )  # fmt: skip
    return mean, rstd


def region_apply(
    x: Tensor,
    mask: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    maps: Tensor | None,
    frame: Frame | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """x normalized by region, then scaled and moved by region or, with ``maps``, by pixel.

    ``out``, in the memory order of x, may be x.
    """
    y, tile = torch.empty_like(x) if out is None else out, blocks(x, _TILE)
    given = maps if maps is not None else weight
    around, steps = frame_arguments(frame, x)
    launch(
        apply_kernel, x.shape[0] * tile.columns * tile.rows, x,
        x, x if mask is None else mask, mean, rstd, mean if given is None else given,
        mean if bias is None else bias, *around, y, x.shape[1], pixels(x), *strides(x),
        mask_step(mask, x), *steps,
        INSTANCE=int(mean.shape[0] > 1), HAS_WEIGHT=weight is not None, HAS_BIAS=bias is not None,
        MAPS=maps is not None, ONE=mask is None, FRAMED=frame is not None, BLOCK_P=tile.pixels,
        BLOCK_C=tile.channels,
    )  # fmt: skip
    return y


def region_sums(
    grad: Tensor,
    x: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    frame: Frame | None = None,
) -> Tensor:
    """What the chunks' pixels sum to for the gradients, (N * chunks, 2, SLOTS, C)."""
    n, c = x.shape[:2]
    tile, tiles, chunks = cut(x)
    partials = x.new_empty((n * chunks, 2, SLOTS, c), dtype=torch.float32)
    around, steps = frame_arguments(frame, x)
    launch(
        sums_kernel, n * chunks * tile.rows, x,
        grad, x, x if mask is None else mask, mean if weight is None else weight,
        mean if bias is None else bias, mean, rstd, *around, partials, c, pixels(x), chunks,
        *strides(x), mask_step(mask, x), *steps,
        INSTANCE=int(mean.shape[0] > 1), HAS_WEIGHT=weight is not None, HAS_BIAS=bias is not None,
        ONE=mask is None, FRAMED=frame is not None, TILES=tiles, BLOCK_P=tile.pixels,
        BLOCK_C=tile.channels, num_warps=_WARPS,
    )  # fmt: skip
    return partials


def affine_gradients(partials: Tensor, regions: int) -> tuple[Tensor, Tensor]:
    """Gradients of weight and bias, (regions, C), from the chunks' sums."""
    total = partials[:, :regions, 4:].sum(0)
    return total[:, 1].contiguous(), total[:, 0].contiguous()


def region_input_gradient(
    grad: Tensor,
    x: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    partials: Tensor | None,
    maps: tuple[Tensor, Tensor, Tensor] | None,
    frame: Frame | None = None,
) -> Tensor:
    """The gradient of x from the chunks' sums; ``maps``: gamma and beta, grad_pooled, argmax.

    Without sums the statistics are given ones, which do not depend on x.
    """
    groups, regions, c = mean.shape
    grad_x, tile = torch.empty_like(x), blocks(x, _TILE)
    coefficients = mean
    if partials is not None:
        total, _, slots, _ = partials.shape
        coefficients = partials.new_empty(groups, regions, 2, c)
        if total:
            programs, block = _finish(total // groups, c)
            launch(
                coefficients_kernel, programs * regions * groups, x,
                partials, rstd, coefficients, c, total // groups, REGIONS=regions, SLOTS=slots,
                **block,
            )  # fmt: skip
    given, pooled, argmax = (weight, mean, mean) if maps is None else maps
    around, steps = frame_arguments(frame, x)
    launch(
        input_kernel, x.shape[0] * tile.columns * tile.rows, x,
        grad, x, x if mask is None else mask, mean if given is None else given,
        mean if bias is None else bias, mean, rstd, coefficients, pooled, argmax, *around, grad_x,
        c, pixels(x), *strides(x), mask_step(mask, x), *steps,
        INSTANCE=int(groups > 1), HAS_WEIGHT=weight is not None, HAS_BIAS=bias is not None,
        MAPS=maps is not None, ONE=mask is None, FRAMED=frame is not None, FIXED=partials is None,
        BLOCK_P=tile.pixels, BLOCK_C=tile.channels,
    )  # fmt: skip
    return grad_x
