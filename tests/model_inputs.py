"""Inputs for the tests of `inpaint_models`, and small versions of all registered networks."""

from __future__ import annotations

import torch
from inpaint_models import create_model, model_card
from torch import Tensor, nn

# Small values for options that many networks have. A network that is large in another way gets a
# line in SMALL_OPTIONS.
SMALL_DEFAULTS: dict[str, object] = {"width": 4, "blocks": 1}
SMALL_OPTIONS: dict[str, dict[str, object]] = {
    "cgan_pc_rn": {"levels": 3},
    "pconv_unet": {"levels": 3},
    # Of fewer channels, so deep a chain of ReLUs can be all zeros.
    "glcic": {"width": 16},
    "glcic_dam": {"width": 16},
}


def small_model(name: str, **options: object) -> nn.Module:
    """The network `name` with few channels and layers."""
    known = model_card(name).options
    chosen = {key: value for key, value in SMALL_DEFAULTS.items() if key in known}
    return create_model(name, **{**chosen, **SMALL_OPTIONS.get(name, {}), **options})


def picture(
    n: int, h: int, w: int, dtype: torch.dtype = torch.float32, channels: int = 3
) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, channels, h, w, generator=generator, dtype=dtype)


def holes(n: int, h: int, w: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """One big hole that survives three levels at 64 x 64, one small hole, per image elsewhere."""
    mask = torch.ones(n, 1, h, w, dtype=dtype)
    for i in range(n):
        mask[i, :, h // 8 + i : h - h // 8, w // 8 : w - w // 8 - 2 * i] = 0
        mask[i, :, : 2 + i, : 3 + i] = 0
    return mask


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
