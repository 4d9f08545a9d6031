"""x * mask, with holes selected away: 0 * NaN would be NaN."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def dense_mask(mask: Tensor, channels: Sequence[int]) -> Tensor:
    """Planes (N, G, ...) as one plane per channel, or one that broadcasts over all of them."""
    if len(channels) == 1 or all(count == 1 for count in channels):
        return mask
    planes = zip(mask.split(1, dim=1), channels, strict=True)
    return torch.cat([plane.expand(-1, count, *plane.shape[2:]) for plane, count in planes], 1)


def apply_mask(x: Tensor, mask: Tensor, channels: Sequence[int]) -> Tensor:
    """(N, C, ...) with the channels of group g masked by plane g of ``mask`` (N or 1, G, ...)."""
    dense = dense_mask(mask, channels)
    return torch.where(
        dense == 0, torch.zeros((), dtype=x.dtype, device=x.device), (x * dense).to(x.dtype)
    )
