"""Triton kernels for NVIDIA GPUs, compiled when they are first called.

Triton is optional: nothing here imports it before a call needs it. ``kernels/`` holds what runs on
the GPU, the files beside it what launches it.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ..gpu import no_gpu
from ..reference.composed import Composed

NAME = "triton"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_MIN_CAPABILITY = (8, 0)  # bfloat16 and asynchronous copies begin there


def _late(op: str) -> Callable[..., Any]:
    """The op's function, whose file (and Triton with it) is imported by the first call."""

    @functools.cache
    def find() -> Callable[..., Any]:
        file = op.removesuffix("_forward").removesuffix("_backward")
        function: Callable[..., Any] = getattr(import_module(f"{__name__}.{file}"), op)
        return function

    def run(*args: Any) -> Any:
        return find()(*args)

    run.__name__ = op
    return run


_SEPARATE = {
    op: _late(op)
    for op in (
        "mask_update",
        "apply_mask",
        "partial_conv_forward",
        "partial_conv_backward",
        "region_norm_forward",
        "region_norm_backward",
        "attention_region_norm_forward",
        "attention_region_norm_backward",
    )
}
OPS = {
    **_SEPARATE,
    **Composed(
        _SEPARATE["region_norm_forward"],
        _SEPARATE["region_norm_backward"],
        _SEPARATE["attention_region_norm_forward"],
        _SEPARATE["attention_region_norm_backward"],
    ).ops(),
}


def unavailable() -> str | None:
    """Why Triton kernels cannot run here, or None. Never starts a GPU that is not in use."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install triton (PyTorch's CUDA builds bring it)"
    return no_gpu()


def unsupported(op: str, tensor: Tensor) -> str | None:
    """Devices that are too old, and dtypes: float64 is left to the others."""
    if tensor.device.type != "cuda":
        return f"runs on NVIDIA GPUs only, not on {tensor.device.type}"
    capability = torch.cuda.get_device_capability(tensor.device)
    if capability < _MIN_CAPABILITY:
        found, least = (".".join(map(str, c)) for c in (capability, _MIN_CAPABILITY))
        return f"{tensor.device} has compute capability {found}, {least} is needed"
    allowed = (*DTYPES, torch.bool) if op == "mask_update" else DTYPES
    if tensor.dtype not in allowed:
        return f"{tensor.dtype} is not one of {', '.join(map(str, allowed))}"
    return None
