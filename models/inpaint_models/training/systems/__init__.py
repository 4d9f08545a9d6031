"""Systems: generator, discriminator and losses of each registered model."""

from __future__ import annotations

# Importing a system's module registers it.
from . import cgan_pc_rn, gan_variants, glcic, isnet, pconv_unet, reconstruction
from .base import (
    Outputs,
    System,
    create_system,
    list_systems,
    register_system,
    system_options,
)

__all__ = [
    "Outputs",
    "System",
    "cgan_pc_rn",
    "create_system",
    "gan_variants",
    "glcic",
    "isnet",
    "list_systems",
    "pconv_unet",
    "reconstruction",
    "register_system",
    "system_options",
]
