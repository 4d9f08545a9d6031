"""ISNet, its ablations, and region normalization's own network, all with EdgeConnect's critic."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from ...isnet import ISNetBase
from ...losses import feature_matching, l1, l1_per_hole
from ..data import Batch
from ..recipe import Recipe
from .adversarial import AdversarialSystem
from .base import Outputs, System, register_system
from .perceptual import NAMES, Perceptual


class PixelsAndFeatures(System):
    """The losses of Li et al. (ISNet), eq. 2, that need no discriminator."""

    losses = ("l1", "l1_per_hole", *NAMES)

    def __init__(self, generator: nn.Module, vgg: str | None) -> None:
        """Take the generator, and the path of VGG19's weights."""
        super().__init__(generator, None)
        self.perceptual = Perceptual(vgg, "vgg19", composite=False)

    def place(self, device: torch.device) -> None:
        """Move the VGG."""
        self.perceptual.place(device)

    def check(self, recipe: Recipe, wanted: Collection[str]) -> None:
        """Perceptual losses need a VGG."""
        self.perceptual.check(wanted)

    def predict(self, batch: Batch) -> Outputs:
        """The prediction."""
        return Outputs(self.generator(batch.image, batch.mask))

    def generator_terms(
        self, batch: Batch, outputs: Outputs, wanted: Collection[str]
    ) -> dict[str, Tensor]:
        """The losses called for."""
        terms = self.perceptual.terms(batch, outputs, wanted)
        if "l1" in wanted:
            terms["l1"] = l1(outputs.prediction, batch.image)
        if "l1_per_hole" in wanted:
            terms["l1_per_hole"] = l1_per_hole(outputs.prediction, batch.image, batch.mask)
        return terms


@register_system("isnet", "isnet_base", "isnet_base_ff", "unet_like", "rn_net")
class IsnetSystem(AdversarialSystem):
    """Losses of Li et al. (ISNet), eq. 2 and 3; region normalization's are some of them."""

    losses = (*PixelsAndFeatures.losses, "adversarial", "feature_matching")

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module | None,
        *,
        vgg: str | None = None,
        adversarial: str = "nsgan",
        judged: str = "prediction",
    ) -> None:
        """Take the networks.

        Args:
            generator: called with image and mask.
            discriminator: an `EdgeConnectDiscriminator`.
            vgg: path of VGG19's weights; needed for "perceptual" and "style".
            adversarial: the kind of `AdversarialLoss`; "hinge" in eq. 3.
            judged: "prediction", "composite" or "hole", see `AdversarialSystem`; "hole" in eq. 3.
        """
        reconstruction = PixelsAndFeatures(generator, vgg)
        super().__init__(generator, discriminator, reconstruction, adversarial, judged)
        if isinstance(generator, ISNetBase):
            # Nothing reads what they compute; data parallelism would wait for their gradients.
            generator.idle().requires_grad_(False)

    def judge(self, batch: Batch, image: Tensor, *, real: bool) -> Tensor:
        """A logit for each patch."""
        return self._look(image)[0]

    def generator_terms(
        self, batch: Batch, outputs: Outputs, wanted: Collection[str]
    ) -> dict[str, Tensor]:
        """The losses called for; "adversarial" and "feature_matching" share one look."""
        terms = self.reconstruction.generator_terms(batch, outputs, wanted)
        if "adversarial" in wanted or "feature_matching" in wanted:
            logits, maps = self._look(self.seen(batch, outputs.prediction))
        if "adversarial" in wanted:
            terms["adversarial"] = self.adversarial.generator(logits)
        if "feature_matching" in wanted:
            # The truth is seen as the prediction is: other pixels cannot be matched.
            with torch.no_grad():
                true_maps = self._look(self.seen(batch, batch.image))[1]
            terms["feature_matching"] = feature_matching(maps, true_maps)
        return terms

    def _look(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        assert self.discriminator is not None
        logits, maps = self.discriminator(image)
        return logits, maps
