"""ISNet, "Interactive Separation Network for Image Inpainting" (Li et al.), and its ablations.

Two branches, one of full resolution and one that gets coarser and wider, run through four stages of
*inpainting* (residual blocks), *interaction* (each branch is resampled and joined to the other) and
*aggregation* (one convolution). The paper gives the scheme; kernels and activations are those of
its public code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import ConvUnit
from .checks import check_at_least, check_image, prepare_mask
from .composite import known_part
from .initialization import init_normal
from .padding import pad_to_multiple
from .registry import ModelCard, register_model
from .spectral import spectral_conv

_PAPER = "Li et al.: Interactive Separation Network for Image Inpainting"
_INPUTS = (
    "image (N, in_channels, H, W) in [0, 1], any H and W; "
    "mask (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole; what lies in a hole is never read"
)
_OUTPUT = "image (N, in_channels, H, W) in (0, 1)"
_OPTIONS = {
    "in_channels": "channels of image and output, at least 1",
    "width": "channels of the full-resolution branch, at least 1; the other has up to 16 times as "
    "many",
    "blocks": "residual blocks per branch and stage, at least 1",
}
_STAGES = 4
_STD = 0.001
_DECISIONS = (
    "image * mask alone goes in, without the mask, as in equation 1 and the public code",
    "sizes that are no multiples of 16 are padded by repeating the last row and column of "
    "image * mask, and the output is cropped",
    "zero padding, weights N(0, 0.001^2), as in the public code",
)
Activation = Callable[[], nn.Module]


def _leaky_relu() -> nn.Module:
    return nn.LeakyReLU(0.2)


class _ResidualBlock(nn.Module):
    """act(conv(act(conv(x))) + shortcut(x)); the shortcut is x itself or a 1x1 convolution."""

    def __init__(
        self,
        conv1: nn.Conv2d,
        conv2: nn.Conv2d,
        activation: Activation,
        shortcut: nn.Conv2d | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = conv1
        self.conv2 = conv2
        self.activation = activation()
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        straight = x if self.shortcut is None else self.shortcut(x)
        y: Tensor = self.activation(self.conv2(self.activation(self.conv1(x))) + straight)
        return y


def _residual(channels: int, dilation: int, activation: Activation) -> _ResidualBlock:
    return _ResidualBlock(
        spectral_conv(channels, channels, 3, padding=dilation, dilation=dilation, std=_STD),
        spectral_conv(channels, channels, 3, padding=1, std=_STD),
        activation,
    )


def _halving(channels: int, steps: int, activation: Activation) -> nn.Sequential:
    """`steps` stride-2 convolutions, each doubling the channels."""
    units = []
    for i in range(steps):
        c = channels * 2**i
        units.append(
            ConvUnit(spectral_conv(c, 2 * c, 3, stride=2, padding=1, std=_STD), None, activation())
        )
    return nn.Sequential(*units)


def _sub_pixel(channels: int, steps: int) -> nn.Sequential:
    """`steps` times twice as large with half the channels: convolution, pixel shuffle, Tanh."""
    layers: list[nn.Module] = []
    for i in range(steps):
        c = channels // 2**i
        layers += [spectral_conv(c, 2 * c, 3, padding=1, std=_STD), nn.PixelShuffle(2), nn.Tanh()]
    return nn.Sequential(*layers)


class _Bilinear(nn.Module):
    """Bilinear enlargement; keeps the channels."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False)


