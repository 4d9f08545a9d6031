"""Blocks that several networks share."""

from __future__ import annotations

from torch import Tensor, nn

from inpaint_ops import RN_B, ChannelMask, PartialConv2d, UpsampledPartialConv2d


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


class _PartialUnit(nn.Module):
    """What follows a partial convolution in both kinds of block."""

    def __init__(
        self, conv: PartialConv2d, norm: nn.Module | None, activation: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.activation = activation

    def _finish(self, y: Tensor, new_mask: Tensor, region: Tensor | None) -> Tensor:
        if isinstance(self.norm, RN_B):
            # RN_B keeps the polarity of its published code: 1 = hole.
            y = self.norm(y, 1 - (new_mask if region is None else region))
        elif self.norm is not None:
            y = self.norm(y)
        return y if self.activation is None else self.activation(y)


class PartialConvUnit(_PartialUnit):
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

    def forward(
        self, x: Tensor, mask: Tensor | ChannelMask, region: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Convolve, normalize, activate.

        Args:
            x: (N, C_in, H, W). What lies under a hole is never read.
            mask: 1 = valid; (N, 1, H, W), or a `ChannelMask` with one plane per group of channels.
            region: (N, 1, H0, W0), 1 = valid: the regions of an `RN_B`, resized by it to the
                output. None: the updated mask.

        Returns:
            The output (N, C_out, H', W') and its updated mask (N, 1, H', W').
        """
        y, updated = self.conv(x, mask)
        new_mask: Tensor = updated.planes if isinstance(updated, ChannelMask) else updated
        return self._finish(y, new_mask, region), new_mask


class PartialConvUpUnit(_PartialUnit):
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
    ) -> None:
        """Make a block; the convolution takes deep_channels + skip_channels, deep ones first."""
        conv = UpsampledPartialConv2d(
            deep_channels, skip_channels, out_channels, kernel_size, bias=bias
        )
        super().__init__(conv, norm, activation)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        skip: Tensor,
        skip_mask: Tensor,
        region: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Enlarge, join, convolve, normalize, activate.

        Where the skip is exactly twice as large, this is nearest up-sampling by 2; other sizes
        come from odd inputs of a stride-2 convolution.

        Args:
            x, mask: (N, C1, h, w) and (N, 1, h, w), 1 = valid.
            skip, skip_mask: (N, C2, H, W) and (N, 1, H, W).
            region: the regions of an `RN_B`, as in `PartialConvUnit`.

        Returns:
            The output (N, C_out, H, W) and its updated mask (N, 1, H, W).
        """
        y, new_mask = self.conv(x, mask, skip, skip_mask)
        return self._finish(y, new_mask, region), new_mask
