"""The context discriminators of Iizuka et al. 2017, section 2.3 of "Image Inpainting" (Bernikov,
Pelekh, Kononenko): one looks at the whole image, one at a crop around the hole, both decide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import StridedStack, check_same_batch, check_square
from .checks import check_at_least
from .registry import ModelCard, register_discriminator

_CARD = ModelCard(
    title="Global and local context discriminator",
    paper="Iizuka et al. 2017: Globally and Locally Consistent Image Completion",
    source="tables 2 and 3; used by Bernikov, Pelekh, Kononenko, section 2.3",
    inputs="image (N, in_channels, image_size, image_size) and local_crop (N, in_channels, "
    "local_size, local_size), finite",
    output="logits (N, 1)",
    parameters=45_063_681,
    options={
        "in_channels": "channels of image and crop, at least 1",
        "width": "channels of each first layer, at least 1; deeper ones have 2, 4, 8, 8, 8 times, "
        "and each part's vector 16 times as many",
        "image_size": "side of the image, at least 1",
        "local_size": "side of the crop, at least 1",
    },
    decisions=(
        "batch norm and ReLU after each convolution, ReLU after each part's fully connected layer, "
        "as in public code",
        "every convolution has a bias, also before batch norm, which cancels it: kept for the "
        "published parameter count",
        "logits, no sigmoid at the end: for losses 'with logits', safe in half precision",
        "weights start as PyTorch's defaults",
    ),
)


@register_discriminator("glcic", _CARD)
@register_discriminator("glcic_dam", _CARD)
@register_discriminator("glcic_unet", _CARD)
class GlcicDiscriminator(nn.Module):
    """5x5 convolutions of stride 2, a fully connected layer for each part, one for both.

        global   image C -> 64, 128, 256, 512, 512, 512   FC 1024
        local    crop  C -> 64, 128, 256, 512, 512        FC 1024
                                        both 2048 -> 1    logits

    45,063,681 parameters at 256 and 128 pixels.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        width: int = 64,
        image_size: int = 256,
        local_size: int = 128,
    ) -> None:
        """Make a discriminator; the options are those of its card."""
        super().__init__()
        for name, value in (
            ("in_channels", in_channels),
            ("width", width),
            ("image_size", image_size),
            ("local_size", local_size),
        ):
            check_at_least(name, value, 1)
        self.in_channels = in_channels
        self.width = width
        self.image_size = image_size
        self.local_size = local_size
        channels = [in_channels, *(width * factor for factor in (1, 2, 4, 8, 8, 8))]
        self.global_convs = StridedStack(channels, 5, bias=True)
        self.local_convs = StridedStack(channels[:-1], 5, bias=True)
        global_size = self.global_convs.output_size(image_size)
        crop_size = self.local_convs.output_size(local_size)
        self.global_linear = nn.Linear(8 * width * global_size**2, 16 * width)
        self.local_linear = nn.Linear(8 * width * crop_size**2, 16 * width)
        self.last = nn.Linear(32 * width, 1)

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return (
            f"in_channels={self.in_channels}, width={self.width}, "
            f"image_size={self.image_size}, local_size={self.local_size}"
        )

    def forward(self, image: Tensor, local_crop: Tensor) -> Tensor:
        """Judge images, each with one crop of it.

        Args:
            image: (N, in_channels, image_size, image_size), the true image or the completed one.
            local_crop: (N, in_channels, local_size, local_size): of a completed image, around a
                hole (`crops.hole_corners`); of a true one, from anywhere
                (`crops.random_corners`).

        Returns:
            Logits (N, 1): positive means "true".
        """
        weight = self.last.weight
        check_square(image, self.in_channels, self.image_size, weight, "image")
        check_square(local_crop, self.in_channels, self.local_size, weight, "local_crop")
        check_same_batch(image, local_crop)
        seen = []
        for name, x, convs, linear in (
            ("image", image, self.global_convs, self.global_linear),
            ("local_crop", local_crop, self.local_convs, self.local_linear),
        ):
            convs.check_batch_norm(x, name)
            seen.append(linear(convs(x).flatten(1)).relu())
        logits: Tensor = self.last(torch.cat(seen, dim=1))
        return logits
