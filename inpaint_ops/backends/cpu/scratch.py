"""Buffers that live through one call and are used again by the next.

A fresh buffer of many megabytes costs more in page faults than the kernel that fills it. Each
thread keeps one buffer per slot, up to a cap (INPAINT_OPS_SCRATCH_MB, default 256 for both slots
together); what does not fit is allocated for the call. :func:`release` frees them.
"""

from __future__ import annotations

import os
import threading

import torch
from torch import Tensor

from ..layout import order

INPUT, GRAD = "input", "grad"
_SLOTS = 2
_CAP = int(float(os.environ.get("INPAINT_OPS_SCRATCH_MB", "256")) * 2**20) // _SLOTS
_local = threading.local()


def empty_like(x: Tensor, slot: str) -> Tensor:
    """Uninitialized, with x's shape, dtype and memory order; valid until the slot's next use."""
    count = x.numel() * x.element_size()
    if count > _CAP:
        return torch.empty_like(x, memory_format=order(x))
    buffers: dict[str, Tensor] | None = getattr(_local, "buffers", None)
    if buffers is None:
        buffers = _local.buffers = {}
    buffer = buffers.get(slot)
    if buffer is None or buffer.numel() < count:
        buffers.pop(slot, None)  # freed before its successor is allocated
        buffer = None
        # An inference tensor would be no use outside inference mode.
        with torch.inference_mode(False):
            buffer = buffers[slot] = torch.empty(count, dtype=torch.uint8)
    return buffer[:count].view(x.dtype).as_strided(x.shape, _strides(x))


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
    _local.buffers = {}


def held() -> int:
    """Bytes that this thread's buffers hold."""
    return sum(b.numel() for b in getattr(_local, "buffers", {}).values())
