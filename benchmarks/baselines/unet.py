"""U-Nets of partial convolutions in the ways one can build them in plain PyTorch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import FullMaskConv2d, PlaneMaskConv2d
from .norm import AttentionRegionNorm, MaskedRegionNorm

SAME_DECODER = "plain, same decoder"
FLAVOURS = ("reference", "one-channel", "plain", SAME_DECODER)
"""Full C-channel masks; one mask plane per source; plain convolutions without masks; these with our
decoder, which makes no enlarged map where that pays."""

NETWORKS = ("pconv_unet", "cgan_pc_rn")
"""Batch norm everywhere; region norm (RN-B in the encoder, RN-L in the decoder)."""

AUTOENCODER = "pconv_autoencoder"
"""Batch norm everywhere, a sigmoid at the end; for pictures of 32x32."""


class Level(NamedTuple):
    """Geometry of one layer; ``skip`` counts the channels that come over the skip connection."""

    name: str
    deep: int
    skip: int
    out: int
    kernel: int
    stride: int
    norm: bool

    @property
    def encoder(self) -> bool:
        """Whether it is a strided layer of the way down."""
        return self.skip == 0

    @property
    def padding(self) -> int:
        """Keeps the size at stride 1 and halves it at stride 2."""
        return self.kernel // 2

    @property
    def channels(self) -> tuple[int, ...]:
        """Input channels, by the mask plane they share."""
        return (self.deep,) if self.encoder else (self.deep, self.skip)


LEVELS = (
    Level("enc1", 3, 0, 64, 7, 2, False),
    Level("enc2", 64, 0, 128, 5, 2, True),
    Level("enc3", 128, 0, 256, 5, 2, True),
    Level("enc4", 256, 0, 512, 3, 2, True),
    Level("enc5", 512, 0, 512, 3, 2, True),
    Level("enc6", 512, 0, 512, 3, 2, True),
    Level("enc7", 512, 0, 512, 3, 2, True),
    Level("dec7", 512, 512, 512, 3, 1, True),
    Level("dec6", 512, 512, 512, 3, 1, True),
    Level("dec5", 512, 512, 512, 3, 1, True),
    Level("dec4", 512, 256, 256, 3, 1, True),
    Level("dec3", 256, 128, 128, 3, 1, True),
    Level("dec2", 128, 64, 64, 3, 1, True),
    Level("dec1", 64, 3, 3, 3, 1, False),
)


_AUTOENCODER_LEVELS = (
    Level("enc1", 3, 0, 32, 3, 2, True),
    Level("enc2", 32, 0, 64, 3, 2, True),
    Level("enc3", 64, 0, 128, 3, 2, True),
    Level("enc4", 128, 0, 256, 3, 2, True),
    Level("enc5", 256, 0, 512, 3, 2, True),
    Level("dec5", 512, 256, 256, 3, 1, True),
    Level("dec4", 256, 128, 128, 3, 1, True),
    Level("dec3", 128, 64, 64, 3, 1, True),
    Level("dec2", 64, 32, 32, 3, 1, True),
    Level("dec1", 32, 3, 3, 3, 1, False),
)


class _PlainConv2d(nn.Conv2d):
    """A convolution that knows no mask, behind the interface of those that do."""

    def forward(self, x: Tensor, mask: None) -> tuple[Tensor, None]:  # type: ignore[override]
        return super().forward(x), None


_SPREAD = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))
_LEAST_PIXELS = 1024  # of a batch: what our decoder asks for


class _PlainUpsampledConv2d(nn.Conv2d):
    """The same of (deep, skip): a 3x3 convolution of a map enlarged by nearest neighbour is a
    transposed convolution of the map, stride 2, by 4x4 windows of sums of the 3x3 weights."""

    def forward(self, pair: tuple[Tensor, Tensor], mask: None) -> tuple[Tensor, None]:  # type: ignore[override]
        deep, skip = pair
        if skip.shape[0] * skip.shape[2] * skip.shape[3] < _LEAST_PIXELS:
            return super().forward(_join(deep, None, skip, None)[0]), None
        weight, channels = self.weight[:, : deep.shape[1]], deep.shape[1]
        spread = weight.new_tensor(_SPREAD)
        windows = weight.reshape(-1, 9) @ torch.kron(spread, spread).t()
        transposed = windows.view(-1, channels, 4, 4).transpose(0, 1).contiguous()
        y = F.conv_transpose2d(deep, transposed, None, 2, 1)
        y += F.conv2d(skip, self.weight[:, channels:], self.bias, 1, 1)
        return y, None


def _conv(flavour: str, level: Level, bias: bool) -> nn.Module:
    geometry = (level.out, level.kernel, level.stride, level.padding)
    if flavour == "reference":
        return FullMaskConv2d(level.deep + level.skip, *geometry, bias=bias)
    if flavour == "one-channel":
        return PlaneMaskConv2d(level.channels, *geometry, bias=bias)
    if flavour == SAME_DECODER and not level.encoder:
        return _PlainUpsampledConv2d(level.deep + level.skip, *geometry, bias=bias)
    return _PlainConv2d(level.deep + level.skip, *geometry, bias=bias)


class _Layer(nn.Module):
    """Convolution, normalization, activation; carries the mask along."""

    def __init__(self, level: Level, flavour: str, network: str) -> None:
        super().__init__()
        self.level = level
        # The public U-Net keeps a copy in front of each activation; our other forms do not.
        self.inplace = flavour != "reference"
        self.conv = _conv(flavour, level, bias=not level.norm and not level.encoder)
        self.norm: nn.Module | None = None
        if level.norm and (network != "cgan_pc_rn" or is_plain(flavour)):
            self.norm = nn.BatchNorm2d(level.out)
        elif level.norm and level.encoder:
            self.norm = MaskedRegionNorm(level.out)
        elif level.norm:
            self.norm = AttentionRegionNorm(level.out)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x, mask = self.conv(x, mask)
        if isinstance(self.norm, MaskedRegionNorm):
            assert mask is not None, "region norm needs the mask of a masked convolution"
            x = self.norm(x, 1 - mask[:, :1])
        elif self.norm is not None:
            x = self.norm(x)
        if self.level.encoder:
            x = F.relu(x, inplace=self.inplace)
        elif self.level.norm:
            x = F.leaky_relu(x, 0.2, inplace=self.inplace)
        return x, mask


class UNet(nn.Module):
    """As many levels up as down: ``net(image, mask)`` with mask (N, 1, H, W), 1 = valid."""

    def __init__(self, network: str, flavour: str) -> None:
        """Build one of ``NETWORKS``, or ``AUTOENCODER``, in one of ``FLAVOURS``."""
        super().__init__()
        if network not in (*NETWORKS, AUTOENCODER) or flavour not in FLAVOURS:
            raise ValueError(f"no {flavour!r} form of {network!r}")
        self.flavour = flavour
        self.network = network
        self.levels = _AUTOENCODER_LEVELS if network == AUTOENCODER else LEVELS
        for level in self.levels:
            self.add_module(level.name, _Layer(level, flavour, network))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Complete ``image``; the flavours with masks look at its valid pixels only."""
        y = self._walk(image, mask, None)
        return torch.sigmoid(y) if self.network == AUTOENCODER else y

    def trace(self, image: Tensor, mask: Tensor) -> dict[str, tuple[Tensor, Tensor | None]]:
        """The input (features, mask) that each layer sees, by layer name."""
        seen: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._walk(image, mask, seen)
        return seen

    def _walk(
        self, image: Tensor, mask: Tensor, seen: dict[str, tuple[Tensor, Tensor | None]] | None
    ) -> Tensor:
        planes = self._input_mask(image, mask)
        x: Any = image
        skips: list[Any] = []
        for level in self.levels:
            if level.encoder:
                skips.append((x, planes))
            elif self.flavour == SAME_DECODER:
                x = (x, skips.pop()[0])
            else:
                x, planes = _join(x, planes, *skips.pop())
            if seen is not None:
                seen[level.name] = (x, planes)
            x, planes = self.get_submodule(level.name)(x, planes)
        out: Tensor = x
        return out

    def _input_mask(self, image: Tensor, mask: Tensor) -> Tensor | None:
        if is_plain(self.flavour):
            return None
        return mask.expand(image.shape).contiguous() if self.flavour == "reference" else mask

    def load_from(self, source: nn.Module) -> None:
        """Take over the parameters of a net with the same names, such as the one we benchmark.

        The plain flavour of a region-norm network has another norm: it takes the convolutions.
        """
        state = source.state_dict()
        if is_plain(self.flavour) and self.network == "cgan_pc_rn":
            norms = {k: v for k, v in self.state_dict().items() if ".norm." in k}
            state = {k: v for k, v in state.items() if ".norm." not in k} | norms
        self.load_state_dict(state)


def is_plain(flavour: str) -> bool:
    """Whether it computes something else: no masks."""
    return flavour in ("plain", SAME_DECODER)


def _join(
    deep: Tensor, deep_mask: Tensor | None, skip: Tensor, skip_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Enlarge the deep part to the skip's size and put the skip beside it, masks likewise."""
    size = skip.shape[2:]
    x = torch.cat([F.interpolate(deep, size=size, mode="nearest"), skip], 1)
    if deep_mask is None or skip_mask is None:
        return x, None
    return x, torch.cat([F.interpolate(deep_mask, size=size, mode="nearest"), skip_mask], 1)
