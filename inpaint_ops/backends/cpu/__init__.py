"""The native CPU kernels (csrc/cpu) around ATen's dense convolution."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import core
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
from .upsampled_weight import upsampled_weight_backward, upsampled_weight_forward

NAME = "cpu"
OPS = {
    "mask_update": mask_update,
    "apply_mask": apply_mask,
    "partial_conv_forward": partial_conv_forward,
    "partial_conv_backward": partial_conv_backward,
    "upsampled_weight_forward": upsampled_weight_forward,
    "upsampled_weight_backward": upsampled_weight_backward,
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
}
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def unavailable() -> str | None:
    """Why the native core cannot be used, or None."""
    try:
        core.load()
    except core.CoreError as error:
        return str(error)
    return None


def unsupported(op: str, tensor: Tensor) -> str | None:
    """Kernels take floating dtypes on the CPU; a mask may be bool too."""
    if tensor.device.type != "cpu":
        return f"runs on the CPU only, not on {tensor.device.type}"
    allowed = (*DTYPES, torch.bool) if op == "mask_update" else DTYPES
    if tensor.dtype not in allowed:
        return f"{tensor.dtype} is not one of {', '.join(map(str, allowed))}"
    return None
