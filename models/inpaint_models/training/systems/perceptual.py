"""Perceptual and style loss of systems that have them, with weights that the user gives."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ...errors import UsageError
from ...losses import PerceptualLoss
from ...losses.vgg import FILES, weights_source
from ..data import Batch
from .base import Outputs

NAMES = ("perceptual", "style")


class Perceptual:
    """The losses "perceptual" and "style"."""

    def __init__(self, weights: str | None, network: str, *, composite: bool) -> None:
        """Load the VGG.

        Args:
            weights: path of its weights; None: the losses cannot be used.
            network: "vgg16" or "vgg19".
            composite: see `PerceptualLoss`.
        """
        self.network = network
        self.loss = (
            None
            if weights is None
            else PerceptualLoss(weights, network=network, composite=composite)
        )

    def place(self, device: torch.device) -> None:
        """Move the VGG."""
        if self.loss is not None:
            self.loss.to(device)

    def check(self, wanted: Collection[str]) -> None:
        """Raise UsageError if the losses are wanted and there are no weights."""
        used = [name for name in NAMES if name in wanted]
        if used and self.loss is None:
            raise UsageError(
                f"losses perceptual and style need the weights of {self.network.upper()}: "
                f"options.vgg={FILES[self.network]} ({weights_source(self.network)}), or "
                f"{' '.join(f'losses.{name}=0' for name in used)}"
            )

    def terms(self, batch: Batch, outputs: Outputs, wanted: Collection[str]) -> dict[str, Tensor]:
        """Those of both losses that are called for, from one run of the VGG."""
        names = [name for name in NAMES if name in wanted]
        if not names:
            return {}
        assert self.loss is not None, "`check` lets no recipe pass that has no weights"
        both = self.loss(outputs.prediction, batch.image, batch.mask)._asdict()
        return {name: both[name] for name in names}
