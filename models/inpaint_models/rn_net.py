"""The generator of "Region Normalization for Image Inpainting" (Yu et al. 2020, AAAI)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from inpaint_ops import RN_B, RN_L, norm_activation

from .checks import check_at_least, check_image, prepare_mask
from .composite import known_part
from .padding import pad_to_multiple
from .published_names import YU_GENERATOR, renamed
from .registry import ModelCard, register_model


class _RegionUnit(nn.Module):
    """Convolution, RN_B, ReLU."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.norm = RN_B(conv.out_channels)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        return norm_activation(self.norm, self.activation, self.conv(x), valid)


class _Layers(nn.Sequential):
    """Each norm together with the activation behind it."""

    def forward(self, x: Tensor) -> Tensor:
        layers, at = list(self), 0
        while at < len(layers):
            layer, following = layers[at], layers[at + 1] if at + 1 < len(layers) else None
            if isinstance(layer, RN_L) and isinstance(following, nn.ReLU):
                x = norm_activation(layer, following, x)
                at += 2
            else:
                x = layer(x)
                at += 1
        return x


class _ResidualBlock(nn.Module):
    """x plus two convolutions with RN_L, the first of them dilated."""

    def __init__(self, channels: int, threshold: float) -> None:
        super().__init__()
        self.layers = _Layers(
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2, padding_mode="reflect"),
            RN_L(channels, threshold=threshold),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            RN_L(channels, threshold=threshold),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layers(x)
        return y


@register_model(
    "rn_net",
    ModelCard(
        title="Generator of the region-normalization paper",
        paper="Yu et al. 2020: Region Normalization for Image Inpainting (AAAI)",
        source="section 3.4 and the authors' public code (geekyutao/RN)",
        inputs="image (N, in_channels, H, W) in [0, 1], any H and W; mask (N, 1, H, W) or "
        "(1, 1, H, W), 1 = valid, 0 = hole; what lies in a hole is never read",
        output="image (N, in_channels, H, W) in (0, 1)",
        parameters=11_596_591,
        options={
            "in_channels": "channels of image and output, at least 1",
            "width": "channels of the first layer, at least 1; deeper ones have 2 and 4 times more",
            "blocks": "residual blocks, at least 1",
            "threshold": "attention from which on the residual blocks' RN_L calls a pixel valid; "
            "the decoder keeps 0.8",
        },
        decisions=(
            "holes are painted white by selection, so that NaN in them does no harm",
            "images of less than 12 pixels, or of sizes that are no multiples of 4, are padded by "
            "repeating the last row and column (mask too), and the output is cropped",
            "PyTorch's initialization, as in the public code",
        ),
    ),
)
class RNNet(nn.Module):
    """`rn_net`: RN_B in the encoder, RN_L from there on. All convolutions have a bias.

        enc1       k7 s1 reflect    C -> 64               RN_B  ReLU
        enc2       k4 s2           64 -> 128              RN_B  ReLU
        enc3       k4 s2          128 -> 256              RN_B  ReLU
        middle x8  k3 d2 reflect  256 -> 256              RN_L  ReLU
                   k3 reflect     256 -> 256              RN_L  + input
        decoder    k3             256 -> 512, shuffle x2  RN_L  ReLU
                   k3             128 -> 256, shuffle x2  RN_L  ReLU
                   k7 reflect      64 -> C                (tanh + 1) / 2

    11,596,591 parameters. No running statistics: training and evaluation compute the same, and an
    image's output depends on its batch.
    """

    def __init__(
        self, *, in_channels: int = 3, width: int = 64, blocks: int = 8, threshold: float = 0.8
    ) -> None:
        """Make the network; the options are those of its model card."""
        super().__init__()
        check_at_least("in_channels", in_channels, 1)
        check_at_least("width", width, 1)
        check_at_least("blocks", blocks, 1)
        self.in_channels = in_channels
        self.width = width
        c1, c2, c3 = width, 2 * width, 4 * width
        self.enc1 = _RegionUnit(nn.Conv2d(in_channels, c1, 7, padding=3, padding_mode="reflect"))
        self.enc2 = _RegionUnit(nn.Conv2d(c1, c2, 4, stride=2, padding=1))
        self.enc3 = _RegionUnit(nn.Conv2d(c2, c3, 4, stride=2, padding=1))
        self.middle = nn.Sequential(*(_ResidualBlock(c3, threshold) for _ in range(blocks)))
        self.decoder = _Layers(
            nn.Conv2d(c3, 4 * c2, 3, padding=1),
            nn.PixelShuffle(2),
            RN_L(c2),
            nn.ReLU(inplace=True),
            nn.Conv2d(c2, 4 * c1, 3, padding=1),
            nn.PixelShuffle(2),
            RN_L(c1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c1, in_channels, 7, padding=3, padding_mode="reflect"),
        )

    def published_names(self, names: Iterable[str]) -> dict[str, str] | None:
        """Our names of the parameters in the authors' code, for `inpaint_ops.load_checkpoint`."""
        return renamed(names, YU_GENERATOR, sign="encoder_conv1.")

    def extra_repr(self) -> str:
        """The options that the layers do not show, for `repr`."""
        return f"in_channels={self.in_channels}, width={self.width}"

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes of an image.

        Args:
            image: (N, in_channels, H, W), values in [0, 1], the network's dtype (any floating
                dtype under autocast). NaN and Inf are allowed in holes. Padded to multiples of 4
                and at least 12 (last row and column repeated).
            mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole, any real dtype; see
                `checks.prepare_mask`. No gradient flows through it.

        Returns:
            The whole predicted image, (N, in_channels, H, W), in (0, 1).
        """
        check_image(image, self.in_channels, self.enc1.conv.weight)
        mask = prepare_mask(mask, image)
        height, width = image.shape[2:]
        # A map of 3 x 3 pixels is the smallest that reflects two of them.
        valid = pad_to_multiple(mask, 4, least=12)
        x = pad_to_multiple(known_part(image, mask), 4, least=12) + (1 - valid)
        for encoder in (self.enc1, self.enc2, self.enc3):
            x = encoder(x, valid)
        x = self.decoder(self.middle(x))
        return (torch.tanh(x[..., :height, :width]) + 1) / 2
