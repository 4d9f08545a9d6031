"""Fused partial convolution and region normalization for PyTorch."""

from importlib.metadata import version as _version

from .backends.dispatch import available_backends, use_backend
from .channel_mask import ChannelMask
from .checkpoints import CheckpointReport, load_checkpoint
from .decompositions import reference_decompositions
from .functional import (
    partial_conv1d,
    partial_conv2d,
    partial_conv3d,
    region_norm,
    update_mask,
)
from .nn import (
    RN_B,
    RN_L,
    PartialConv1d,
    PartialConv2d,
    PartialConv3d,
    PartialConvBlock,
    RegionNorm2d,
    UpsampledPartialConv2d,
    UpsampledPartialConvBlock,
    convert_sync_norms,
    norm_activation,
)
from .patch import PatchReport, PatchRow, patch_model
from .upsampling import partial_conv2d_upsampled

__version__ = _version("inpaint_ops")

__all__ = [
    "RN_B",
    "RN_L",
    "ChannelMask",
    "CheckpointReport",
    "PartialConv1d",
    "PartialConv2d",
    "PartialConv3d",
    "PartialConvBlock",
    "PatchReport",
    "PatchRow",
    "RegionNorm2d",
    "UpsampledPartialConv2d",
    "UpsampledPartialConvBlock",
    "available_backends",
    "convert_sync_norms",
    "load_checkpoint",
    "norm_activation",
    "partial_conv1d",
    "partial_conv2d",
    "partial_conv2d_upsampled",
    "partial_conv3d",
    "patch_model",
    "reference_decompositions",
    "region_norm",
    "update_mask",
    "use_backend",
]
