"""The proposal "CGAN+PC+RN" of Shi, Li, Jia: Liu et al.'s losses and a conditional GAN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...losses import without_unmeasured
from ...patch_discriminator import PatchDiscriminator
from ..data import Batch
from .adversarial import AdversarialSystem
from .base import register_system
from .pconv_unet import PartialConvSystem


@register_system("cgan_pc_rn")
class ConditionalGanSystem(AdversarialSystem):
    """Losses of Shi et al., eq. 3 and 4."""

    losses = (*PartialConvSystem.losses, "adversarial")

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module | None,
        *,
        vgg: str | None = None,
        tv_region: str = "hole",
        adversarial: str = "nsgan",
        judged: str = "prediction",
    ) -> None:
        """Take the networks.

        Args:
            generator: called with image and mask.
            discriminator: a `PatchDiscriminator`. With discriminator.region=hole, true images are
                seen in the hole only, as well as filled ones.
            vgg, tv_region: as of `PartialConvSystem`.
            adversarial: the kind of `AdversarialLoss`.
            judged: "prediction", "composite" or "hole", see `AdversarialSystem`.
        """
        reconstruction = PartialConvSystem(generator, None, vgg=vgg, tv_region=tv_region)
        super().__init__(generator, discriminator, reconstruction, adversarial, judged)
        assert isinstance(discriminator, PatchDiscriminator)
        self.region = discriminator.region

    def judge(self, batch: Batch, image: Tensor, *, real: bool) -> Tensor:
        """A logit for each patch, given the image with black holes."""
        known = without_unmeasured(batch.image, batch.image)
        corrupted = torch.where(batch.mask == 0, 0, known)
        masks = (batch.mask,) if self.region == "hole" else ()
        assert self.discriminator is not None
        logits: Tensor = self.discriminator(corrupted, image, *masks)
        return logits
