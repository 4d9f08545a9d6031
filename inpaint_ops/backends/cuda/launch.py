"""Where a native call runs: the tensor's device and the caller's current stream."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import core


def where(tensor: Tensor) -> tuple[int, int]:
    """Device index and stream, the first two arguments of every native call."""
    index = tensor.device.index
    return index, torch.cuda.current_stream(tensor.device).cuda_stream


def optional(tensor: Tensor | None) -> core.TensorView | None:
    """A view of a dense copy, if there is a tensor."""
    return None if tensor is None else core.view(tensor.contiguous())


def plane(values: Tensor) -> core.TensorView:
    """A map that is read beside each of C planes: as float32, whatever it came as."""
    return core.view(values.to(torch.float32).contiguous())


def workspace(x: Tensor, count: int) -> Tensor:
    """Memory of ``count`` float32 numbers from torch's allocator."""
    return torch.empty(count, dtype=torch.float32, device=x.device)
