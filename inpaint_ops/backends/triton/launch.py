"""How kernels see tensors, and how they are launched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..layout import like, order

MAX_GROUPS = 4  # planes of a mask that kernels tell apart by the bounds of their channels
_NO_BOUND = 2**31 - 1
_MAX_PLANE = 2**31 - 2**16  # pixels of one plane are counted in 32 bits, offsets in 64
_MAX_TILES, _ENOUGH = 32, 1024


class Planes(NamedTuple):
    """A mask as kernels read it: memory, strides, and which plane goes with a channel."""

    values: Tensor
    strides: tuple[int, int, int]  # of sample, plane and pixel
    bounds: tuple[int, int, int]  # channels where the second, third and fourth plane begin
    form: int  # 0: one plane, 1: planes for groups of channels, 2: one for each channel


class Blocks(NamedTuple):
    """The tile of one program, and how many of them cover a tensor (N, C, P)."""

    pixels: int
    channels: int
    columns: int  # tiles along the pixels
    rows: int  # tiles along the channels


def launch(kernel: Any, programs: int, on: Tensor, *args: Any, **constants: Any) -> None:
    """Run ``programs`` programs on the current stream of the device of ``on``."""
    if programs:
        with torch.cuda.device_of(on):
            kernel[(programs,)](*args, enable_fp_fusion=True, **constants)


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def power_of_2(value: int) -> int:
    """The smallest power of two that is not below ``value``."""
    return 1 << max(value - 1, 0).bit_length()


def pixels(x: Tensor) -> int:
    """Pixels of one plane.

    Raises:
        ValueError: they are more than kernels count.
    """
    count = math.prod(x.shape[2:])
    if count > _MAX_PLANE:
        raise ValueError(f"expected planes of at most {_MAX_PLANE} pixels, got {tuple(x.shape)}")
    return count


def last(x: Tensor) -> bool:
    """Whether the channels of dense ``x`` lie next to each other."""
    return order(x) != torch.contiguous_format


def strides(x: Tensor) -> tuple[int, int, int]:
    """Steps of sample, channel and pixel of dense ``x``, (N, C, ...) taken as (N, C, P)."""
    count, channels = math.prod(x.shape[2:]), x.shape[1]
    return (channels * count, 1, channels) if last(x) else (channels * count, count, 1)


def optional(tensor: Tensor | None) -> Tensor | None:
    """Contiguous, if there is a tensor."""
    return None if tensor is None else tensor.contiguous()


def raw(tensor: Tensor) -> Tensor:
    """Bool as bytes: 0 and 1."""
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor


def spread(mask: Tensor, channels: Sequence[int]) -> Tensor:
    """Planes of groups as one plane for each channel; a copy, made without asking the GPU."""
    parts = [
        mask[:, g : g + 1].expand(-1, count, *mask.shape[2:]) for g, count in enumerate(channels)
    ]
    return torch.cat(parts, 1)


def planes(mask: Tensor, x: Tensor, channels: Sequence[int]) -> Planes:
    """The mask (N or 1, G, ...) of dense ``x``."""
    if len(channels) > MAX_GROUPS and len(channels) != x.shape[1]:
        mask = spread(mask, channels)
        channels = [1] * x.shape[1]
    per_channel = len(channels) == x.shape[1] > 1
    mask = like(mask, x) if per_channel else mask.contiguous()
    sample, plane, pixel = strides(mask)
    bounds = [_NO_BOUND] * 3
    if not per_channel:
        for g in range(len(channels) - 1):
            bounds[g] = sum(channels[: g + 1])
    form = 2 if per_channel else int(len(channels) > 1)
    step = 0 if mask.shape[0] == 1 else sample
    return Planes(raw(mask), (step, plane, pixel), (bounds[0], bounds[1], bounds[2]), form)


def blocks(x: Tensor, size: int) -> Blocks:
    """Tiles of ``size`` values (fewer where x is small), long where memory is contiguous."""
    count, channels = pixels(x), x.shape[1]
    if last(x):
        wide = min(power_of_2(channels), 64)
        long = min(power_of_2(count), size // wide)
    else:
        long = min(power_of_2(count), 1024, size)
        wide = min(power_of_2(channels), size // long)
    return Blocks(long, wide, ceil_div(count, long), ceil_div(channels, wide))


def chunked(others: int, columns: int) -> tuple[int, int]:
    """Tiles that one program sums along the pixels, and programs along them.

    As many as possible, while enough programs remain for a large GPU. The size of the tensor alone
    decides, so that sums do not depend on the device.
    """
    tiles = 1
    while tiles < _MAX_TILES and others * ceil_div(columns, 2 * tiles) >= _ENOUGH:
        tiles *= 2
    return tiles, ceil_div(columns, tiles)
