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
from ..reference.upsampled_weight import upsampled_weight_backward, upsampled_weight_forward

NAME = "triton"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_MIN_CAPABILITY = (8, 0)  # bfloat16 and asynchronous copies begin there


# The files, and the operators in them.
_FILES = {
    "mask_update": ("mask_update",),
    "apply_mask": ("apply_mask",),
    "partial_conv": ("partial_conv_forward", "partial_conv_backward"),
    "region_norm": ("region_norm_forward", "region_norm_backward"),
    "block_norm": (
        "block_norm_forward",
        "block_norm_fixed",
        "block_norm_fixed_",
        "block_norm_backward",
    ),
    "attention_region_norm": (
        "attention_region_norm_forward",
        "attention_region_norm_backward",
        "attention_block_norm_forward",
        "attention_block_norm_backward",
    ),
}


def _late(file: str, op: str) -> Callable[..., Any]:
    """The op's function, whose file (and Triton with it) is imported by the first call."""

    @functools.cache
    def find() -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(import_module(f"{__name__}.{file}"), op)
        return function

    def run(*args: Any) -> Any:
        return find()(*args)

    run.__name__ = op
    return run


OPS: dict[str, Callable[..., Any]] = {
    op: _late(file, op) for file, ops in _FILES.items() for op in ops
} | {  # the decoder's weights are no work for a kernel
    "upsampled_weight_forward": upsampled_weight_forward,
    "upsampled_weight_backward": upsampled_weight_backward,
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
