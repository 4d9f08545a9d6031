"""Modules as public code has them: names, attributes, parameters and formulas, written anew.

What `inpaint_ops.patch_model` recognizes and replaces: the tests hold its replacements against
these, and the suite times networks of them before and after. Each is known by the name of its class
in the public code, so those of the same name have others here and are renamed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .norm import AttentionRegionNorm, MaskedRegionNorm, RegionCore

Class = TypeVar("Class", bound=type[nn.Module])


def _known_as(module: str, name: str) -> Callable[[Class], Class]:
    def rename(cls: Class) -> Class:
        cls.__module__, cls.__name__, cls.__qualname__ = module, name, name
        return cls

    return rename


class _NvidiaConv(nn.Module):
    """NVIDIA/partialconv: keeps the last mask, and uses it if it is called without one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the arguments of the convolution, ``multi_channel`` and ``return_mask``."""
        multi_channel = kwargs.pop("multi_channel", False)
        return_mask = kwargs.pop("return_mask", False)
        super().__init__(*args, **kwargs)
        self.multi_channel, self.return_mask = multi_channel, return_mask
        channels = (self.out_channels, self.in_channels) if multi_channel else (1, 1)
        self.weight_maskUpdater = torch.ones(*channels, *self.kernel_size)  # type: ignore[misc]
        self.slide_winsize = self.weight_maskUpdater[0].numel()
        self.last_size: tuple[int, ...] = ()
        self.update_mask: Any = None
        self.mask_ratio: Any = None

    def forward(
        self, input: Tensor, mask_in: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """y, or y and the new mask."""
        if mask_in is not None or self.last_size != tuple(input.shape):
            self.last_size = tuple(input.shape)
            with torch.no_grad():
                self._update(input, mask_in)
        raw = super().forward(input if mask_in is None else input * mask_in)
        bias: Any = self.bias
        if bias is None:
            output = raw * self.mask_ratio
        else:
            bias = bias.view(1, -1, *[1] * (raw.dim() - 2))
            output = ((raw - bias) * self.mask_ratio + bias) * self.update_mask
        return (output, self.update_mask) if self.return_mask else output

    def _update(self, input: Tensor, mask: Tensor | None) -> None:
        if mask is None:
            mask = torch.ones_like(input if self.multi_channel else input[:1, :1])
        self.weight_maskUpdater = self.weight_maskUpdater.to(input)
        convolve: Any = F.conv2d if input.dim() == 4 else F.conv3d
        geometry = (self.stride, self.padding, self.dilation)
        count = convolve(mask, self.weight_maskUpdater, None, *geometry)
        self.update_mask = count.clamp(0, 1)
        self.mask_ratio = self.slide_winsize / (count + 1e-8) * self.update_mask


@_known_as("models.partialconv2d", "PartialConv2d")
class NvidiaPartialConv2d(_NvidiaConv, nn.Conv2d):  # type: ignore[misc]
    """NVIDIA's, in two dimensions."""


@_known_as("models.partialconv3d", "PartialConv3d")
class NvidiaPartialConv3d(_NvidiaConv, nn.Conv3d):  # type: ignore[misc]
    """NVIDIA's, in three dimensions."""


@_known_as("mmagic.models.editors.pconv.partial_conv", "PartialConv2d")
class MmagicPartialConv2d(nn.Conv2d):
    """open-mmlab/mmagic: a buffer counts; without a mask it is a plain convolution."""

    weight_mask_updater: Tensor

    def __init__(
        self, *args: Any, multi_channel: bool = False, eps: float = 1e-8, **kwargs: Any
    ) -> None:
        """Take the arguments of the convolution."""
        super().__init__(*args, **kwargs)
        self.multi_channel, self.eps = multi_channel, eps
        channels = (self.out_channels, self.in_channels) if multi_channel else (1, 1)
        self.register_buffer("weight_mask_updater", torch.ones(*channels, *self.kernel_size))
        self.mask_kernel_numel = self.weight_mask_updater[0].numel()

    def forward(  # type: ignore[override]
        self, input: Tensor, mask: Tensor | None = None, return_mask: bool = True
    ) -> Tensor | tuple[Tensor, Tensor]:
        """y, or y and the new mask."""
        if mask is None:
            return super().forward(input)
        geometry: Any = (self.stride, self.padding, self.dilation)
        with torch.no_grad():
            count = F.conv2d(mask, self.weight_mask_updater, None, *geometry)
            new_mask = count.clamp(0, 1)
            ratio = self.mask_kernel_numel / (count + self.eps) * new_mask
        output = super().forward(input * mask)
        if self.bias is None:
            output = output * ratio
        else:
            bias = self.bias.view(1, -1, 1, 1)
            output = ((output - bias) * ratio + bias) * new_mask
        return (output, new_mask) if return_mask else output


