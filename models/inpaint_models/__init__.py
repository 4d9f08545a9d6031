"""The inpainting networks of the papers, by name.

>>> from inpaint_models import composite, create_model
>>> net = create_model("cgan_pc_rn")
>>> prediction = net(image, mask)   # image (N, 3, H, W) in [0, 1]; mask (N, 1, H, W), 1 = valid
>>> filled = composite(prediction, image, mask)
>>> filled = fill(photo, mask)      # with a trained one, at any size: see `fill`
"""

from __future__ import annotations

# Importing a paper's module registers its networks.
from . import (
    autoencoders,
    crops,
    edgeconnect_discriminator,
    gan_discriminators,
    gan_variants,
    glcic,
    glcic_discriminator,
    glcic_unet,
    isnet,
    patch_discriminator,
    pconv_unet,
    rn_net,
)
from .checks import check_mask_values
from .composite import composite
from .export import export_model, export_program
from .filling import fill
from .hole_decoding import fill_holes
from .registry import (
    ModelCard,
    create_discriminator,
    create_model,
    list_discriminators,
    list_models,
    model_card,
)
from .smooth_filling import smooth_filling
from .weights import list_pretrained, load_pretrained

__all__ = [
    "ModelCard",
    "autoencoders",
    "check_mask_values",
    "composite",
    "create_discriminator",
    "create_model",
    "crops",
    "edgeconnect_discriminator",
    "export_model",
    "export_program",
    "fill",
    "fill_holes",
    "gan_discriminators",
    "gan_variants",
    "glcic",
    "glcic_discriminator",
    "glcic_unet",
    "isnet",
    "list_discriminators",
    "list_models",
    "list_pretrained",
    "load_pretrained",
    "losses",
    "model_card",
    "patch_discriminator",
    "pconv_unet",
    "rn_net",
    "smooth_filling",
]
