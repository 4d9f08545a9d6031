"""Partial convolution as PyTorch users have it: with full masks, and with the one-plane trick."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-8


class _MaskedConv2d(nn.Conv2d):
    """The part both forms share: rescale the raw convolution and blank the empty windows."""

    def _rescale(self, raw: Tensor, ratio: Tensor, new_mask: Tensor) -> Tensor:
        if self.bias is None:
            return raw * ratio
        # The published module lets the convolution add the bias and takes it off again before
        # scaling; those passes are part of what its users pay.
        bias = self.bias.view(1, -1, 1, 1)
        return ((raw - bias) * ratio + bias) * new_mask


class FullMaskConv2d(_MaskedConv2d):
    """The published form: the mask has as many channels as the features, and so has the new mask.

    Counting the valid inputs costs a second convolution, of the size of the first.
    """

    ones: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        """Take the arguments of ``nn.Conv2d`` that the networks use."""
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.register_buffer("ones", torch.ones_like(self.weight), persistent=False)
        self.window = in_channels * kernel_size * kernel_size

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Convolve the valid part of ``x``; ``mask`` is (N, C_in, H, W)."""
        with torch.no_grad():
            count = F.conv2d(mask, self.ones, None, self.stride, self.padding, self.dilation)
            new_mask = count.clamp(0, 1)
            ratio = self.window / (count + EPS) * new_mask
        return self._rescale(super().forward(x * mask), ratio, new_mask), new_mask


class PlaneMaskConv2d(_MaskedConv2d):
    """The well-known trick: one mask plane per group of channels that share it.

    ``channels`` says how many input channels each plane stands for; the mask convolution counts
    every plane that many times, so it costs a G -> 1 convolution and no more.
    """

    weights: Tensor

    def __init__(
        self,
        channels: Sequence[int],
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        """Take the input channels as the numbers that share a mask plane."""
        super().__init__(sum(channels), out_channels, kernel_size, stride, padding, bias=bias)
        self.channels = tuple(channels)
        counts = torch.tensor(self.channels, dtype=torch.get_default_dtype()).view(1, -1, 1, 1)
        weights = counts.repeat(1, 1, kernel_size, kernel_size)
        self.register_buffer("weights", weights, persistent=False)
        self.window = self.in_channels * kernel_size * kernel_size

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Convolve the valid part of ``x``; ``mask`` is (N, G, H, W)."""
        with torch.no_grad():
            count = F.conv2d(mask, self.weights, None, self.stride, self.padding, self.dilation)
            new_mask = count.clamp(0, 1)
            ratio = self.window / (count + EPS) * new_mask
        if len(self.channels) == 1:
            masked = x * mask
        else:
            features = torch.split(x, list(self.channels), 1)
            pairs = zip(features, torch.split(mask, 1, 1), strict=True)
            masked = torch.cat([part * plane for part, plane in pairs], 1)
        return self._rescale(super().forward(masked), ratio, new_mask), new_mask
