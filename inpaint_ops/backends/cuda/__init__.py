"""The native CUDA kernels (csrc/cuda)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import core
from ..gpu import no_gpu
from ..reference.upsampled_weight import upsampled_weight_backward, upsampled_weight_forward
from .apply_mask import apply_mask
from .attention_region_norm import (
    attention_block_norm_backward,
    attention_block_norm_forward,
    attention_region_norm_backward,
    attention_region_norm_forward,
)
from .block_norm import (
    block_norm_backward,
    block_norm_fixed,
    block_norm_fixed_,
    block_norm_forward,
)
from .mask_update import mask_update
from .partial_conv import partial_conv_backward, partial_conv_forward
from .region_norm import region_norm_backward, region_norm_forward

NAME = "cuda"
OPS: dict[str, Callable[..., Any]] = {
    "mask_update": mask_update,
    "apply_mask": apply_mask,
    "partial_conv_forward": partial_conv_forward,
    "partial_conv_backward": partial_conv_backward,
    "region_norm_forward": region_norm_forward,
    "region_norm_backward": region_norm_backward,
    "attention_region_norm_forward": attention_region_norm_forward,
    "attention_region_norm_backward": attention_region_norm_backward,
    "block_norm_forward": block_norm_forward,
    "block_norm_fixed": block_norm_fixed,
    "block_norm_fixed_": block_norm_fixed_,
    "block_norm_backward": block_norm_backward,
    "attention_block_norm_forward": attention_block_norm_forward,
    "attention_block_norm_backward": attention_block_norm_backward,
    # The decoder's weights are no work for a kernel.
    "upsampled_weight_forward": upsampled_weight_forward,
    "upsampled_weight_backward": upsampled_weight_backward,
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def unavailable() -> str | None:
    """Why CUDA kernels cannot run here, or None. Never starts a GPU that is not in use."""
    try:
        info = core.load().build_info()
    except core.CoreError as error:
        return str(error)
    if not info["cuda"]:
        return f"not built: {info['cuda_reason']}; with nvcc there, rebuild: pip install -e ."
    return no_gpu()


def unsupported(op: str, tensor: Tensor) -> str | None:
    """The dtypes that have a kernel; masks may be bool and float64 too."""
    if tensor.device.type != "cuda":
        return f"runs on NVIDIA GPUs only, not on {tensor.device.type}"
    allowed = (*DTYPES, torch.bool, torch.float64) if op == "mask_update" else DTYPES
    if tensor.dtype not in allowed:
        return f"{tensor.dtype} is not one of {', '.join(map(str, allowed))}"
    return None
