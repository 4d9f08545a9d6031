"""Globally and locally consistent completion, with and without dynamic attention maps.

`glcic` is the completion network of "Image Inpainting" (Bernikov, Pelekh, Kononenko; Ukrainian
Catholic University), after Iizuka et al. 2017; norm and ReLU follow each layer but the last:

     1    conv   k5            C+1 ->  64      10     conv   k3 dilation 16  256 -> 256
     2    conv   k3 s2          64 -> 128      11-12  conv   k3              256 -> 256
     3    conv   k3            128 -> 128      13     deconv k4 s2           256 -> 128
     4    conv   k3 s2         128 -> 256      14     conv   k3              128 -> 128
     5-6  conv   k3            256 -> 256      15     deconv k4 s2           128 ->  64
     7    conv   k3 dilation 2 256 -> 256      16     conv   k3               64 ->  32
     8    conv   k3 dilation 4 256 -> 256      17     conv   k3               32 ->   C, sigmoid
     9    conv   k3 dilation 8 256 -> 256

`glcic_dam` adds the blocks of section 2.6 (Cha, Kim 2022: DAM-GAN), which the paper describes and
could not build. `glcic_unet.py` has the paper's other completion network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvUnit, check_batch_norm
from .checks import check_at_least, check_image, prepare_mask
from .composite import blend
from .padding import pad_with_holes
from .registry import ModelCard, register_model

PAPER = (
    "Bernikov, Pelekh, Kononenko: Image Inpainting; completion network: Iizuka et al. 2017, "
    "Globally and Locally Consistent Image Completion"
)
INPUTS = (
    "image (N, in_channels, H, W) in [0, 1], any H and W; "
    "mask (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole; what lies in a hole is never read"
)
OUTPUT = "image (N, in_channels, H, W) in [0, 1], every pixel predicted"
IN_CHANNELS = "channels of the image and of the output, at least 1"
FILL = (
    "what a hole is filled with in the input: a number, or one per channel such as the data's mean"
)
DECISIONS = (
    "the input's last channel is the paper's mask M_c, 1 = hole",
    "soft masks mix image and fill by their value",
    "weights start as PyTorch's defaults, as in public code",
)
_GLCIC_OPTIONS = {
    "in_channels": IN_CHANNELS,
    "width": "channels of layer 1, at least 2; others have 2, 4 or 1/2 times as many",
    "fill": FILL,
}
_GLCIC_DECISIONS = (
    *DECISIONS,
    "layer table and count from public code, because the paper has none",
    "batch norm between convolution and ReLU as in the usual order; some public code has it after "
    "ReLU",
    "every convolution has a bias, also before batch norm, which cancels it: kept for the "
    "published parameter count",
    "an image whose sides are no multiples of 4 is padded to the right and below with holes",
)


class CompletionNetwork(nn.Module):
    """What the completion networks share: they see the filled image and the mask."""

    fill: Tensor

    def __init__(self, in_channels: int, fill: float | Sequence[float], multiple: int) -> None:
        """Check the options; images are padded to multiples of `multiple`."""
        super().__init__()
        check_at_least("in_channels", in_channels, 1)
        self.in_channels = in_channels
        self.multiple = multiple
        self.register_buffer("fill", _fill_values(fill, in_channels), persistent=False)

    def prepare(self, image: Tensor, mask: Tensor) -> Tensor:
        """Check image and mask, pad them, fill the holes: (N, in_channels + 1, H', W')."""
        check_image(image, self.in_channels, next(self.parameters()))
        image, mask = pad_with_holes(image, prepare_mask(mask, image), self.multiple)
        return torch.cat([blend(image, mask, self.fill), 1 - mask], dim=1)


def _fill_values(fill: float | Sequence[float], channels: int) -> Tensor:
    values = list(fill) if isinstance(fill, Sequence) else [fill] * channels
    numbers = all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
    if not numbers or len(values) != channels:
        raise ValueError(f"fill must be a finite number or {channels} of them, got {fill!r}")
    return torch.tensor(values, dtype=torch.get_default_dtype()).reshape(1, channels, 1, 1)


def _conv(
    in_channels: int, out_channels: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1
) -> ConvUnit:
    return ConvUnit(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
        ),
        norm=nn.BatchNorm2d(out_channels),
        activation=nn.ReLU(inplace=True),
    )


def _deconv(in_channels: int, out_channels: int) -> ConvUnit:
    return ConvUnit(
        nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1),
        norm=nn.BatchNorm2d(out_channels),
        activation=nn.ReLU(inplace=True),
    )


@register_model(
    "glcic",
    ModelCard(
        title="Completion network with dilated convolutions",
        paper=PAPER,
        source="section 2.2; table 1 of Iizuka et al.",
        inputs=INPUTS,
        output=OUTPUT,
        parameters=6_072_131,
        options=_GLCIC_OPTIONS,
        decisions=_GLCIC_DECISIONS,
    ),
)
class Glcic(CompletionNetwork):
    """`glcic`: the 17 layers above. 6,072,131 parameters.

    Any image size: sides that are no multiples of 4 are padded with holes, and the output is cut.
    """

    def __init__(
        self, *, in_channels: int = 3, width: int = 64, fill: float | Sequence[float] = 0.5
    ) -> None:
        """Make the network; the options are those of its model card."""
        super().__init__(in_channels, fill, multiple=4)
        check_at_least("width", width, 2)
        self.width = width
        w, w2, w4 = width, 2 * width, 4 * width
        layers = [
            _conv(in_channels + 1, w, 5),
            _conv(w, w2, stride=2),
            _conv(w2, w2),
            _conv(w2, w4, stride=2),
            *(_conv(w4, w4, dilation=dilation) for dilation in (1, 1, 2, 4, 8, 16, 1, 1)),
            _deconv(w4, w2),
            _conv(w2, w2),
            _deconv(w2, w),
            _conv(w, w // 2),
            ConvUnit(nn.Conv2d(w // 2, in_channels, 3, padding=1), None, nn.Sigmoid()),
        ]
        for i, layer in enumerate(layers, start=1):
            self.add_module(f"layer{i}", layer)

    def extra_repr(self) -> str:
        """The options but `fill`, for `repr`."""
        return f"in_channels={self.in_channels}, width={self.width}"

    def layer(self, number: int) -> ConvUnit:
        """Layer 1 to 17 of the table."""
        layer: ConvUnit = getattr(self, f"layer{number}")
        return layer

    def prepare(self, image: Tensor, mask: Tensor) -> Tensor:
        """As in the base class, and check the size that batch norm needs."""
        x = super().prepare(image, mask)
        check_batch_norm(self.layer(4).norm, image, (x.shape[2] // 4, x.shape[3] // 4))
        return x

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes of an image.

        Args:
            image: (N, in_channels, H, W), values in [0, 1], the network's dtype (any floating
                dtype under autocast). NaN and Inf are allowed in holes.
            mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole, any real dtype; see
                `checks.prepare_mask`. No gradient flows through it.

        Returns:
            The whole predicted image, (N, in_channels, H, W), in [0, 1]. The known part is
            predicted as well: select it from `image` for a composite.
        """
        x = self.prepare(image, mask)
        for i in range(1, 18):
            x = self.layer(i)(x)
        return x[..., : image.shape[2], : image.shape[3]]


