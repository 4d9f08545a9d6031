"""Liu et al. 2018, equation 2, and the ratio of equation 1."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..precision import compute_dtype
from ..window import output_size


def window_sums(
    planes: Tensor,
    channels: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Sums of (N, G, ...) planes, plane g counted ``channels[g]`` times, over every window.

    One shifted addition per tap: a binary mask is counted exactly, whatever a device's convolution
    rounds to.
    """
    counts = torch.tensor(channels, dtype=planes.dtype, device=planes.device)
    plane = (planes * counts.view(1, -1, *[1] * len(kernel_size))).sum(1, keepdim=True)
    padded = F.pad(plane, [p for size in reversed(padding) for p in (size, size)])
    out_size = output_size(planes.shape[2:], kernel_size, stride, padding, dilation)
    total = planes.new_zeros(planes.shape[0], 1, *out_size)
    for tap in itertools.product(*(range(k) for k in kernel_size)):
        index = [
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilation, out_size, stride, strict=True)
        ]
        total = total + padded[(slice(None), slice(None), *index)]
    return total


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
