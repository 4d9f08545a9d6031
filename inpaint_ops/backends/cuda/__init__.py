"""The native CUDA kernels (csrc/cuda)."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import core
from .mask_update import mask_update

NAME = "cuda"
OPS = {"mask_update": mask_update}


def unavailable() -> str | None:
    """Why CUDA kernels cannot run here, or None. Never starts a GPU that is not in use."""
    try:
        info = core.load().build_info()
    except core.CoreError as error:
        return str(error)
    if not info["cuda"]:
        return f"not built: {info['cuda_reason']}"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no usable NVIDIA GPU"
    return None


def unsupported(op: str, tensor: Tensor) -> str | None:
    """The ops and dtypes that have a kernel."""
    if op not in OPS:
        return f"has no kernel for {op}"
    if tensor.device.type != "cuda":
        return f"runs on NVIDIA GPUs only, not on {tensor.device.type}"
    if tensor.dtype not in (torch.bool, torch.float32, torch.float64):
        return f"{tensor.dtype} is not one of torch.bool, torch.float32, torch.float64"
    return None
