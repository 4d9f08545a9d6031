"""Drop-in modules."""

from .block import PartialConvBlock, UpsampledPartialConvBlock, norm_activation
from .partial_conv import PartialConv1d, PartialConv2d, PartialConv3d, UpsampledPartialConv2d
from .region_norm import RN_B, RN_L, RegionNorm2d
from .sync_norm import convert_sync_norms

__all__ = [
    "RN_B",
    "RN_L",
    "PartialConv1d",
    "PartialConv2d",
    "PartialConv3d",
    "PartialConvBlock",
    "RegionNorm2d",
    "UpsampledPartialConv2d",
    "UpsampledPartialConvBlock",
    "convert_sync_norms",
    "norm_activation",
]