class DynamicAttention(nn.Module):
    """DAM block, section 2.6.2: a map of where the decoder's textures look fake, and its features
    made stronger there.

        F = conv1x1(cat(x, skip))      M = sigmoid(conv1x1(F))      T = F + M * F
    """

    def __init__(self, channels: int, skip_channels: int) -> None:
        """Make a block for x of `channels` and a skip of `skip_channels`, which may be 0."""
        super().__init__()
        self.feature = nn.Conv2d(channels + skip_channels, channels, 1)
        self.attention = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor]:
        """x: (N, channels, h, w), the skip likewise; returns T like x, and M (N, 1, h, w)."""
        feature = self.feature(x if skip is None else torch.cat([x, skip], dim=1))
        attention = torch.sigmoid(self.attention(feature))
        return feature + attention * feature, attention


# The layers that a DAM block follows, and the layer whose output is its skip.
_DAM_SKIPS: dict[int, int | None] = {12: 6, 14: 3, 15: 1, 16: None}


@register_model(
    "glcic_dam",
    ModelCard(
        title="Completion network with dynamic attention maps",
        paper=f"{PAPER}; dynamic attention: Cha, Kim 2022, DAM-GAN",
        source="sections 2.2 and 2.6, equations of section 2.6.2",
        inputs=INPUTS,
        output=f"{OUTPUT}; forward_with_attention also returns the maps of the DAM loss",
        parameters=6_246_151,
        options=_GLCIC_OPTIONS,
        decisions=(
            *_GLCIC_DECISIONS,
            "glcic has three resolutions and no skips: blocks follow layers 12, 14 and 15 with "
            "skips from layers 6, 3 and 1, and layer 16 without a skip",
            "a map has one channel, as in DAM-GAN; maps are resized bilinearly to the image",
        ),
    ),
)
class GlcicDam(Glcic):
    """`glcic_dam`: `glcic` with a DAM block after layers 12, 14, 15 and 16. 6,246,151 parameters.

    Any image size, as `glcic`.
    """

    def __init__(
        self, *, in_channels: int = 3, width: int = 64, fill: float | Sequence[float] = 0.5
    ) -> None:
        """Make the network; the options are those of its model card."""
        super().__init__(in_channels=in_channels, width=width, fill=fill)
        widths = (4 * width, 2 * width, width, width // 2)
        for (i, skip), channels in zip(_DAM_SKIPS.items(), widths, strict=True):
            self.add_module(f"dam{i}", DynamicAttention(channels, channels if skip else 0))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes of an image; arguments and result are those of `Glcic.forward`."""
        return self._complete(image, mask)[0]

    def forward_with_attention(self, image: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Fill the holes of an image, and tell where the network takes its output for fake.

        Returns:
            The image as from `forward`, and four maps (N, 1, H, W) with values in [0, 1], of the
            blocks after layers 12, 14, 15 and 16, resized bilinearly to the image.
        """
        output, maps = self._complete(image, mask)
        height, width = image.shape[2:]
        resized = []
        for attention in maps:
            # To the padded size first: a map's pixel covers a fixed square of that.
            factor = -(-height // self.multiple) * self.multiple // attention.shape[2]
            if factor > 1:
                attention = F.interpolate(attention, scale_factor=factor, mode="bilinear")
            resized.append(attention[..., :height, :width])
        return output, resized

    def _complete(self, image: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = self.prepare(image, mask)
        outputs: dict[int | None, Tensor | None] = {None: None}
        maps: list[Tensor] = []
        for i in range(1, 18):
            x = self.layer(i)(x)
            if i in _DAM_SKIPS.values():
                outputs[i] = x
            if i in _DAM_SKIPS:
                x, attention = getattr(self, f"dam{i}")(x, outputs[_DAM_SKIPS[i]])
                maps.append(attention)
        return x[..., : image.shape[2], : image.shape[3]], maps
