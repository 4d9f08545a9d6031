"""The generators of "Image Inpainting using Machine Learning" (Guo, Zhao; University of Waterloo).

`unet_mse`, `gan_mse` and `gan_bce` are one U-Net trained in three ways:

    down1-4  conv   k4 s2  2C -> 64 -> 128 -> 256 -> 512          batch norm  ReLU
    up4-2    deconv k4 s2  512, 256+256, 128+128 -> 256, 128, 64  batch norm  ReLU
    up1      deconv k4 s2  64+64 -> C

`residual_gan_mask` and `residual_gan_whole` have residual blocks in the middle:

    down1-3  conv   k4 s2  2C -> 64 -> 128 -> 256        LeakyReLU 0.2
    6 blocks               x + conv k3(ReLU(conv k3(x)))
    up3-1    deconv k4 s2  256, 128+128, 64+64 -> 128, 64, 64  ReLU
    last     conv   k3     64 -> C

`double_discriminator_gan` runs two such networks in a row, without skips, as the paper's code
shows: each is down1-3, 3 blocks, and up3-1 with 256 -> 128 -> 64 -> C.

All see the image with its holes at the data's mean, and the mask in as many channels, 1 = valid.
They compute with normalized values, as the paper's data are (ImageNet's mean and deviation);
`forward` takes and returns values in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import ConvUnit, check_batch_norm
from .checks import check_at_least, check_image, prepare_mask
from .composite import blend
from .imagenet import IMAGENET_DEVIATION, IMAGENET_MEAN
from .padding import pad_with_holes
from .registry import ModelCard, register_model

_PAPER = "Guo, Zhao: Image Inpainting using Machine Learning"
_INPUTS = (
    "image (N, in_channels, H, W) in [0, 1], any H and W; "
    "mask (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole; what lies in a hole is never read"
)
_WHOLE = "image (N, in_channels, H, W), every pixel predicted, not clamped"
_HOLE_ONLY = "image (N, in_channels, H, W), predicted in the holes, not clamped; known pixels as is"
_IN_CHANNELS = "channels of the image and of the output, at least 1"
_DECISIONS = (
    "ImageNet's mean and deviation are applied inside, so that image and output are in [0, 1]; "
    "with other than three channels all have the average of ImageNet's three",
    "input of image and mask in 2 * in_channels channels as in the paper's code of its last "
    "generator; soft masks mix image and mean by their value",
    "weights start as PyTorch's defaults, as in the paper's code",
    "an image whose sides are no multiples of {multiple} is padded to the right and below with "
    "holes",
)


def _decisions(multiple: int, *more: str) -> tuple[str, ...]:
    return (*(text.format(multiple=multiple) for text in _DECISIONS), *more)


class GanGenerator(nn.Module):
    """What the generators share: size, normalization, and the image that they see."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, in_channels: int, width: int, multiple: int) -> None:
        """Check the options; images are padded to multiples of `multiple`."""
        super().__init__()
        check_at_least("in_channels", in_channels, 1)
        check_at_least("width", width, 1)
        self.in_channels = in_channels
        self.width = width
        self.multiple = multiple
        mean, deviation = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_DEVIATION)
        if in_channels != 3:
            mean, deviation = (x.mean().repeat(in_channels) for x in (mean, deviation))
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("deviation", deviation.reshape(1, -1, 1, 1), persistent=False)

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"in_channels={self.in_channels}, width={self.width}"

    def prepare(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pad a checked image and mask; normalize the image and set its holes to 0."""
        image, mask = pad_with_holes(image, mask, self.multiple)
        return (blend(image, mask, self.mean) - self.mean) / self.deviation, mask

    def finish(self, x: Tensor, image: Tensor) -> Tensor:
        """Undo normalization and padding."""
        return (x * self.deviation + self.mean)[..., : image.shape[2], : image.shape[3]]

    def see(self, x: Tensor, mask: Tensor) -> Tensor:
        """What the first layer takes: x (N, C, H, W) and the mask, (N, 2 * C, H, W)."""
        return torch.cat([x, mask.expand_as(x)], dim=1)


_UNET_OPTIONS = {
    "in_channels": _IN_CHANNELS,
    "width": "channels of the first level, at least 1; deeper ones have 2, 4, 8 times more",
}
_UNET_DECISIONS = _decisions(
    16,
    "the paper gives no layers: 4x4 convolutions of stride 2 and widths 64 to 512 with batch norm "
    "and ReLU, and as many transposed ones with skips; no bias before batch norm; a linear end",
)


def _unet_card(title: str, source: str) -> ModelCard:
    return ModelCard(
        title=title,
        paper=_PAPER,
        source=source,
        inputs=_INPUTS,
        output=_WHOLE,
        parameters=6_175_491,
        options=_UNET_OPTIONS,
        decisions=_UNET_DECISIONS,
    )


@register_model(
    "unet_mse",
    _unet_card("U-Net, trained with MSE alone", "abstract, 'simple U-net generator': the baseline"),
)
@register_model(
    "gan_mse",
    _unet_card("U-Net, trained as a GAN with MSE", "abstract, 'Simple GAN with MSE Loss'"),
)
@register_model(
    "gan_bce",
    _unet_card(
        "U-Net, trained as a GAN with BCE and heavier MSE",
        "abstract, 'Simple GAN with updated loss function'",
    ),
)
class GanUNet(GanGenerator):
    """`unet_mse`, `gan_mse`, `gan_bce`: one generator, trained in three ways.

    Any image size: sides that are no multiples of 16 are padded with holes, and the output is cut.
    """

    def __init__(self, *, in_channels: int = 3, width: int = 64) -> None:
        """Make the network; the options are those of its model card."""
        super().__init__(in_channels, width, multiple=16)
        channels = [2 * in_channels, width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(
            ConvUnit(
                nn.Conv2d(channels[i], channels[i + 1], 4, stride=2, padding=1, bias=False),
                norm=nn.BatchNorm2d(channels[i + 1]),
                activation=nn.ReLU(inplace=True),
            )
            for i in range(4)
        )
        self.up = nn.ModuleList()
        for i in range(4, 0, -1):
            first, last = i == 4, i == 1
            wide = channels[i] if first else 2 * channels[i]
            narrow = in_channels if last else channels[i - 1]
            self.up.append(
                ConvUnit(
                    nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=last),
                    norm=None if last else nn.BatchNorm2d(narrow),
                    activation=None if last else nn.ReLU(inplace=True),
                )
            )

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes of an image.

        Args:
            image: (N, in_channels, H, W), values in [0, 1], the network's dtype (any floating
                dtype under autocast). NaN and Inf are allowed in holes.
            mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole, any real dtype; see
                `checks.prepare_mask`. No gradient flows through it.

        Returns:
            The whole predicted image, (N, in_channels, H, W), not clamped. The known part is
            predicted as well: select it from `image` for a composite.
        """
        check_image(image, self.in_channels, next(self.parameters()))
        known, padded_mask = self.prepare(image, prepare_mask(mask, image))
        deepest = (known.shape[2] // self.multiple, known.shape[3] // self.multiple)
        check_batch_norm(self.down[-1].get_submodule("norm"), image, deepest)
        x = self.see(known, padded_mask)
        skips: list[Tensor] = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = skips.pop()
        for i, up in enumerate(self.up):
            x = up(torch.cat([x, skips.pop()], dim=1) if i else x)
        return self.finish(x, image)


class ResidualBlock(nn.Module):
    """x + conv3x3(ReLU(conv3x3(x)))."""

    def __init__(self, channels: int) -> None:
        """Make a block for x of `channels`."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, H, W); returns the same shape."""
        y: Tensor = x + self.conv2(self.conv1(x).relu())
        return y


def _down(in_channels: int, out_channels: int) -> ConvUnit:
    conv = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)
    return ConvUnit(conv, None, nn.LeakyReLU(0.2, inplace=True))


def _up(in_channels: int, out_channels: int, *, relu: bool = True) -> ConvUnit:
    conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)
    return ConvUnit(conv, None, nn.ReLU(inplace=True) if relu else None)


