"""The GANs of Guo, Zhao that have one discriminator."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from ...gan_discriminators import GanDiscriminator
from ..data import Batch
from ..recipe import Recipe
from .adversarial import AdversarialSystem, check_image_size
from .base import register_system
from .reconstruction import ReconstructionSystem


@register_system("gan_mse", "gan_bce", "residual_gan_mask", "residual_gan_whole")
class GanSystem(AdversarialSystem):
    """A discriminator that sees whole images."""

    losses = (*ReconstructionSystem.losses, "adversarial")

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module | None,
        *,
        adversarial: str = "bce",
        judged: str = "prediction",
    ) -> None:
        """Take the networks.

        Args:
            generator: called with image and mask.
            discriminator: a `GanDiscriminator`.
            adversarial: the kind of `AdversarialLoss`.
            judged: "prediction", "composite" or "hole", see `AdversarialSystem`.
        """
        reconstruction = ReconstructionSystem(generator, None)
        super().__init__(generator, discriminator, reconstruction, adversarial, judged)
        assert isinstance(discriminator, GanDiscriminator)
        self.image_size = discriminator.size

    def check(self, recipe: Recipe, wanted: Collection[str]) -> None:
        """Images must have the size that the discriminator is made for."""
        super().check(recipe, wanted)
        check_image_size(self.image_size, recipe)

    def judge(self, batch: Batch, image: Tensor, *, real: bool) -> Tensor:
        """A logit for each image."""
        assert self.discriminator is not None
        logits: Tensor = self.discriminator(image)
        return logits
