"""Brings every form of mask to planes and channel counts, or says what is wrong with it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .backends.precision import compute_dtype
from .channel_mask import ChannelMask

Mask = Tensor | ChannelMask


class Planes(NamedTuple):
    """A mask as the operators take it."""

    planes: Tensor | None  # (N or 1, G, ...): see normalize_dtype; None: all valid
    channels: list[int]  # channels of x that each plane stands for
    multi_channel: bool  # whether the window counts channels, not only pixels


def check_mask(mask: object, name: str = "mask") -> None:
    """Raise if ``mask`` is no tensor, or holds complex numbers."""
    if isinstance(mask, ChannelMask):
        mask = mask.planes
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name}: expected a tensor or a ChannelMask, got {type(mask).__name__}")
    if mask.is_complex():
        raise TypeError(f"{name}: expected bool, integer or floating values, got {mask.dtype}")


def check_plane(name: str, mask: Mask, x: Tensor, of: str = "x") -> None:
    """Raise unless ``mask`` is one plane for x, (N or 1, 1, ...); messages call x ``of``."""
    check_mask(mask, name)
    if isinstance(mask, ChannelMask):
        raise TypeError(f"{name}: expected a tensor with one channel, got a ChannelMask")
    check_size(name, mask, x, of)
    if mask.shape[1] != 1:
        raise ValueError(f"{name}: expected 1 channel, got shape {tuple(mask.shape)}")


def normalize_dtype(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that goes with features of ``dtype``.

    Bool (from bool and integers: not 0 is valid), or floating: as it is in ``dtype`` or the dtype
    that this is computed in, else converted to the latter.
    """
    if mask.requires_grad:
        mask = mask.detach()
    if mask.dtype == torch.bool or mask.dtype == dtype:
        return mask
    return mask.to(compute_dtype(dtype)) if mask.is_floating_point() else mask != 0


def check_size(name: str, mask: Tensor, x: Tensor, of: str = "x") -> None:
    """Raise unless the mask's batch, spatial size and device go with x, called ``of``."""
    if mask.dim() != x.dim():
        raise ValueError(
            f"{name}: expected {x.dim()} axes as {of} has, got shape {tuple(mask.shape)}"
        )
    if mask.shape[0] not in (x.shape[0], 1):
        raise ValueError(
            f"{name}: expected batch {x.shape[0]} (as {of}) or 1, got {mask.shape[0]} "
            f"in shape {tuple(mask.shape)}"
        )
    if mask.shape[2:] != x.shape[2:]:
        raise ValueError(
            f"{name}: expected the spatial size of {of}, {tuple(x.shape[2:])}, "
            f"got {tuple(mask.shape[2:])}"
        )
    if mask.device != x.device:
        raise ValueError(f"{name}: expected device {x.device} (as {of}), got {mask.device}")


def planes_for(mask: Mask | None, x: Tensor, multi_channel: bool) -> Planes:
    """The planes of any accepted mask for the (N, C, ...) tensor ``x``."""
    channels = x.shape[1]
    if mask is None:
        return Planes(None, [channels], multi_channel)
    check_mask(mask)
    if isinstance(mask, ChannelMask):
        check_size("mask.planes", mask.planes, x)
        if sum(mask.channels) != channels:
            raise ValueError(
                f"mask.channels: expected a sum of {channels} (the channels of x), "
                f"got {mask.channels}"
            )
        return Planes(normalize_dtype(mask.planes, x.dtype), list(mask.channels), True)
    check_size("mask", mask, x)
    planes = normalize_dtype(mask, x.dtype)
    if mask.shape[1] == 1:
        return Planes(planes, [channels], multi_channel)
    if mask.shape[1] != channels:
        raise ValueError(
            f"mask: expected 1 or {channels} (the channels of x) channels, "
            f"got shape {tuple(mask.shape)}"
        )
    if not multi_channel:
        raise ValueError(
            f"mask: expected 1 channel with multi_channel=False, got shape {tuple(mask.shape)}; "
            "pass multi_channel=True for a mask with one plane for each channel"
        )
    if mask.stride(1) == 0:  # expanded: one plane stands for all
        return Planes(planes[:, :1], [channels], True)
    return Planes(planes, [1] * channels, True)
