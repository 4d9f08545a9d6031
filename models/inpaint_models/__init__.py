"""The inpainting networks of the papers, by name.

>>> from inpaint_models import create_model
>>> net = create_model("cgan_pc_rn")
>>> filled = net(image, mask)   # image (N, 3, H, W) in [0, 1]; mask (N, 1, H, W), 1 = valid
"""

from __future__ import annotations

# Importing a paper's module registers its networks.
from . import patch_discriminator, pconv_unet
from .registry import (
    ModelCard,
    create_discriminator,
    create_model,
    list_discriminators,
    list_models,
    model_card,
)

__all__ = [
    "ModelCard",
    "create_discriminator",
    "create_model",
    "list_discriminators",
    "list_models",
    "model_card",
    "patch_discriminator",
    "pconv_unet",
]
