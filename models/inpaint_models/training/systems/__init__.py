"""Systems: generator, discriminator and losses of each registered model."""

from __future__ import annotations

# Importing a system's module registers it.
from . import pconv_unet
from .base import Outputs, System, create_system, list_systems, register_system

__all__ = [
    "Outputs",
    "System",
    "create_system",
    "list_systems",
    "pconv_unet",
    "register_system",
]