class _SumConv(nn.Module):
    """y = conv(x * mask) / S + bias, and a new mask as large as y."""

    input_conv: nn.Conv2d
    mask_conv: nn.Conv2d

    def _make(self, *geometry: Any, bias: bool) -> None:
        make: Any = nn.Conv2d
        self.input_conv = make(*geometry, bias=bias)
        self.mask_conv = make(*geometry, bias=False)
        nn.init.ones_(self.mask_conv.weight)
        self.mask_conv.requires_grad_(False)

    def _divided(self, input: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        output = self.input_conv(input * mask)
        offset = torch.zeros_like(output)
        if self.input_conv.bias is not None:
            offset = self.input_conv.bias.view(1, -1, 1, 1).expand_as(output)
        with torch.no_grad():
            count = self.mask_conv(mask)
        empty = count == 0
        count = count.masked_fill(empty, 1.0)
        output = ((output - offset) / count + offset).masked_fill(empty, 0.0)
        return output, torch.ones_like(output).masked_fill(empty, 0.0)


@_known_as("net", "PartialConv")
class NaotoPartialConv(_SumConv):
    """naoto0804/pytorch-inpainting-with-partial-conv."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        """Take the arguments of the convolution."""
        super().__init__()
        self._make(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=bias
        )

    def forward(self, input: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """y and the new mask."""
        return self._divided(input, mask)


def bound_pad(input: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Rows of zeros at the poles, and around the globe between them."""
    left, right, top, bottom = padding
    rows = F.pad(input, (0, 0, top, bottom))
    return F.pad(rows, (left, right, 0, 0), mode="circular")


@_known_as("climatereconstructionai.model.partial_conv_module", "PConvBlock")
class ClimatePConvBlock(_SumConv):
    """FREVA-CLINT/climatereconstructionAI: pads by itself; norm and activation within."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        bias: bool,
        activation: nn.Module | None,
        bn: nn.Module | None,
        global_padding: bool = False,
    ) -> None:
        """Take what that code takes from its configuration too."""
        super().__init__()
        self.padding = 2 * padding
        self.trans_pad: Callable[..., Tensor] = bound_pad if global_padding else F.pad
        self._make(in_channels, out_channels, kernel, stride, 0, bias=bias)
        if activation is not None:
            self.activation = activation
        if bn is not None:
            self.bn = bn

    def forward(self, input: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output and the new mask."""
        pads = self.padding
        output, new_mask = self._divided(self.trans_pad(input, pads), self.trans_pad(mask, pads))
        if isinstance(getattr(self, "bn", None), MaskedBatchNorm2d):
            output = self.bn(output, new_mask)
        elif hasattr(self, "bn"):
            output = self.bn(output)
        return (self.activation(output) if hasattr(self, "activation") else output), new_mask


@_known_as("climatereconstructionai.utils.masked_batchnorm", "MaskedBatchNorm2d")
class MaskedBatchNorm2d(nn.BatchNorm2d):
    """Its norm: statistics of the valid pixels; fixed ones in evaluation."""

    def forward(self, input: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Normalize (N, C, H, W) with a mask of that shape."""
        if not self.training:
            return super().forward(input)
        count = mask.sum((0, 2, 3), keepdim=True)
        mean = input.sum((0, 2, 3), keepdim=True) / count
        variance = (((input - mean) * mask) ** 2).sum((0, 2, 3), keepdim=True) / count
        y = (input - mean) / torch.sqrt(variance + self.eps)
        return y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


@_known_as("rn", "RN_binarylabel")
class LabelRegionNorm(RegionCore):
    """geekyutao/RN: both regions of a label."""


@_known_as("rn", "RN_B")
class RegionNormB(MaskedRegionNorm):
    """geekyutao/RN, encoder."""


@_known_as("rn", "RN_L")
class RegionNormL(AttentionRegionNorm):
    """geekyutao/RN, decoder."""