_RESIDUAL_OPTIONS = {
    "in_channels": _IN_CHANNELS,
    "width": "channels of down1, at least 1; deeper ones have 2, 4 times more",
    "blocks": "residual blocks in the middle, at least 1",
}
_RESIDUAL_DECISIONS = _decisions(
    8,
    "the paper's code shows its last generator only: this one is one stage of that, with the "
    "skips that the paper says the last one dropped",
    "6 residual blocks and a last 3x3 convolution, because the paper counts 19 layers",
)


class ResidualGenerator(GanGenerator):
    """Down, residual blocks, up with skips. 19 convolutions with 6 blocks.

    Any image size: sides that are no multiples of 8 are padded with holes, and the output is cut.
    """

    def __init__(self, *, in_channels: int = 3, width: int = 64, blocks: int = 6) -> None:
        """Make the network; the options are those of the model cards."""
        super().__init__(in_channels, width, multiple=8)
        check_at_least("blocks", blocks, 1)
        w, w2, w4 = width, 2 * width, 4 * width
        self.down = nn.ModuleList([_down(2 * in_channels, w), _down(w, w2), _down(w2, w4)])
        self.blocks = nn.Sequential(*(ResidualBlock(w4) for _ in range(blocks)))
        self.up = nn.ModuleList([_up(w4, w2), _up(2 * w2, w), _up(2 * w, w)])
        self.last = nn.Conv2d(w, in_channels, 3, padding=1)

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"{super().extra_repr()}, blocks={len(self.blocks)}"

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        """Predict every pixel of a checked image, (N, in_channels, H, W)."""
        x = self.see(*self.prepare(image, mask))
        skips: list[Tensor] = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        x = self.blocks(x)
        for i, up in enumerate(self.up):
            x = up(torch.cat([x, skips.pop()], dim=1) if i else x)
        return self.finish(self.last(x), image)


