"""Blocks that several networks share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from inpaint_ops import (
    PartialConv2d,
    PartialConvBlock,
    UpsampledPartialConv2d,
    UpsampledPartialConvBlock,
)

from .checks import check_image


class ConvUnit(nn.Module):
    """Convolution, then normalization, then activation; the last two may be absent."""

    def __init__(
        self, conv: nn.Module, norm: nn.Module | None, activation: nn.Module | None
    ) -> None:
        """Take the three parts; `activation` may work in place."""
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C_in, H, W); returns (N, C_out, H', W')."""
        y: Tensor = self.conv(x)
        if self.norm is not None:
            y = self.norm(y)
        return y if self.activation is None else self.activation(y)


class StridedStack(nn.Sequential):
    """Convolutions of stride 2, each followed by batch norm and ReLU: a discriminator's trunk."""

    def __init__(self, channels: Sequence[int], kernel_size: int, *, bias: bool) -> None:
        """Make len(channels) - 1 layers from channels[0] to channels[-1].

        Padding is (kernel_size - 1) // 2; `bias`: whether the convolutions have one.
        """
        padding = (kernel_size - 1) // 2
        super().__init__(
            *(
                ConvUnit(
                    nn.Conv2d(a, b, kernel_size, stride=2, padding=padding, bias=bias),
                    norm=nn.BatchNorm2d(b),
                    activation=nn.ReLU(inplace=True),
                )
                for a, b in pairwise(channels)
            )
        )
        self.kernel_size = kernel_size
        self.padding = padding

    def output_size(self, size: int) -> int:
        """Side of the last map for an input of side `size`."""
        for _ in self:
            size = (size + 2 * self.padding - self.kernel_size) // 2 + 1
        return size

    def check_batch_norm(self, image: Tensor, name: str) -> None:
        """Raise if `image` (N, C, size, size) leaves batch norm one value; see the function."""
        side = self.output_size(image.shape[2])
        check_batch_norm(self.get_submodule(f"{len(self) - 1}.norm"), image, (side, side), name)


def check_batch_norm(
    norm: nn.Module | None,
    image: Tensor,
    deepest: tuple[int, int],
    name: str = "image",
    layer: str = "the deepest layer",
) -> None:
    """Say that an image is too small for batch norm in training, before torch names a layer.

    Args:
        norm: the norm of the smallest map, batch norm or not.
        image: (N, C, H, W), the network's input.
        deepest: height and width of that map.
        name: the argument that the image came as.
        layer: where the norm is.
    """
    n, _, height, width = image.shape
    batch_norm = isinstance(norm, _BatchNorm) and norm.training
    if batch_norm and n * deepest[0] * deepest[1] * _processes(norm) == 1:
        raise ValueError(
            f"{name} of size {height} x {width} at batch size 1 leaves a single value per channel "
            f"at {layer}, too few for batch norm in training: use a larger {name} or batch, fewer "
            f"levels where that is an option, or .eval()"
        )


def _processes(norm: nn.Module | None) -> int:
    """How many processes a norm takes its statistics from, see `convert_sync_norms`."""
    synchronized = isinstance(norm, nn.SyncBatchNorm) or hasattr(norm, "process_group")
    if not synchronized or not dist.is_available() or not dist.is_initialized():
        return 1
    return dist.get_world_size(getattr(norm, "process_group", None))


def check_patches(image: Tensor) -> None:
    """Raise unless the five 4x4 convolutions of a 70x70 PatchGAN leave a logit of `image`."""
    if image.shape[2] < 24 or image.shape[3] < 24:
        raise ValueError(
            f"image must be at least 24 x 24 to leave one logit, got "
            f"{image.shape[2]} x {image.shape[3]}"
        )


def check_square(x: Tensor, channels: int, size: int, weight: Tensor, name: str) -> None:
    """Raise unless `x` is (N, channels, size, size), because a linear layer follows."""
    check_image(x, channels, weight, name)
    if x.shape[2] != size or x.shape[3] != size:
        raise ValueError(
            f"{name} must be {size} x {size}, the size that the discriminator was made for, got "
            f"{x.shape[2]} x {x.shape[3]}"
        )


def check_same_batch(image: Tensor, local_crop: Tensor) -> None:
    """Raise unless there is one crop for each image."""
    if image.shape[0] != local_crop.shape[0]:
        raise ValueError(
            f"image and local_crop must have the same batch size, got {image.shape[0]} and "
            f"{local_crop.shape[0]}"
        )


class PartialConvUnit(PartialConvBlock):
    """Partial convolution, then normalization, then activation; the last two may be absent.

    Liu et al. (2018), eq. 1 (convolution) and 2 (mask). Padding is kernel_size // 2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        """Make a block.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            kernel_size: side of the square window.
            stride: step of the window.
            bias: whether the convolution has a bias.
            norm: a module of one argument such as `nn.BatchNorm2d` or `RN_L`, or an `RN_B`, which
                also gets the mask of holes.
            activation: may work in place, because neither norms nor partial convolutions need
                their output for their gradient.
        """
        conv = PartialConv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            bias=bias,
            return_mask=True,
        )
        super().__init__(conv, norm, activation)


class PartialConvUpUnit(UpsampledPartialConvBlock):
    """A decoder's block: enlarge to the skip's size (nearest), join, then as `PartialConvUnit`."""

    def __init__(
        self,
        deep_channels: int,
        skip_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
        mask_output: bool = True,
    ) -> None:
        """Make a block; the convolution takes deep_channels + skip_channels, deep ones first."""
        conv = UpsampledPartialConv2d(
            deep_channels, skip_channels, out_channels, kernel_size, bias=bias
        )
        super().__init__(conv, norm, activation, mask_output)
