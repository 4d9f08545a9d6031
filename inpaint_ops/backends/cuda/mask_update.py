"""Window sums, new mask and ratio in one kernel on the caller's current stream."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import core
from ..window import output_size
from .launch import where


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
    size = [mask.shape[0], 1, *spatial]
    new_mask = torch.empty(size, dtype=mask.dtype, device=mask.device)
    ratio = torch.empty(size, dtype=dtype, device=mask.device)
    core.load().cuda_mask_update(
        *where(mask), core.view(mask),
        channels, kernel_size, stride, padding, dilation, eps, core.view(new_mask),
        core.view(ratio),
    )  # fmt: skip
    return new_mask, ratio