@register_model(
    "residual_gan_mask",
    ModelCard(
        title="U-Net with residual blocks that writes the holes only, trained as a GAN",
        paper=_PAPER,
        source="abstract, 'GAN using Residual Blocks'; results, gan_res_mask",
        inputs=_INPUTS,
        output=_HOLE_ONLY,
        parameters=8_662_403,
        options=_RESIDUAL_OPTIONS,
        decisions=_RESIDUAL_DECISIONS,
    ),
)
class ResidualGanMask(ResidualGenerator):
    """`residual_gan_mask`: copies the known pixels, predicts the others."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes of an image; arguments are those of `GanUNet.forward`.

        Returns:
            (N, in_channels, H, W): `image` where the mask is 1, predicted where it is 0, the mean
            weighted by the mask in between; not clamped.
        """
        check_image(image, self.in_channels, self.last.weight)
        mask = prepare_mask(mask, image)
        return blend(image, mask, self.predict(image, mask))


@register_model(
    "residual_gan_whole",
    ModelCard(
        title="U-Net with residual blocks that writes the whole image, trained as a GAN",
        paper=_PAPER,
        source="abstract, 'GAN using Residual Blocks'; results, gan_res_whole",
        inputs=_INPUTS,
        output=_WHOLE,
        parameters=8_662_403,
        options=_RESIDUAL_OPTIONS,
        decisions=_RESIDUAL_DECISIONS,
    ),
)
class ResidualGanWhole(ResidualGenerator):
    """`residual_gan_whole`: predicts every pixel."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes of an image; arguments and result are those of `GanUNet.forward`."""
        check_image(image, self.in_channels, self.last.weight)
        return self.predict(image, prepare_mask(mask, image))


@register_model(
    "double_discriminator_gan",
    ModelCard(
        title="Two residual networks in a row, trained against two discriminators",
        paper=_PAPER,
        source="abstract, 'GAN with double discriminator'; the Generator of the demo's code",
        inputs=_INPUTS,
        output=_HOLE_ONLY,
        parameters=9_722_118,
        options={
            "in_channels": _IN_CHANNELS,
            "width": "channels of down1, at least 1; deeper ones have 2, 4 times more",
            "last_relu": "True: a ReLU ends each stage, as published",
        },
        decisions=_decisions(
            8,
            "last_relu is False: after a ReLU, the first stage can write nothing below the data's "
            "mean, and the second nothing below the first",
            "arguments that the paper's page cuts off: stride 2 and padding 1 for 4x4 kernels, "
            "stride 1 and padding 1 for 3x3 ones",
            "the second stage is added to the first in the holes, as the paper's code does",
        ),
    ),
)
class DoubleDiscriminatorGan(GanGenerator):
    """`double_discriminator_gan`: the second stage sees, and corrects, what the first has filled.

        inpainted = x * mask  + stage1(x * mask,  mask) * (1 - mask)
        refined   = inpainted + stage2(inpainted, mask) * (1 - mask)

    9,722,118 parameters. Any image size: sides that are no multiples of 8 are padded with holes,
    and the output is cut.
    """

    def __init__(self, *, in_channels: int = 3, width: int = 64, last_relu: bool = False) -> None:
        """Make the network; the options are those of its model card."""
        super().__init__(in_channels, width, multiple=8)
        self.last_relu = last_relu
        w, w2, w4 = width, 2 * width, 4 * width
        for name in ("stage1", "stage2"):
            stage = nn.Sequential(
                _down(2 * in_channels, w),
                _down(w, w2),
                _down(w2, w4),
                *(ResidualBlock(w4) for _ in range(3)),
                _up(w4, w2),
                _up(w2, w),
                _up(w, in_channels, relu=last_relu),
            )
            self.add_module(name, stage)

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"{super().extra_repr()}, last_relu={self.last_relu}"

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes of an image; arguments are those of `GanUNet.forward`.

        Returns:
            (N, in_channels, H, W): `image` where the mask is 1, else predicted; not clamped.
        """
        check_image(image, self.in_channels, next(self.parameters()))
        mask = prepare_mask(mask, image)
        known, padded_mask = self.prepare(image, mask)
        hole = 1 - padded_mask
        # `known` is 0 in holes and weighted by the mask already, and both stages are finite there.
        inpainted = known + self.get_submodule("stage1")(self.see(known, padded_mask)) * hole
        correction = self.get_submodule("stage2")(self.see(inpainted, padded_mask))
        refined = self.finish(inpainted + correction * hole, image)
        return torch.where(mask == 1, image, refined)
