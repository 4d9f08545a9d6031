"""Window sums, new mask and ratio in one native call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import core
from ..window import output_size


def empty_planes(mask: Tensor, spatial: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Uninitialized new mask (N, 1, ...) in the mask's dtype and ratio in ``dtype``."""
    size = (mask.shape[0], 1, *spatial)
    return torch.empty(size, dtype=mask.dtype), torch.empty(size, dtype=dtype)


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
    new_mask, ratio = empty_planes(mask, spatial, dtype)
    core.load().mask_update(
        core.view(mask), channels, kernel_size, stride, padding, dilation, eps,
        core.view(new_mask), core.view(ratio),
    )  # fmt: skip
    return new_mask, ratio
