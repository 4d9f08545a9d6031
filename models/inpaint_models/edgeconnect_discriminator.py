"""EdgeConnect's discriminator (Nazeri et al. 2019), which ISNet and the region-normalization
paper's generator are trained against: a 70x70 PatchGAN under spectral normalization.
"""

from __future__ import annotations

from torch import Tensor, nn

from .blocks import ConvUnit, check_patches
from .checks import check_at_least, check_image
from .registry import ModelCard, register_discriminator
from .spectral import spectral_conv


def _card(source: str, weight_std: str) -> ModelCard:
    return ModelCard(
        title="70x70 PatchGAN with spectral normalization",
        paper="Nazeri et al. 2019: EdgeConnect: Generative Image Inpainting with Adversarial Edge "
        "Learning",
        source=source,
        inputs="image (N, in_channels, H, W), H and W at least 24, finite",
        output="logits (N, 1, H // 8 - 2, W // 8 - 2), and the maps of all five layers, of which "
        "the last is the logits",
        parameters=2_763_776,
        options={
            "in_channels": "channels of the image, at least 1",
            "width": "channels of the first layer, at least 1; deeper ones have 2, 4, 8 times more",
            "weight_std": f"weights start as N(0, weight_std^2), None: PyTorch's default; "
            f"{weight_std}",
        },
        decisions=("logits, no sigmoid at the end: for losses 'with logits' and the hinge loss",),
    )


class EdgeConnectDiscriminator(nn.Module):
    """Five 4x4 convolutions, padding 1, strides 2, 2, 2, 1, 1; LeakyReLU 0.2 between them.

        conv1  s2    C -> 64
        conv2  s2   64 -> 128
        conv3  s2  128 -> 256
        conv4  s1  256 -> 512
        conv5  s1  512 -> 1    logits

    2,763,776 parameters: no biases.
    """

    def __init__(
        self, *, in_channels: int = 3, width: int = 64, weight_std: float | None = 0.001
    ) -> None:
        """Make a discriminator; the options are those of its card."""
        super().__init__()
        check_at_least("in_channels", in_channels, 1)
        check_at_least("width", width, 1)
        if weight_std is not None and not weight_std > 0:
            raise ValueError(f"weight_std must be positive or None, got {weight_std}")
        self.in_channels = in_channels
        self.width = width
        channels = [in_channels, width, 2 * width, 4 * width, 8 * width, 1]
        self.layers = nn.ModuleList()
        for i, stride in enumerate((2, 2, 2, 1, 1)):
            conv = spectral_conv(
                channels[i], channels[i + 1], 4, stride=stride, padding=1, std=weight_std
            )
            self.layers.append(ConvUnit(conv, None, None if i == 4 else nn.LeakyReLU(0.2)))

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"in_channels={self.in_channels}, width={self.width}"

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Judge each patch of an image.

        Args:
            image: (N, in_channels, H, W), the true image or the generator's.

        Returns:
            Logits (N, 1, H // 8 - 2, W // 8 - 2), positive means "true"; and the output of each
            of the five layers for the feature-matching loss, the logits last.
        """
        check_image(image, self.in_channels, next(self.parameters()))
        check_patches(image)
        maps: list[Tensor] = []
        x = image
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return x, maps


for _name in ("isnet", "isnet_base", "isnet_base_ff", "unet_like"):
    register_discriminator(
        _name, _card("Li et al. (ISNet), section 2.2: 'similar to EdgeConnect'", "0.001 as ISNet's")
    )(EdgeConnectDiscriminator)


@register_discriminator("rn_net", _card("Yu et al. 2020, section 3.4", "None as in RN's code"))
def rn_net_discriminator(
    *, in_channels: int = 3, width: int = 64, weight_std: float | None = None
) -> EdgeConnectDiscriminator:
    """EdgeConnect's discriminator with PyTorch's initialization."""
    return EdgeConnectDiscriminator(in_channels=in_channels, width=width, weight_std=weight_std)
