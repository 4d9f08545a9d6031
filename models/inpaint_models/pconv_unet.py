"""The U-Nets of partial convolutions of "Image Inpainting Using GAN, Partial Convolution and
Region Normalization" (Shi, Li, Jia; University of Michigan).

`pconv_unet` is the paper's baseline "PC" (Liu et al. 2018: batch norm, no discriminator),
`cgan_pc_rn` its proposal "CGAN+PC+RN" (region normalization, trained against a PatchGAN). Both are
one network with different norms:

    enc1    k7 s2            C ->  64             ReLU
    enc2    k5 s2           64 -> 128       norm  ReLU
    enc3    k5 s2          128 -> 256       norm  ReLU
    enc4    k3 s2          256 -> 512       norm  ReLU
    enc5-7  k3 s2          512 -> 512       norm  ReLU
    dec7-5  up x2, k3  512+512 -> 512       norm  LeakyReLU 0.2
    dec4    up x2, k3  512+256 -> 256       norm  LeakyReLU 0.2
    dec3    up x2, k3  256+128 -> 128       norm  LeakyReLU 0.2
    dec2    up x2, k3  128+ 64 ->  64       norm  LeakyReLU 0.2
    dec1    up x2, k3   64+  C ->   C       bias

The paper gives no layer table. This one is that of the public re-implementation
naoto0804/pytorch-inpainting-with-partial-conv, whose hyper-parameters are the paper's; with 8
levels it is Liu et al.'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from inpaint_ops import RN_B, RN_L

from .blocks import PartialConvUnit, PartialConvUpUnit
from .checks import check_at_least, check_choice
from .initialization import init_kaiming
from .partial_unet import PartialUNet
from .published_names import NAOTO_UNET, renamed
from .registry import ModelCard, register_model
from .smooth_filling import smooth_filling

_PAPER = (
    "Shi, Li, Jia: Image Inpainting Using GAN, Partial Convolution and Region Normalization; "
    "partial convolution: Liu et al. 2018 (ECCV); region normalization: Yu et al. 2020 (AAAI)"
)
_INPUTS = (
    "image (N, in_channels, H, W) in [0, 1], any H and W; "
    "mask (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole; what lies in a hole is never read"
)
_OUTPUT = "image (N, in_channels, H, W), not clamped"
_OPTIONS = {
    "in_channels": "channels of image and output, at least 1",
    "levels": "stride-2 levels, at least 2; 7 as in the public code, 8 as in Liu et al.",
    "width": "channels of the first level, at least 1; deeper levels have up to 8 times as many",
}
_DECISIONS = (
    "layer table from public code, because the paper has none",
    "linear output as in that code: neither tanh nor clamping; no dropout",
    "the last skip is the input image with the input mask",
    "up-sampling is nearest to the skip's size, so that any image size works",
    "Kaiming-normal weights for the partial convolutions, as in that code",
    "a pixel that no valid pixel can reach is 0 in the output",
)


class PartialConvUNet(PartialUNet):
    """U-Net of partial convolutions, for any norm in encoder and decoder.

    Shi et al., section 3.3; equations 1 (partial convolution) and 2 (mask update).
    """

    def __init__(
        self,
        encoder_norm: Callable[[int], nn.Module],
        decoder_norm: Callable[[int], nn.Module],
        *,
        in_channels: int,
        levels: int,
        width: int,
        region_mask: str = "updated",
    ) -> None:
        """Make the network, with Kaiming-normal weights.

        Args:
            encoder_norm: builds an encoder norm from its number of channels.
            decoder_norm: builds a decoder norm from its number of channels.
            in_channels: channels of the image and of the output.
            levels: number of stride-2 convolutions.
            width: channels of enc1; level i has width * min(2^(i-1), 8).
            region_mask: the regions of an `RN_B` in the encoder: "updated", the mask that the
                partial convolution has just made, or "original", the input mask resized.
        """
        check_at_least("in_channels", in_channels, 1)
        check_at_least("levels", levels, 2)
        check_at_least("width", width, 1)
        check_choice("region_mask", region_mask, ("updated", "original"))

        channels = [in_channels, *(width * min(2**i, 8) for i in range(levels))]
        kernels = {1: 7, 2: 5, 3: 5}
        encoders = [
            PartialConvUnit(
                channels[i - 1],
                channels[i],
                kernels.get(i, 3),
                stride=2,
                norm=None if i == 1 else encoder_norm(channels[i]),
                activation=nn.ReLU(inplace=True),
            )
            for i in range(1, levels + 1)
        ]
        decoders = [
            PartialConvUpUnit(
                channels[i],
                channels[i - 1],
                channels[i - 1],
                bias=i == 1,
                norm=None if i == 1 else decoder_norm(channels[i - 1]),
                activation=None if i == 1 else nn.LeakyReLU(0.2, inplace=True),
            )
            for i in range(1, levels + 1)
        ]
        super().__init__(encoders, decoders, in_channels=in_channels)
        self.width = width
        self.region_mask = region_mask
        init_kaiming(self)

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return (
            f"in_channels={self.in_channels}, levels={self.levels}, width={self.width}, "
            f"region_mask={self.region_mask!r}"
        )

    def _regions(self, mask: Tensor) -> Tensor | None:
        return mask if self.region_mask == "original" else None


@register_model(
    "pconv_unet",
    ModelCard(
        title="U-Net of partial convolutions with batch norm",
        paper=_PAPER,
        source="the baseline 'PC' of table 1; equations 1 and 2",
        inputs=_INPUTS,
        output=_OUTPUT,
        parameters=25_779_796,
        options={
            **_OPTIONS,
            "residual": "True: the network predicts what to add to a smooth filling of the holes "
            "(smooth_filling), and begins as that filling; not in the paper",
        },
        decisions=(
            *_DECISIONS,
            "freeze_encoder_norm() for the second training stage of Liu et al.",
        ),
    ),
)
class PConvUNet(PartialConvUNet):
    """`pconv_unet`: batch norm in encoder and decoder; the paper's baseline.

    25,779,796 parameters with 7 levels, 32,859,732 with 8.
    """

    def __init__(
        self, *, in_channels: int = 3, levels: int = 7, width: int = 64, residual: bool = False
    ) -> None:
        """Make the network; the options are those of its model card."""
        if not isinstance(residual, bool):
            raise TypeError(f"residual must be True or False, got {residual!r}")
        super().__init__(
            nn.BatchNorm2d,
            nn.BatchNorm2d,
            in_channels=in_channels,
            levels=levels,
            width=width,
        )
        self.residual = residual
        if residual:
            nn.init.zeros_(self.unit("dec1").conv.weight)
        self._encoder_norm_frozen = False

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"{super().extra_repr()}, residual={self.residual}"

    def start(self, image: Tensor, mask: Tensor) -> Tensor | None:
        """The smooth filling that a residual network adds to."""
        return smooth_filling(image, mask, self.levels) if self.residual else None

    def published_names(self, names: Iterable[str]) -> dict[str, str] | None:
        """Our names of naoto0804's parameters, for `inpaint_ops.load_checkpoint`."""
        return renamed(names, NAOTO_UNET, sign="enc_1.")

    def freeze_encoder_norm(self, frozen: bool = True) -> PConvUNet:
        """Freeze the encoder's batch norm: running statistics, weights and biases stay.

        Liu et al. (2018), "Initial Training and Fine-Tuning": holes upset the encoder's batch
        statistics, so training ends with a second stage at a lower learning rate in which the
        encoder's batch norm no longer learns. Lasts through `.train()`; `frozen=False` undoes it.
        Not part of the state_dict.
        """
        self._encoder_norm_frozen = frozen
        for norm in self.encoder_norms():
            norm.requires_grad_(not frozen)
        return self.train(self.training)

    def train(self, mode: bool = True) -> PConvUNet:
        """As `nn.Module.train`, but a frozen encoder norm stays in evaluation mode."""
        super().train(mode)
        if self._encoder_norm_frozen:
            for norm in self.encoder_norms():
                norm.eval()
        return self


