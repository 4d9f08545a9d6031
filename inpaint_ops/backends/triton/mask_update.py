"""Window sums, new mask and ratio in one kernel; many planes are summed to one before."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..window import output_size
from .kernels.mask_update import mask_update_kernel
from .launch import MAX_GROUPS, ceil_div, launch, pixels, power_of_2, raw, spread

_BLOCK = 256


def _three(values: Sequence[int], fill: int) -> list[int]:
    """One to three axes as three."""
    return [fill] * (3 - len(values)) + list(values)


def mask_update(
    mask: Tensor,
    channels: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    eps: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """New mask (N, 1, ...) in the mask's dtype, ratio in ``dtype`` (float32 or float64)."""
    spatial = output_size(mask.shape[2:], kernel_size, stride, padding, dilation)
    new_mask = mask.new_empty(mask.shape[0], 1, *spatial)
    ratio = mask.new_empty(new_mask.shape, dtype=dtype)
    cells = float(sum(channels) * math.prod(kernel_size))
    counts, values = list(channels), mask
    if len(counts) > MAX_GROUPS:
        if len(set(counts)) > 1:
            values, counts = spread(mask, counts), [1]
        values, counts = values.sum(1, keepdim=True, dtype=dtype), counts[:1]
    size = pixels(new_mask)
    block = min(_BLOCK, power_of_2(size))
    steps = values.stride()
    launch(
        mask_update_kernel, mask.shape[0] * ceil_div(size, block), mask,
        raw(values), raw(new_mask), ratio,
        *_three(mask.shape[2:], 1), *_three(spatial, 1),
        steps[0], steps[1], *_three(steps[2:], 0), *_three(stride, 1), *_three(padding, 0),
        *_three(dilation, 1), *[float(c) for c in (*counts, 0, 0, 0)[:MAX_GROUPS]], cells, eps,
        GROUPS=len(counts), BLOCK=block,
        **dict(zip(("KD", "KH", "KW"), _three(kernel_size, 1), strict=True)),
    )  # fmt: skip
    return new_mask, ratio
