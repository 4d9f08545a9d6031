"""The baseline "PC" of Shi, Li, Jia: Liu et al.'s losses, no discriminator."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from ...losses import hole_l1, l1, total_variation, valid_l1
from ..data import Batch
from ..recipe import Recipe
from .base import Outputs, System, register_system
from .perceptual import Perceptual


@register_system("pconv_unet")
class PartialConvSystem(System):
    """Losses of Shi et al., eq. 3, but for the adversarial one; "l1" is not in the paper."""

    losses = ("l1", "valid", "hole", "tv", "perceptual", "style")

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module | None,
        *,
        vgg: str | None = None,
        tv_region: str = "hole",
    ) -> None:
        """Take the networks.

        Args:
            generator: called with image and mask.
            discriminator: None.
            vgg: path of VGG16's weights; needed for "perceptual" and "style".
            tv_region: "hole" or "image", see `total_variation`.
        """
        super().__init__(generator, discriminator)
        self.tv_region = tv_region
        self.perceptual = Perceptual(vgg, "vgg16", composite=True)

    def place(self, device: torch.device) -> None:
        """Move the VGG."""
        self.perceptual.place(device)

    def check(self, recipe: Recipe, wanted: Collection[str]) -> None:
        """Perceptual losses need a VGG."""
        self.perceptual.check(wanted)

    def predict(self, batch: Batch) -> Outputs:
        """The prediction; what lies in a hole is not read."""
        return Outputs(self.generator(batch.image, batch.mask))

    def generator_terms(
        self, batch: Batch, outputs: Outputs, wanted: Collection[str]
    ) -> dict[str, Tensor]:
        """The losses called for; perceptual and style are one run of the VGG."""
        prediction, truth, mask = outputs.prediction, batch.image, batch.mask
        terms: dict[str, Tensor] = {}
        if "l1" in wanted:
            terms["l1"] = l1(prediction, truth)
        if "valid" in wanted:
            terms["valid"] = valid_l1(prediction, truth, mask)
        if "hole" in wanted:
            terms["hole"] = hole_l1(prediction, truth, mask)
        if "tv" in wanted:
            terms["tv"] = total_variation(prediction, truth, mask, region=self.tv_region)
        return terms | self.perceptual.terms(batch, outputs, wanted)
