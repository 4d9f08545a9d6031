"""Discriminators with a local part: Bernikov et al., with and without DAM blocks; Guo, Zhao."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from torch import Tensor, nn

from ...crops import crop, hole_corners, random_corners
from ...errors import UsageError
from ...gan_discriminators import DoubleDiscriminator
from ...glcic_discriminator import GlcicDiscriminator
from ...losses import attention_loss
from ..data import Batch
from ..recipe import Recipe
from .adversarial import AdversarialSystem, check_image_size
from .base import Outputs, register_system
from .reconstruction import ReconstructionSystem


@register_system("glcic", "glcic_unet", "double_discriminator_gan")
class LocalSystem(AdversarialSystem):
    """A discriminator that is called with an image and a crop of it.

    The crop of a filled image lies around one of its holes; that of a true image anywhere, as the
    random mask M_d in the objective of Bernikov et al., section 2.5.
    """

    losses: ClassVar[tuple[str, ...]] = (*ReconstructionSystem.losses, "adversarial")

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
            discriminator: a `GlcicDiscriminator` or a `DoubleDiscriminator`.
            adversarial: the kind of `AdversarialLoss`.
            judged: "prediction", "composite" or "hole", see `AdversarialSystem`.
        """
        reconstruction = ReconstructionSystem(generator, None)
        super().__init__(generator, discriminator, reconstruction, adversarial, judged)
        if isinstance(discriminator, DoubleDiscriminator):
            self.image_size = discriminator.global_critic.size
            self.local_size = discriminator.local_critic.size
        else:
            assert isinstance(discriminator, GlcicDiscriminator)
            self.image_size = discriminator.image_size
            self.local_size = discriminator.local_size

    def check(self, recipe: Recipe, wanted: Collection[str]) -> None:
        """Image and crop must have the sizes that the discriminator is made for."""
        super().check(recipe, wanted)
        check_image_size(self.image_size, recipe)
        if self.local_size > self.image_size:
            raise UsageError(
                f"discriminator.local_size={self.local_size} must be at most "
                f"image_size={self.image_size}"
            )

    def prepare(self, batch: Batch) -> Batch:
        """Choose the hole of each picture; both networks' losses look at the same one."""
        return batch._replace(corners=hole_corners(batch.mask, self.local_size))

    def judge(self, batch: Batch, image: Tensor, *, real: bool) -> Tensor:
        """Logits of image and crop."""
        n, _, height, width = image.shape
        size = self.local_size
        corners = random_corners(n, height, width, size) if real else batch.corners
        assert corners is not None, "the batch has not been through `prepare`"
        assert self.discriminator is not None
        logits: Tensor = self.discriminator(image, crop(image, corners, size))
        return logits


@register_system("glcic_dam")
class AttentionSystem(LocalSystem):
    """Bernikov et al., section 2.6: attention maps learn where the generator errs."""

    losses = (*LocalSystem.losses, "attention")
    methods: ClassVar[Mapping[str, str]] = {"generator": "forward_with_attention"}

    def predict(self, batch: Batch) -> Outputs:
        """The prediction, and the maps."""
        prediction, maps = self.generator(batch.image, batch.mask)
        return Outputs(prediction, {"attention": maps})

    def generator_terms(
        self, batch: Batch, outputs: Outputs, wanted: Collection[str]
    ) -> dict[str, Tensor]:
        """The losses called for."""
        terms = super().generator_terms(batch, outputs, wanted)
        if "attention" in wanted:
            terms["attention"] = attention_loss(
                outputs.extras["attention"], outputs.prediction, batch.image, batch.mask
            )
        return terms