@register_model(
    "cgan_pc_rn",
    ModelCard(
        title="U-Net of partial convolutions with region normalization, trained as a GAN",
        paper=_PAPER,
        source="section 3.3, 'CGAN+PC+RN' of table 1; equations 1 and 2",
        inputs=_INPUTS,
        output=_OUTPUT,
        parameters=25_781_880,
        options={
            **_OPTIONS,
            "region_mask": "regions of the encoder's RN: 'updated', the mask that the partial "
            "convolution has made for that very output, or 'original', the input mask resized",
        },
        decisions=(
            *_DECISIONS,
            "region_mask is 'updated', because that is where the output's statistics change; the "
            "hole region is then 0 before normalization (with a binary mask), so RN_B's "
            "foreground_gamma has no effect and no gradient, and the valid region is normalized by "
            "its own statistics alone; with 'original' both regions carry values",
            "RN's threshold is 0.8 as in Yu et al.'s code, whose defaults RN's own convolutions "
            "keep",
        ),
    ),
)
class CganPcRn(PartialConvUNet):
    """`cgan_pc_rn`: RN_B in the encoder, RN_L in the decoder; the paper's proposal.

    Affine transformation per region in the encoder, pixel-wise in the decoder (section 3.3).
    25,781,880 parameters with 7 levels. Neither norm has running statistics: training and
    evaluation compute the same, and an image's output depends on its batch.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        levels: int = 7,
        width: int = 64,
        region_mask: str = "updated",
    ) -> None:
        """Make the network; the options are those of its model card."""
        super().__init__(
            RN_B,
            RN_L,
            in_channels=in_channels,
            levels=levels,
            width=width,
            region_mask=region_mask,
        )
