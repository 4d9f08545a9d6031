"""The masking prologue, and the masking of the input's gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import core
from ..layout import dense, native_planes
from .launch import where


def apply_mask_into(x: Tensor, mask: Tensor, channels: Sequence[int], out: Tensor) -> Tensor:
    """out = x masked; both dense and of one memory order, and they may be the same tensor."""
    planes = native_planes(mask, x, channels)
    core.load().cuda_apply_mask(
        *where(x), core.view(x), core.view(planes), channels, core.view(out)
    )
    return out


def apply_mask(x: Tensor, mask: Tensor, channels: Sequence[int]) -> Tensor:
    """(N, C, ...) with the channels of group g masked by plane g of ``mask`` (N or 1, G, ...)."""
    x = dense(x)
    return apply_mask_into(x, mask, channels, torch.empty_like(x))
