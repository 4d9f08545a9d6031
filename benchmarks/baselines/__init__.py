"""What people run today, written in plain PyTorch: the modules our operators are compared with.

These are re-derivations from the papers' equations, with the cost structure of the public
implementations (the same number and kind of passes over memory). Nothing here imports
``inpaint_ops``, so the comparison cannot borrow from what it measures.
"""

from __future__ import annotations

from .conv import FullMaskConv2d, PlaneMaskConv2d
from .norm import AttentionRegionNorm, MaskedRegionNorm, RegionCore
from .rn_net import RNNet
from .unet import AUTOENCODER, FLAVOURS, LEVELS, NETWORKS, SAME_DECODER, Level, UNet, is_plain

__all__ = [
    "AUTOENCODER",
    "FLAVOURS",
    "LEVELS",
    "NETWORKS",
    "SAME_DECODER",
    "AttentionRegionNorm",
    "FullMaskConv2d",
    "Level",
    "MaskedRegionNorm",
    "PlaneMaskConv2d",
    "RNNet",
    "RegionCore",
    "UNet",
    "is_plain",
]
