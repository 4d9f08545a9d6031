"""Liu et al. 2018, equation 2, and the ratio of equation 1."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..precision import compute_dtype


def window_sums(
    planes: Tensor,
    channels: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Sums of (N, G, ...) planes, plane g counted ``channels[g]`` times, over every window.

    One shifted addition per tap, along one axis after the other: a binary mask is counted exactly,
    whatever a device's convolution rounds to.
    """
    plane = _weighted_sum(planes, channels)
    total = F.pad(plane, [p for size in reversed(padding) for p in (size, size)])
    for axis, (k, s, d) in enumerate(zip(kernel_size, stride, dilation, strict=True), start=2):
        # Ends are counted from the far side, so that a size that is a symbol takes no part.
        ends = [(t - k + 1) * d or None for t in range(k)]
        taps = [
            total[(slice(None),) * axis + (slice(t * d, end, s),)] for t, end in enumerate(ends)
        ]
        total = functools.reduce(torch.add, taps)
    return total


def _weighted_sum(planes: Tensor, channels: Sequence[int]) -> Tensor:
    """(N, G, ...) planes to (N, 1, ...), plane g counted ``channels[g]`` times."""
    if all(count == channels[0] for count in channels):
        return planes.sum(1, keepdim=True) * channels[0]
    parts = zip(planes.split(1, dim=1), channels, strict=True)
    return torch.stack([plane * count for plane, count in parts]).sum(0)


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
    """New mask (N, 1, ...) in the mask's dtype and ratio (N, 1, ...) in ``dtype``.

    S counts in float32 (float64 if ``dtype`` is); K = channels times window cells:
    new = clamp(S, 0, 1), ratio = K / (S + eps) * new, and 0 where the window is empty.
    """
    planes = mask.to(compute_dtype(dtype))
    total = window_sums(planes, channels, kernel_size, stride, padding, dilation)
    cells = float(sum(channels))
    for size in kernel_size:
        cells *= size
    new_mask = total.clamp(0, 1)
    ratio = torch.where(total > 0, cells / (total + eps) * new_mask, 0.0)
    return new_mask.to(mask.dtype), ratio.to(dtype)
