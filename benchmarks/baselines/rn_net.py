"""The generator of the region-normalization paper, with its published norms and with batch norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .norm import AttentionRegionNorm, MaskedRegionNorm

BLOCKS = 8


class _PlainNorm(nn.BatchNorm2d):
    """A norm that knows no mask, behind the interface of the one that does."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class _Encoder(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(self, conv: nn.Conv2d, flavour: str) -> None:
        super().__init__()
        self.conv = conv
        norm = MaskedRegionNorm if flavour == "reference" else _PlainNorm
        self.norm = norm(conv.out_channels)

    def forward(self, x: Tensor, hole: Tensor) -> Tensor:
        return torch.relu_(self.norm(self.conv(x), hole))


def _learned(flavour: str, channels: int) -> nn.Module:
    return AttentionRegionNorm(channels) if flavour == "reference" else nn.BatchNorm2d(channels)


class _Residual(nn.Module):
    """Two convolutions with norms, and the input added."""

    def __init__(self, channels: int, flavour: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2, padding_mode="reflect"),
            _learned(flavour, channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            _learned(flavour, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layers(x)
        return y


class RNNet(nn.Module):
    """``net(image, mask)`` with mask (N, 1, H, W), 1 = valid; sides are multiples of 4."""

    def __init__(self, flavour: str) -> None:
        """Build it in the flavour "reference" or "plain"."""
        super().__init__()
        if flavour not in ("reference", "plain"):
            raise ValueError(f"no {flavour!r} form of 'rn_net'")
        self.enc1 = _Encoder(nn.Conv2d(3, 64, 7, padding=3, padding_mode="reflect"), flavour)
        self.enc2 = _Encoder(nn.Conv2d(64, 128, 4, stride=2, padding=1), flavour)
        self.enc3 = _Encoder(nn.Conv2d(128, 256, 4, stride=2, padding=1), flavour)
        self.middle = nn.Sequential(*(_Residual(256, flavour) for _ in range(BLOCKS)))
        self.decoder = nn.Sequential(
            nn.Conv2d(256, 512, 3, padding=1),
            nn.PixelShuffle(2),
            _learned(flavour, 128),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, 256, 3, padding=1),
            nn.PixelShuffle(2),
            _learned(flavour, 64),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 3, 7, padding=3, padding_mode="reflect"),
        )

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Complete ``image``, its hole painted white."""
        hole = 1 - mask
        x = image * mask + hole
        for encoder in (self.enc1, self.enc2, self.enc3):
            x = encoder(x, hole)
        return (torch.tanh(self.decoder(self.middle(x))) + 1) / 2

    def load_from(self, source: nn.Module) -> None:
        """Take over the parameters of a net with the same names; without masks, its convolutions.

        The norms of the plain flavour are others: they stay as they are.
        """
        own, state = self.state_dict(), source.state_dict()
        same = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
        self.load_state_dict(own | same)
