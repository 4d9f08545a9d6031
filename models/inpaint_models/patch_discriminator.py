"""The 70x70 PatchGAN of pix2pix (Isola et al. 2017, section 6.1.2), conditioned on the corrupted
image: "the discriminator D is like the one used in pix2pix model, which takes both the corrupted
image and target image as inputs" (Shi et al., section 3).

Their future work, "we can feed the discriminator just the output of the masked area instead of the
whole generated image" (section 5.2), is `region="hole"`: the image is shown in its holes only. The
corrupted image stays the condition; shown in the holes only, it would be constant.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import ConvUnit, check_patches
from .checks import check_at_least, check_choice, check_image, prepare_mask
from .initialization import init_normal
from .registry import ModelCard, register_discriminator


@register_discriminator(
    "cgan_pc_rn",
    ModelCard(
        title="70x70 PatchGAN",
        paper="Isola et al. 2017: Image-to-Image Translation with Conditional Adversarial Networks",
        source="section 6.1.2, 'C64-C128-C256-C512'; used by Shi et al., section 3",
        inputs="corrupted and image, each (N, in_channels, H, W), H and W at least 24, finite; "
        "with region='hole' also the mask, (N, 1, H, W) or (1, 1, H, W), 1 = valid",
        output="logits (N, 1, H // 8 - 2, W // 8 - 2), one per 70x70 patch; 30x30 for 256x256",
        parameters=2_769_601,
        options={
            "in_channels": "channels of each of the two images, at least 1",
            "width": "channels of the first layer, at least 1; deeper ones have 2, 4, 8 times more",
            "region": "what it sees of the image: 'whole', or 'hole', where the mask is below 1; "
            "known pixels are 0 then",
        },
        decisions=(
            "region='hole' leaves the corrupted image as it is, because that is what the hole must "
            "fit, and in its holes it is constant",
            "every convolution has a bias, also before batch norm, which cancels it: kept for the "
            "published parameter count",
            "logits, no sigmoid at the end: for losses 'with logits', safe in half precision",
        ),
    ),
)
class PatchDiscriminator(nn.Module):
    """Five 4x4 convolutions, padding 1, strides 2, 2, 2, 1, 1; LeakyReLU 0.2 between them.

        conv1  s2  2*C -> 64
        conv2  s2   64 -> 128  batch norm
        conv3  s2  128 -> 256  batch norm
        conv4  s1  256 -> 512  batch norm
        conv5  s1  512 -> 1    logits

    2,769,601 parameters. Weights start as N(0, 0.02^2), batch norm's as N(1, 0.02^2), biases as 0.
    """

    def __init__(self, *, in_channels: int = 3, width: int = 64, region: str = "whole") -> None:
        """Make a discriminator for two images of `in_channels` channels each.

        Args:
            in_channels: channels of each of the two images.
            width: channels of the first layer.
            region: "whole", or "hole" to see the image in its holes only.
        """
        super().__init__()
        check_choice("region", region, ("whole", "hole"))
        check_at_least("in_channels", in_channels, 1)
        check_at_least("width", width, 1)
        self.in_channels = in_channels
        self.width = width
        self.region = region
        channels = [2 * in_channels, width, 2 * width, 4 * width, 8 * width, 1]
        self.layers = nn.ModuleList()
        for i, stride in enumerate((2, 2, 2, 1, 1)):
            first, last = i == 0, i == 4
            self.layers.append(
                ConvUnit(
                    nn.Conv2d(channels[i], channels[i + 1], 4, stride=stride, padding=1),
                    norm=None if first or last else nn.BatchNorm2d(channels[i + 1]),
                    activation=None if last else nn.LeakyReLU(0.2, inplace=True),
                )
            )
        init_normal(self)

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"in_channels={self.in_channels}, width={self.width}, region={self.region!r}"

    def forward(self, corrupted: Tensor, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Judge each patch of an image, given the corrupted image it was made from.

        Args:
            corrupted: (N, in_channels, H, W), the input image with its holes set to a finite
                value (select them, `torch.where`; a product keeps NaN).
            image: (N, in_channels, H, W), the true image or the generator's.
            mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole; for region="hole", which shows
                the image where the mask is below 1, and for that only.

        Returns:
            Logits (N, 1, H // 8 - 2, W // 8 - 2): positive means "true".
        """
        weight = next(self.parameters())
        check_image(corrupted, self.in_channels, weight, "corrupted")
        check_image(image, self.in_channels, weight)
        if corrupted.shape != image.shape:
            raise ValueError(
                f"corrupted and image must have the same shape, got {tuple(corrupted.shape)} and "
                f"{tuple(image.shape)}"
            )
        check_patches(image)
        if self.region == "hole":
            if mask is None:
                raise TypeError("mask must be given to a discriminator with region='hole'")
            image = torch.where(prepare_mask(mask, image) == 1, 0, image)
        elif mask is not None:
            raise TypeError("mask is for a discriminator with region='hole', this one has 'whole'")
        x = torch.cat([corrupted, image], dim=1)
        for layer in self.layers:
            x = layer(x)
        return x
