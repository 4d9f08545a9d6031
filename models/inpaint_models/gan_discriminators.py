"""The discriminators of "Image Inpainting using Machine Learning" (Guo, Zhao): "a sequence of
convolution, BatchNorm, and ReLu layers into a final linear layer"; the last variant has two, for
the image and for the area of the hole.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import StridedStack, check_same_batch, check_square
from .checks import check_at_least
from .registry import ModelCard, register_discriminator

_PAPER = "Guo, Zhao: Image Inpainting using Machine Learning"
_IN_CHANNELS = "channels of the image, at least 1"
_WIDTH = "channels of the first layer, at least 1; deeper ones have 2, 4, 8 times more"
_IMAGE_SIZE = "side of the image, at least 16"
_DECISIONS = (
    "the paper gives no layers: 4x4 convolutions of stride 2 and widths 64 to 512, no bias before "
    "batch norm",
    "logits, no sigmoid at the end: for losses 'with logits', safe in half precision",
    "weights start as PyTorch's defaults",
)
_CARD = ModelCard(
    title="Convolutions and a linear layer",
    paper=_PAPER,
    source="abstract, 'Simple GAN with MSE Loss'",
    inputs="image (N, in_channels, image_size, image_size), finite",
    output="logits (N, 1)",
    parameters=2_888_577,
    options={"in_channels": _IN_CHANNELS, "width": _WIDTH, "image_size": _IMAGE_SIZE},
    decisions=_DECISIONS,
)


class Critic(nn.Module):
    """Four 4x4 convolutions of stride 2 with batch norm and ReLU, then a linear layer.

    C -> 64 -> 128 -> 256 -> 512      all values -> 1 logit
    """

    def __init__(self, in_channels: int, width: int, size: int) -> None:
        """Make a critic for x of (N, in_channels, size, size)."""
        super().__init__()
        self.in_channels = in_channels
        self.size = size
        channels = [in_channels, width, 2 * width, 4 * width, 8 * width]
        self.convs = StridedStack(channels, 4, bias=False)
        self.linear = nn.Linear(8 * width * self.convs.output_size(size) ** 2, 1)

    def judge(self, x: Tensor, name: str) -> Tensor:
        """Logits (N, 1) for x; `name` is the argument that it came as."""
        check_square(x, self.in_channels, self.size, self.linear.weight, name)
        self.convs.check_batch_norm(x, name)
        logits: Tensor = self.linear(self.convs(x).flatten(1))
        return logits


@register_discriminator("gan_mse", _CARD)
@register_discriminator("gan_bce", _CARD)
@register_discriminator("residual_gan_mask", _CARD)
@register_discriminator("residual_gan_whole", _CARD)
class GanDiscriminator(Critic):
    """The discriminator of the variants that have one. 2,888,577 parameters at 256 pixels."""

    def __init__(self, *, in_channels: int = 3, width: int = 64, image_size: int = 256) -> None:
        """Make a discriminator; the options are those of its card."""
        check_options(in_channels, width, image_size=image_size)
        super().__init__(in_channels, width, image_size)

    def extra_repr(self) -> str:
        """The options but the width, for `repr`."""
        return f"in_channels={self.in_channels}, image_size={self.size}"

    def forward(self, image: Tensor) -> Tensor:
        """Judge images.

        Args:
            image: (N, in_channels, image_size, image_size), the true image or the generator's.

        Returns:
            Logits (N, 1): positive means "true".
        """
        return self.judge(image, "image")


@register_discriminator(
    "double_discriminator_gan",
    ModelCard(
        title="Global and local discriminator",
        paper=_PAPER,
        source="abstract, 'GAN with double discriminator'",
        inputs="image (N, in_channels, image_size, image_size) and local_crop (N, in_channels, "
        "local_size, local_size), finite",
        output="logits (N, 2): of the image, of the crop",
        parameters=5_678_850,
        options={
            "in_channels": _IN_CHANNELS,
            "width": _WIDTH,
            "image_size": _IMAGE_SIZE,
            "local_size": "side of the crop, at least 16",
        },
        decisions=(
            *_DECISIONS,
            "each part gives its own logit, because the paper speaks of two discriminators; the "
            "crop is half the image's size",
        ),
    ),
)
class DoubleDiscriminator(nn.Module):
    """Two critics that share nothing. 5,678,850 parameters at 256 and 128 pixels."""

    def __init__(
        self,
        *,
        in_channels: int = 3,
        width: int = 64,
        image_size: int = 256,
        local_size: int = 128,
    ) -> None:
        """Make both; the options are those of their card."""
        check_options(in_channels, width, image_size=image_size, local_size=local_size)
        super().__init__()
        self.global_critic = Critic(in_channels, width, image_size)
        self.local_critic = Critic(in_channels, width, local_size)

    def extra_repr(self) -> str:
        """The options but the width, for `repr`."""
        return (
            f"in_channels={self.global_critic.in_channels}, "
            f"image_size={self.global_critic.size}, local_size={self.local_critic.size}"
        )

    def forward(self, image: Tensor, local_crop: Tensor) -> Tensor:
        """Judge images and one crop of each.

        Args:
            image: (N, in_channels, image_size, image_size), the true image or the generator's.
            local_crop: (N, in_channels, local_size, local_size): of a generator's image, around a
                hole (`crops.hole_corners`); of a true one, from anywhere
                (`crops.random_corners`).

        Returns:
            Logits (N, 2), of the image and of the crop: positive means "true".
        """
        whole = self.global_critic.judge(image, "image")
        part = self.local_critic.judge(local_crop, "local_crop")
        check_same_batch(image, local_crop)
        return torch.cat([whole, part], dim=1)


def check_options(in_channels: int, width: int, **sizes: int) -> None:
    """Raise unless every option is in range: four halvings must leave a pixel."""
    check_at_least("in_channels", in_channels, 1)
    check_at_least("width", width, 1)
    for name, size in sizes.items():
        check_at_least(name, size, 16)
