"""Buffers that live through one call and are used again by the next.

A fresh buffer of many megabytes costs more in page faults than the kernel that fills it. Each
thread keeps one buffer per slot, up to a cap (INPAINT_OPS_SCRATCH_MB, default 256 for both slots
together); what does not fit is allocated for the call. :func:`release` frees them.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import torch
from torch import Tensor

from ..layout import order

INPUT, GRAD = "input", "grad"
_SLOTS = 2
_CAP = int(float(os.environ.get("INPAINT_OPS_SCRATCH_MB", "256")) * 2**20) // _SLOTS
_VIEWS = 128  # tensors kept for a buffer: as many as a network has shapes


class _Buffer:
    """Memory, and the tensors laid over it so far: making one takes longer than a lookup."""

    def __init__(self, count: int) -> None:
        # An inference tensor would be no use outside inference mode.
        with torch.inference_mode(False):
            self.memory = torch.empty(count, dtype=torch.uint8)
        self.views: dict[Any, Tensor] = {}


class _Local(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, _Buffer] = {}


_local = _Local()


def empty_like(x: Tensor, slot: str) -> Tensor:
    """Uninitialized, with x's shape, dtype and memory order; valid until the slot's next use."""
    key = (x.shape, x.stride(), x.dtype)
    buffers = _local.buffers
    buffer = buffers.get(slot)
    if buffer is not None:
        found = buffer.views.get(key)
        if found is not None:
            return found
    count = x.numel() * x.element_size()
    if count > _CAP:
        return torch.empty_like(x, memory_format=order(x))
    if buffer is None or buffer.memory.numel() < count:
        buffers.pop(slot, None)  # freed before its successor is allocated
        del buffer
        buffer = buffers[slot] = _Buffer(count)
    if len(buffer.views) >= _VIEWS:
        buffer.views.clear()
    with torch.inference_mode(False):
        view = buffer.memory[:count].view(x.dtype).as_strided(x.shape, _strides(x))
    buffer.views[key] = view
    return view


def _strides(x: Tensor) -> list[int]:
    if order(x) != torch.contiguous_format:
        return list(x.stride())
    strides, step = [1] * x.dim(), 1
    for axis in range(x.dim() - 1, -1, -1):
        strides[axis] = step
        step *= x.shape[axis]
    return strides


def release() -> None:
    """Free this thread's buffers."""
    _local.buffers.clear()


def held() -> int:
    """Bytes that this thread's buffers hold."""
    return sum(buffer.memory.numel() for buffer in _local.buffers.values())