class _Stage(nn.Module):
    """Inpainting, interaction and aggregation of stage `index`, 0 to 3; section 2.1.

    The high branch has `width` channels at full resolution, the low one width * 2^index at
    1 / 2^index of it. Stage 0 has no low branch yet.
    """

    def __init__(
        self,
        index: int,
        *,
        width: int,
        low_out: int,
        blocks: int,
        activation: Activation,
        sub_pixel: bool,
    ) -> None:
        super().__init__()
        low = width * 2**index
        self.high_blocks = nn.Sequential(*(_residual(width, 1, activation) for _ in range(blocks)))
        self.high_to_low = _halving(width, index + 1, activation)
        high_in, low_in = width, 2 * low
        self.low_blocks: nn.Sequential | None = None
        if index > 0:
            self.low_blocks = nn.Sequential(*(_residual(low, 2, activation) for _ in range(blocks)))
            self.low_to_low = _halving(low, 1, activation)
            self.low_to_high = _sub_pixel(low, index) if sub_pixel else _Bilinear(2**index)
            high_in += width if sub_pixel else low
            low_in *= 2
        self.high_out = ConvUnit(
            spectral_conv(high_in, width, 3, padding=1, std=_STD), None, activation()
        )
        self.low_out = ConvUnit(
            spectral_conv(low_in, low_out, 3, padding=1, std=_STD), None, activation()
        )

    def forward(
        self, high: Tensor, low: Tensor | None, with_low: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """The two branches after this stage; the low one is left out if nobody wants it."""
        to_high = high = self.high_blocks(high)
        if self.low_blocks is not None:
            low = self.low_blocks(low)
            to_high = torch.cat([high, self.low_to_high(low)], 1)
        if not with_low:
            return self.high_out(to_high), None
        to_low = self.high_to_low(high)
        if self.low_blocks is not None:
            to_low = torch.cat([to_low, self.low_to_low(low)], 1)
        return self.high_out(to_high), self.low_out(to_low)


def _plain_conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    nn.init.normal_(conv.weight, 0.0, _STD)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class _ISNetwork(nn.Module):
    """Stem, four stages, final fusion or none, and the last convolution."""

    def __init__(
        self,
        *,
        in_channels: int,
        width: int,
        blocks: int,
        last_low: int,
        activation: Activation,
        sub_pixel: bool,
        fusion: bool,
        last: nn.Conv2d,
    ) -> None:
        """Make the network.

        Args:
            in_channels, width, blocks: options of the card, checked.
            last_low: channels of the low branch after the last stage.
            activation: makes the activation of all layers.
            sub_pixel: enlarge by convolution and pixel shuffle; else bilinear.
            fusion: join the low branch to the high one at the end; else it ends in the third stage.
            last: from `width` channels to the image's.
        """
        super().__init__()
        self.in_channels = in_channels
        self.width = width
        self.blocks = blocks
        shortcut = nn.Conv2d(in_channels, width, 1, bias=False)
        nn.init.normal_(shortcut.weight, 0.0, _STD)
        self.stem = _ResidualBlock(
            spectral_conv(in_channels, 2 * width, 3, padding=1, std=_STD),
            spectral_conv(2 * width, width, 3, padding=1, std=_STD),
            activation,
            shortcut,
        )
        self.stages = nn.ModuleList(
            _Stage(
                i,
                width=width,
                low_out=last_low if i == _STAGES - 1 else width * 2 ** (i + 1),
                blocks=blocks,
                activation=activation,
                sub_pixel=sub_pixel,
            )
            for i in range(_STAGES)
        )
        self.fuse: ConvUnit | None = None
        if fusion:
            self.enlarge = _sub_pixel(last_low, _STAGES) if sub_pixel else _Bilinear(2**_STAGES)
            both = width + (width if sub_pixel else last_low)
            conv = spectral_conv(both, width, 7, padding=3, bias=True, std=_STD)
            self.fuse = ConvUnit(conv, None, activation())
        self.last = last

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"in_channels={self.in_channels}, width={self.width}, blocks={self.blocks}"

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes of an image.

        Args:
            image: (N, in_channels, H, W), values in [0, 1], the network's dtype (any floating
                dtype under autocast). NaN and Inf are allowed in holes. Padded to multiples of 16
                (last row and column of image * mask repeated).
            mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole, any real dtype; see
                `checks.prepare_mask`. No gradient flows through it.

        Returns:
            The whole predicted image, (N, in_channels, H, W), in (0, 1).
        """
        check_image(image, self.in_channels, next(self.parameters()))
        mask = prepare_mask(mask, image)
        height, width = image.shape[2:]
        high: Tensor = self.stem(pad_to_multiple(known_part(image, mask), 2**_STAGES))
        low: Tensor | None = None
        for i, stage in enumerate(self.stages):
            high, low = stage(high, low, self.fuse is not None or i < _STAGES - 1)
        if self.fuse is not None:
            high = self.fuse(torch.cat([high, self.enlarge(low)], 1))
        y: Tensor = self.last(high)
        return (torch.tanh(y[..., :height, :width]) + 1) / 2


def _check_options(in_channels: int, width: int, blocks: int) -> None:
    check_at_least("in_channels", in_channels, 1)
    check_at_least("width", width, 1)
    check_at_least("blocks", blocks, 1)


@register_model(
    "isnet",
    ModelCard(
        title="Interactive Separation Network",
        paper=_PAPER,
        source="sections 2.1 and 2.2, figures 1 and 2; tables 1 and 2 (M = 2^20)",
        inputs=_INPUTS,
        output=_OUTPUT,
        parameters=24_774_307,
        options=_OPTIONS,
        decisions=(*_DECISIONS, "Tanh everywhere; spectral norm on all but the 1x1 shortcut"),
    ),
)
class ISNet(_ISNetwork):
    """`isnet`: sub-pixel enlargement, final fusion, Tanh.

        stem       k3 C -> 64, Tanh, k3 64 -> 32, + k1 C -> 32, Tanh
        stage 0-3  high 32 channels; low 64, 128, 256, 512 after it, at 1/2, 1/4, 1/8, 1/16
        fusion     512 -> 256 -> 128 -> 64 -> 32 by sub-pixel steps, joined to high
                   k7 64 -> 32, Tanh, k3 32 -> C, (tanh + 1) / 2

    24,774,307 parameters with 4 blocks, 23,152,291 with 3, 21,530,275 with 2, 19,908,259 with 1.
    """

    def __init__(self, *, in_channels: int = 3, width: int = 32, blocks: int = 4) -> None:
        """Make the network; the options are those of its model card."""
        _check_options(in_channels, width, blocks)
        super().__init__(
            in_channels=in_channels,
            width=width,
            blocks=blocks,
            last_low=16 * width,
            activation=nn.Tanh,
            sub_pixel=True,
            fusion=True,
            last=spectral_conv(width, in_channels, 3, padding=1, bias=True, std=_STD),
        )


@register_model(
    "isnet_base",
    ModelCard(
        title="ISNet without final fusion and sub-pixel enlargement",
        paper=_PAPER,
        source="section 3.1, 'BaseModel' of table 1 (M = 2^20)",
        inputs=_INPUTS,
        output=_OUTPUT,
        parameters=16_516_995,
        options=_OPTIONS,
        decisions=(
            *_DECISIONS,
            "LeakyReLU 0.2, as in the public code; its second LeakyReLU before each bilinear "
            "enlargement, which base+FF lacks, is left out",
            "nothing reads the last stage's low branch: its parameters are kept for the published "
            "count, but never computed with, and get no gradient",
        ),
    ),
)
class ISNetBase(_ISNetwork):
    """`isnet_base`: bilinear enlargement, LeakyReLU 0.2; the high branch and a 1x1 convolution end.

    16,516,995 parameters; 7,464,960 of them, `stages.3.high_to_low`, `.low_to_low` and `.low_out`,
    are idle.
    """

    def __init__(self, *, in_channels: int = 3, width: int = 32, blocks: int = 4) -> None:
        """Make the network; the options are those of its model card."""
        _check_options(in_channels, width, blocks)
        super().__init__(
            in_channels=in_channels,
            width=width,
            blocks=blocks,
            last_low=16 * width,
            activation=_leaky_relu,
            sub_pixel=False,
            fusion=False,
            last=_plain_conv(width, in_channels, 1),
        )

    def idle(self) -> nn.ModuleList:
        """The layers that are there for the count, and never run."""
        return nn.ModuleList(
            self.get_submodule(f"stages.{_STAGES - 1}.{name}")
            for name in ("high_to_low", "low_to_low", "low_out")
        )


@register_model(
    "isnet_base_ff",
    ModelCard(
        title="ISNet with final fusion, without sub-pixel enlargement",
        paper=_PAPER,
        source="section 3.1, 'BaseModel+FF' of table 1 (M = 2^20)",
        inputs=_INPUTS,
        output=_OUTPUT,
        parameters=14_610_083,
        options=_OPTIONS,
        decisions=(
            *_DECISIONS,
            "LeakyReLU 0.2, 256 channels in the low branch after the last stage, no spectral norm "
            "on the last convolution: as in the public code",
        ),
    ),
)
class ISNetBaseFF(_ISNetwork):
    """`isnet_base_ff`: bilinear enlargement, final fusion, LeakyReLU 0.2. 14,610,083 parameters."""

    def __init__(self, *, in_channels: int = 3, width: int = 32, blocks: int = 4) -> None:
        """Make the network; the options are those of its model card."""
        _check_options(in_channels, width, blocks)
        super().__init__(
            in_channels=in_channels,
            width=width,
            blocks=blocks,
            last_low=8 * width,
            activation=_leaky_relu,
            sub_pixel=False,
            fusion=True,
            last=_plain_conv(width, in_channels, 3),
        )


@register_model(
    "unet_like",
    ModelCard(
        title="EdgeConnect's generator, enlarged: ISNet's comparison",
        paper=_PAPER,
        source="section 3.1, 'UNet-like Net' of table 1 (M = 2^20); Nazeri et al. 2019",
        inputs=_INPUTS,
        output=_OUTPUT,
        parameters=24_403_715,
        options={
            "in_channels": "channels of image and output, at least 1",
            "width": "channels of the first layer, at least 1; the deepest has 8 times as many",
            "blocks": "residual blocks, at least 1",
        },
        decisions=(
            "image * mask alone goes in, without the mask, as ISNet's",
            "the public code has no skips, in spite of the name",
            "residual blocks as ISNet's (zero padding, Tanh, no norm) with biases and without "
            "spectral norm, as in the public code",
            "images of less than 16 pixels, or of sizes that are no multiples of 8, are padded by "
            "repeating the last row and column, and the output is cropped",
            "weights N(0, 0.001^2), as in the public code",
        ),
    ),
)
class UNetLike(nn.Module):
    """`unet_like`: all convolutions with a bias, instance norm without parameters.

        enc1       k7 s1 reflect    C -> 64             instance norm  ReLU
        enc2-4     k4 s2           64 -> 128 -> 256 -> 512  instance norm  ReLU
        middle x4  k3 d2, Tanh, k3, + input, Tanh
        dec4-2     transposed k4 s2  512 -> 256 -> 128 -> 64  instance norm  ReLU
        dec1       k7 s1 reflect   64 -> C              (tanh + 1) / 2

    24,403,715 parameters.
    """

    def __init__(self, *, in_channels: int = 3, width: int = 64, blocks: int = 4) -> None:
        """Make the network; the options are those of its model card."""
        super().__init__()
        _check_options(in_channels, width, blocks)
        self.in_channels = in_channels
        self.width = width
        self.blocks = blocks
        channels = [width * 2**i for i in range(4)]
        deepest = channels[-1]

        def after(out: int) -> list[nn.Module]:
            return [nn.InstanceNorm2d(out), nn.ReLU(inplace=True)]

        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, width, 7, padding=3, padding_mode="reflect"),
            *after(width),
        ]
        for c in channels[:-1]:
            layers += [nn.Conv2d(c, 2 * c, 4, stride=2, padding=1), *after(2 * c)]
        layers += [
            _ResidualBlock(
                nn.Conv2d(deepest, deepest, 3, padding=2, dilation=2),
                nn.Conv2d(deepest, deepest, 3, padding=1),
                nn.Tanh,
            )
            for _ in range(blocks)
        ]
        for c in reversed(channels[:-1]):
            layers += [nn.ConvTranspose2d(2 * c, c, 4, stride=2, padding=1), *after(c)]
        layers.append(nn.Conv2d(width, in_channels, 7, padding=3, padding_mode="reflect"))
        self.layers = nn.Sequential(*layers)
        init_normal(self, std=_STD)

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"in_channels={self.in_channels}, width={self.width}, blocks={self.blocks}"

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes of an image; arguments and result as of `ISNet`.

        Padded to multiples of 8 and at least 16 (last row and column repeated): instance norm
        takes more than one value.
        """
        check_image(image, self.in_channels, next(self.parameters()))
        mask = prepare_mask(mask, image)
        height, width = image.shape[2:]
        x: Tensor = self.layers(pad_to_multiple(known_part(image, mask), 8, least=16))
        return (torch.tanh(x[..., :height, :width]) + 1) / 2
