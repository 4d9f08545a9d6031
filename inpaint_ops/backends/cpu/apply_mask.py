"""The masking prologue, and the masking of the input's gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import core
from ..layout import dense, native_planes


def apply_mask_into(x: Tensor, mask: Tensor, channels: Sequence[int], out: Tensor) -> Tensor:
    """out = x masked; both dense and of one memory order, and they may be the same tensor."""
    planes = native_planes(mask, x, channels)
    core.load().apply_mask(core.view(x), core.view(planes), channels, core.view(out))
    return out


def apply_mask(x: Tensor, mask: Tensor, channels: Sequence[int]) -> Tensor:
    """(N, C, ...) with the channels of group g masked by plane g of ``mask`` (N or 1, G, ...)."""
    x = dense(x)
    return apply_mask_into(x, mask, channels, torch.empty_like(x))


def apply_mask_in_place(x: Tensor, mask: Tensor, channels: Sequence[int]) -> Tensor:
    """As :func:`apply_mask`, writing into ``x`` where its memory order allows."""
    x = dense(x)
    return apply_mask_into(x, mask, channels, x)
