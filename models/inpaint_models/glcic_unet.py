"""`glcic_unet`: a U-Net in the place of the completion network (section 3.1 of "Image Inpainting",
Bernikov, Pelekh, Kononenko), with the widths of Ronneberger et al. 2015:

    down1-5  conv k3, conv k3          C+1 -> 64, 128, 256, 512, 1024; max-pool 2 between them
    up4-1    deconv k2 s2, cat skip,   1024 -> 512, 256, 128, 64
             conv k3, conv k3
    last     conv k1                     64 -> C   sigmoid
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvUnit, check_batch_norm
from .checks import check_at_least
from .glcic import DECISIONS, FILL, IN_CHANNELS, INPUTS, OUTPUT, PAPER, CompletionNetwork
from .registry import ModelCard, register_model

_LEVELS = 5


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            ConvUnit(
                nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
                norm=nn.BatchNorm2d(out_channels),
                activation=nn.ReLU(inplace=True),
            )
            for channels in (in_channels, out_channels)
        )
    )


class _Up(nn.Module):
    """Transposed convolution to twice the size, join with the skip, two convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.convs = _double_conv(2 * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        y: Tensor = self.convs(torch.cat([skip, self.up(x)], dim=1))
        return y


@register_model(
    "glcic_unet",
    ModelCard(
        title="U-Net with transposed convolutions as completion network",
        paper=f"{PAPER}; U-Net: Ronneberger et al. 2015",
        source="section 3.1, figure 2",
        inputs=INPUTS,
        output=OUTPUT,
        parameters=31_038_339,
        options={
            "in_channels": IN_CHANNELS,
            "width": "channels of the first level, at least 1; deeper ones have 2, 4, 8, 16 times "
            "more",
            "fill": FILL,
        },
        decisions=(
            *DECISIONS,
            "Ronneberger et al.'s widths and five levels, because the paper shows their figure "
            "only; padded convolutions, so that the output has the image's size",
            "batch norm and ReLU after each 3x3 convolution and a sigmoid at the end, as in glcic; "
            "no bias before batch norm",
            "an image whose sides are no multiples of 16 is padded to the right and below with "
            "holes",
        ),
    ),
)
class GlcicUNet(CompletionNetwork):
    """`glcic_unet`: five levels, four skips. 31,038,339 parameters.

    Any image size: sides that are no multiples of 16 are padded with holes, and the output is cut.
    """

    def __init__(
        self, *, in_channels: int = 3, width: int = 64, fill: float | Sequence[float] = 0.5
    ) -> None:
        """Make the network; the options are those of its model card."""
        super().__init__(in_channels, fill, multiple=2 ** (_LEVELS - 1))
        check_at_least("width", width, 1)
        self.width = width
        channels = [in_channels + 1, *(width * 2**i for i in range(_LEVELS))]
        self.down = nn.ModuleList(
            _double_conv(channels[i], channels[i + 1]) for i in range(_LEVELS)
        )
        self.up = nn.ModuleList(
            _Up(channels[i + 1], channels[i]) for i in range(_LEVELS - 1, 0, -1)
        )
        self.last = nn.Conv2d(width, in_channels, 1)

    def extra_repr(self) -> str:
        """The options but `fill`, for `repr`."""
        return f"in_channels={self.in_channels}, width={self.width}"

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes of an image; arguments and result are those of `Glcic.forward`."""
        x = self.prepare(image, mask)
        deepest = (x.shape[2] // self.multiple, x.shape[3] // self.multiple)
        norm = self.down[-1].get_submodule("0.norm")
        check_batch_norm(norm, image, deepest)
        skips: list[Tensor] = []
        for i, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = up(x, skips.pop())
        return torch.sigmoid(self.last(x))[..., : image.shape[2], : image.shape[3]]
