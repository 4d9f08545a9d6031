"""What systems with a discriminator share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection

import torch
from torch import Tensor, nn

from ...checks import check_choice
from ...composite import composite
from ...errors import UsageError
from ...losses import AdversarialLoss, hole_only, without_unmeasured
from ..data import Batch
from ..recipe import Recipe
from .base import Outputs, System


class AdversarialSystem(System):
    """A generator and a discriminator that play against each other.

    The generator's losses are those of another system, and "adversarial".
    """

    discriminator_losses = ("discriminator",)

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module | None,
        reconstruction: System,
        kind: str,
        judged: str,
    ) -> None:
        """Take the networks.

        Args:
            generator: called with image and mask.
            discriminator: what `judge` calls.
            reconstruction: knows the other losses.
            kind: of the adversarial loss, see `AdversarialLoss`.
            judged: what the discriminator sees of a filled image: the "prediction" as it is, its
                "composite" with the true image, or the "hole" alone, 0 elsewhere.
        """
        super().__init__(generator, discriminator)
        check_choice("judged", judged, ("prediction", "composite", "hole"))
        self.reconstruction = reconstruction
        self.adversarial = AdversarialLoss(kind)
        self.judged = judged

    def place(self, device: torch.device) -> None:
        """Move what the other losses need."""
        self.reconstruction.place(device)

    def check(self, recipe: Recipe, wanted: Collection[str]) -> None:
        """What the other losses need must be there."""
        self.reconstruction.check(recipe, wanted)

    def predict(self, batch: Batch) -> Outputs:
        """The prediction; what lies in a hole is not read."""
        return Outputs(self.generator(batch.image, batch.mask))

    @abstractmethod
    def judge(self, batch: Batch, image: Tensor, *, real: bool) -> Tensor:
        """The discriminator's logits for the true image or a filled one."""

    def generator_terms(
        self, batch: Batch, outputs: Outputs, wanted: Collection[str]
    ) -> dict[str, Tensor]:
        """The losses called for."""
        terms = self.reconstruction.generator_terms(batch, outputs, wanted)
        if "adversarial" in wanted:
            logits = self.judge(batch, self.seen(batch, outputs.prediction), real=False)
            terms["adversarial"] = self.adversarial.generator(logits)
        return terms

    def discriminator_terms(self, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        """The adversarial loss."""
        truth = without_unmeasured(batch.image, batch.image)
        real = self.judge(batch, truth, real=True)
        fake = self.judge(batch, self.seen(batch, outputs.prediction), real=False)
        return {"discriminator": self.adversarial.discriminator(real, fake)}

    def seen(self, batch: Batch, image: Tensor) -> Tensor:
        """What the discriminator sees of a filled image."""
        if self.judged == "composite":
            image = composite(image, batch.image, batch.mask)
        elif self.judged == "hole":
            image = hole_only(image, batch.mask)
        return without_unmeasured(image, batch.image)


def check_image_size(size: int, recipe: Recipe) -> None:
    """Raise UsageError if a discriminator with linear layers is made for images of other `size`."""
    if size != recipe.image_size:
        raise UsageError(f"discriminator.image_size={size} must be image_size={recipe.image_size}")
