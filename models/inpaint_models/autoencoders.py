"""The autoencoders of "Image Inpainting with Deep Learning" (Lokray, Ghosh; University of Florida),
made for CIFAR-10.

`vanilla_autoencoder` (section 5.2) is blind, `pconv_autoencoder` (section 5.3) is not.
"""

from __future__ import annotations

from torch import Tensor, nn

from .blocks import PartialConvUnit, PartialConvUpUnit
from .checks import check_at_least, check_image, prepare_mask
from .initialization import init_kaiming
from .padding import pad_to_multiple
from .partial_unet import PartialUNet
from .registry import ModelCard, register_model

_PAPER = "Lokray, Ghosh: Image Inpainting with Deep Learning"
_LEVELS = 5
_OPTIONS = {
    "in_channels": "channels of image and output, at least 1",
    "width": "channels of the first level, at least 1; each deeper one has twice as many",
}


@register_model(
    "vanilla_autoencoder",
    ModelCard(
        title="Convolutional autoencoder that knows no mask",
        paper=_PAPER,
        source="section 5.2",
        inputs="image (N, in_channels, H, W) in [0, 1] with its holes painted, finite, any H and "
        "W; mask (N, 1, H, W) or (1, 1, H, W), checked and not used",
        output="image (N, in_channels, H, W) in (0, 1)",
        parameters=3_136_643,
        options=_OPTIONS,
        decisions=(
            "transposed convolutions 3x3, the encoder's kernel, of stride 2 (padding and output "
            "padding 1), with ReLU between them; the paper names their channels only",
            "other sizes than multiples of 32 are padded by repeating the last row and column, "
            "and the output is cropped",
            "PyTorch's initialization",
        ),
        blind=True,
    ),
)
class VanillaAutoencoder(nn.Module):
    """Five times convolution, ReLU and max-pooling; five transposed convolutions; sigmoid.

        enc1-5  k3 s1  C -> 32 -> 64 -> 128 -> 256 -> 512  ReLU, max-pool 2
        dec5-2  k3 s2  512 -> 256 -> 128 -> 64 -> 32       ReLU
        dec1    k3 s2  32 -> C                             sigmoid

    3,136,643 parameters.
    """

    def __init__(self, *, in_channels: int = 3, width: int = 32) -> None:
        """Make the network; the options are those of its model card."""
        super().__init__()
        check_at_least("in_channels", in_channels, 1)
        check_at_least("width", width, 1)
        self.in_channels = in_channels
        self.width = width
        channels = [in_channels, *(width * 2**i for i in range(_LEVELS))]
        encoder: list[nn.Module] = []
        decoder: list[nn.Module] = []
        for i in range(_LEVELS):
            encoder += [
                nn.Conv2d(channels[i], channels[i + 1], 3, padding=1),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
        for i in range(_LEVELS, 0, -1):
            decoder += [
                nn.ConvTranspose2d(
                    channels[i], channels[i - 1], 3, stride=2, padding=1, output_padding=1
                ),
                nn.Sigmoid() if i == 1 else nn.ReLU(inplace=True),
            ]
        self.encoder = nn.Sequential(*encoder)
        self.decoder = nn.Sequential(*decoder)

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"in_channels={self.in_channels}, width={self.width}"

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Restore an image whose holes are painted.

        Args:
            image: (N, in_channels, H, W), values in [0, 1], finite. What lies in a hole is read:
                paint it first (black in the paper), or the network sees what it is to predict.
                Sizes that are no multiples of 32 are padded (last row and column repeated).
            mask: (N, 1, H, W) or (1, 1, H, W): checked as for any other network, and not used.

        Returns:
            The whole predicted image, (N, in_channels, H, W), in (0, 1).
        """
        check_image(image, self.in_channels, next(self.parameters()))
        prepare_mask(mask, image)
        height, width = image.shape[2:]
        y: Tensor = self.decoder(self.encoder(pad_to_multiple(image, 2**_LEVELS)))
        return y[..., :height, :width]


@register_model(
    "pconv_autoencoder",
    ModelCard(
        title="Autoencoder of partial convolutions with skips",
        paper=_PAPER,
        source="section 5.3, figure 2; partial convolution and mask update as in section 4.2",
        inputs="image (N, in_channels, H, W) in [0, 1], any H and W; mask (N, 1, H, W) or "
        "(1, 1, H, W), 1 = valid, 0 = hole; what lies in a hole is never read",
        output="image (N, in_channels, H, W) in (0, 1)",
        parameters=3_921_556,
        options=_OPTIONS,
        decisions=(
            "3x3 kernels and the channels of the vanilla autoencoder, because the paper names none",
            "stride-2 convolutions halve the maps: 32x32 becomes 1x1",
            "masks are up-sampled and concatenated like the features, as in Liu et al. 2018",
            "the skip of the last level is the input image with its mask",
            "no bias before batch norm; the last level has a bias, no batch norm, and a sigmoid",
            "LeakyReLU slope 0.2",
            "Kaiming-normal weights, as the other networks of partial convolutions",
            "a pixel that no valid pixel can reach is 0 before the sigmoid, 0.5 in the output",
        ),
    ),
)
class PConvAutoencoder(PartialUNet):
    """Five levels of partial convolutions down and up again; 32x32 becomes 1x1 and 32x32.

    enc1-5  k3 s2         C -> 32 -> 64 -> 128 -> 256 -> 512  batch norm, ReLU
    dec5    up x2, k3  512+256 -> 256                         batch norm, LeakyReLU 0.2
    dec4    up x2, k3  256+128 -> 128                         batch norm, LeakyReLU 0.2
    dec3    up x2, k3  128+ 64 ->  64                         batch norm, LeakyReLU 0.2
    dec2    up x2, k3   64+ 32 ->  32                         batch norm, LeakyReLU 0.2
    dec1    up x2, k3   32+  C ->   C                         bias, sigmoid

    3,921,556 parameters. `forward` is `PartialUNet`'s; its output lies in (0, 1).
    """

    def __init__(self, *, in_channels: int = 3, width: int = 32) -> None:
        """Make the network; the options are those of its model card."""
        check_at_least("in_channels", in_channels, 1)
        check_at_least("width", width, 1)
        channels = [in_channels, *(width * 2**i for i in range(_LEVELS))]
        encoders = [
            PartialConvUnit(
                channels[i],
                channels[i + 1],
                3,
                stride=2,
                norm=nn.BatchNorm2d(channels[i + 1]),
                activation=nn.ReLU(inplace=True),
            )
            for i in range(_LEVELS)
        ]
        decoders = [
            PartialConvUpUnit(
                channels[i + 1],
                channels[i],
                channels[i],
                bias=i == 0,
                norm=None if i == 0 else nn.BatchNorm2d(channels[i]),
                activation=nn.Sigmoid() if i == 0 else nn.LeakyReLU(0.2, inplace=True),
                mask_output=i > 0,  # the picture itself is not masked: 0.5 is the card's choice
            )
            for i in range(_LEVELS)
        ]
        super().__init__(encoders, decoders, in_channels=in_channels)
        self.width = width
        init_kaiming(self)

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"in_channels={self.in_channels}, width={self.width}"
