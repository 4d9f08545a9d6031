"""Generators without a discriminator, trained by mean squared error: papers 002 and 004."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ...losses import l1, masked_mse, whole_mse
from ..data import Batch
from .base import Outputs, System, register_system


@register_system("pconv_autoencoder", "unet_mse")
class ReconstructionSystem(System):
    """Losses: "mse" over the whole image, "mse_hole" over the hole; "l1", in none of the papers."""

    losses = ("mse", "mse_hole", "l1")

    def predict(self, batch: Batch) -> Outputs:
        """The prediction; what lies in a hole is not read."""
        return Outputs(self.generator(batch.image, batch.mask))

    def generator_terms(
        self, batch: Batch, outputs: Outputs, wanted: Collection[str]
    ) -> dict[str, Tensor]:
        """The losses called for."""
        terms: dict[str, Tensor] = {}
        if "mse" in wanted:
            terms["mse"] = whole_mse(outputs.prediction, batch.image)
        if "mse_hole" in wanted:
            terms["mse_hole"] = masked_mse(
                outputs.prediction, batch.image, batch.mask, mean_over="region"
            )
        if "l1" in wanted:
            terms["l1"] = l1(outputs.prediction, batch.image)
        return terms


@register_system("vanilla_autoencoder")
class BlindSystem(ReconstructionSystem):
    """The generator finds the holes by itself: they are painted black, as the paper's."""

    def predict(self, batch: Batch) -> Outputs:
        """The prediction for the image with black holes."""
        visible = torch.where(batch.mask == 0, 0, batch.image)
        return Outputs(self.generator(visible, batch.mask))
