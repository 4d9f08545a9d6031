"""The masking prologue, and the masking of the input's gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layout import dense
from .kernels.apply_mask import apply_mask_kernel
from .launch import blocks, launch, pixels, planes, strides

_TILE = 2048


def apply_mask_into(x: Tensor, mask: Tensor, channels: Sequence[int], out: Tensor) -> Tensor:
    """out = x masked; both dense and of one memory order, and they may be the same tensor."""
    m, tile = planes(mask, x, channels), blocks(x, _TILE)
    launch(
        apply_mask_kernel, x.shape[0] * tile.columns * tile.rows, x,
        x, m.values, out, x.shape[1], pixels(x), *strides(x), *m.strides, *m.bounds,
        FORM=m.form, BLOCK_P=tile.pixels, BLOCK_C=tile.channels,
    )  # fmt: skip
    return out


def apply_mask(x: Tensor, mask: Tensor, channels: Sequence[int]) -> Tensor:
    """(N, C, ...) with the channels of group g masked by plane g of ``mask`` (N or 1, G, ...)."""
    x = dense(x)
    return apply_mask_into(x, mask, channels, torch.empty_like(x))
