"""Region normalization as PyTorch users have it: two batch norms over a filled-in map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RegionCore(nn.Module):
    """Normalize the two regions of a label map by their own statistics.

    A region is completed with its own mean and sent through an ordinary batch norm; the result
    is scaled because the completion has diluted the variance.
    """

    def __init__(self, channels: int) -> None:
        """Neither affine parameters nor running statistics."""
        super().__init__()
        self.bn_norm = nn.BatchNorm2d(channels, affine=False, track_running_stats=False)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return ``x`` normalized within label 1 and within label 0."""
        label = label.detach()
        return self._region(x * label, label) + self._region(x * (1 - label), 1 - label)

    def _region(self, values: Tensor, inside: Tensor) -> Tensor:
        batch, _, height, width = values.shape
        area = inside.sum(dim=(0, 2, 3))
        area = torch.where(area == 0, torch.ones_like(area), area)
        mean = values.sum(dim=(0, 2, 3)) / area
        filled = values + (1 - inside) * mean.view(1, -1, 1, 1)
        dilution = torch.sqrt(area / (batch * height * width)).view(1, -1, 1, 1)
        normalized: Tensor = self.bn_norm(filled)
        return normalized * dilution


class MaskedRegionNorm(nn.Module):
    """Encoder form (RN-B): regions from a given mask, 1 = hole, as published."""

    def __init__(self, channels: int) -> None:
        """Start as the identity after normalization, as published."""
        super().__init__()
        self.rn = RegionCore(channels)
        self.foreground_gamma = nn.Parameter(torch.zeros(channels))
        self.foreground_beta = nn.Parameter(torch.zeros(channels))
        self.background_gamma = nn.Parameter(torch.zeros(channels))
        self.background_beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalize ``x``; each region has its own gain, both shifts reach every pixel."""
        mask = F.interpolate(mask, size=x.shape[2:], mode="nearest")
        core = self.rn(x, mask)
        hole = core * mask * self._gain(self.foreground_gamma) + _row(self.foreground_beta)
        rest = core * (1 - mask) * self._gain(self.background_gamma) + _row(self.background_beta)
        y: Tensor = hole + rest
        return y

    @staticmethod
    def _gain(gamma: Tensor) -> Tensor:
        return 1 + _row(gamma)


class _SpatialAffine(nn.Module):
    """Attention map of a feature map, with a gain and a shift derived from it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.gamma_conv = nn.Conv2d(1, 1, 7, padding=3)
        self.beta_conv = nn.Conv2d(1, 1, 7, padding=3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return attention, gain and shift, each (N, 1, H, W)."""
        summary = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], 1)
        attention = torch.sigmoid(self.conv1(summary))
        return attention, self.gamma_conv(attention), self.beta_conv(attention)


class AttentionRegionNorm(nn.Module):
    """Decoder form (RN-L): regions from a learnt attention map, cut at a threshold."""

    def __init__(self, channels: int, threshold: float = 0.8) -> None:
        """Cut the attention map at ``threshold``."""
        super().__init__()
        self.sa = _SpatialAffine()
        self.rn = RegionCore(channels)
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` within and outside the attended region."""
        attention, gamma, beta = self.sa(x)
        label = (attention.detach() >= self.threshold).to(x.dtype)
        # The published code widens the label to every channel before it masks with it.
        y: Tensor = self.rn(x, label.expand(x.shape)) * (1 + gamma) + beta
        return y


def _row(vector: Tensor) -> Tensor:
    """A per-channel vector, shaped to broadcast over (N, C, H, W)."""
    return vector.view(1, -1, 1, 1)
