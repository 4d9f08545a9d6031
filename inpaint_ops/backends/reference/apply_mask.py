"""x * mask, with holes selected away: 0 * NaN would be NaN."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def dense_mask(mask: Tensor, channels: Sequence[int]) -> Tensor:
    """Planes (N, G, ...) as one plane per channel, or one that broadcasts over all of them."""
    if len(channels) == 1:
        return mask
    repeats = torch.tensor(channels, device=mask.device)
    return mask.repeat_interleave(repeats, dim=1, output_size=sum(channels))


def apply_mask(x: Tensor, mask: Tensor, channels: Sequence[int]) -> Tensor:
    """(N, C, ...) with the channels of group g masked by plane g of ``mask`` (N or 1, G, ...)."""
    dense = dense_mask(mask, channels)
    return torch.where(
        dense == 0, torch.zeros((), dtype=x.dtype, device=x.device), (x * dense).to(x.dtype)
    )
