"""Plain PyTorch: the readable statement of every op, the oracle of the tests, and what runs where
nothing faster can. The functions of the forward ops are differentiable as they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .apply_mask import apply_mask
from .attention_region_norm import (
    attention_region_norm_backward,
    attention_region_norm_forward,
)
from .composed import Composed
from .mask_update import mask_update
from .partial_conv import partial_conv_backward, partial_conv_forward
from .region_norm import region_norm_backward, region_norm_forward

NAME = "reference"
OPS: dict[str, Callable[..., Any]] = {
    "mask_update": mask_update,
    "apply_mask": apply_mask,
    "partial_conv_forward": partial_conv_forward,
    "partial_conv_backward": partial_conv_backward,
    "region_norm_forward": region_norm_forward,
    "region_norm_backward": region_norm_backward,
    "attention_region_norm_forward": attention_region_norm_forward,
    "attention_region_norm_backward": attention_region_norm_backward,
    **Composed(
        region_norm_forward,
        region_norm_backward,
        attention_region_norm_forward,
        attention_region_norm_backward,
    ).ops(),
}


def unavailable() -> str | None:
    """Plain PyTorch runs wherever torch does."""
    return None


def unsupported(op: str, tensor: Tensor) -> str | None:
    """Every op on every device and dtype."""
    return None
