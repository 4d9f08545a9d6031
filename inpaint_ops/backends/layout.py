"""Memory orders: contiguous and channels-last run natively, anything else is copied once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def order(x: Tensor) -> torch.memory_format:
    """The native order of ``x``, or the one that it will be copied to."""
    channels_last = _CHANNELS_LAST.get(x.dim())
    if channels_last is None or x.is_contiguous():
        return torch.contiguous_format
    return (
        channels_last if x.is_contiguous(memory_format=channels_last) else torch.contiguous_format
    )


def dense(x: Tensor) -> Tensor:
    """``x`` in a native order."""
    return x if x.is_contiguous() else x.contiguous(memory_format=order(x))


def like(x: Tensor, other: Tensor) -> Tensor:
    """``x`` in the memory order of ``other``, which is dense."""
    return x.contiguous(memory_format=order(other))


def native_planes(mask: Tensor, x: Tensor, channels: Sequence[int]) -> Tensor:
    """The planes in the order that the kernel reads: as x if x has a plane for each channel."""
    if len(channels) == x.shape[1] > 1:
        return mask.contiguous(memory_format=order(x))
    return mask if mask.is_contiguous() else mask.contiguous()
