"""Adversarial losses, on logits: discriminators of this package have no sigmoid at their end."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..checks import check_choice
from .regions import wide

_KINDS = ("bce", "nsgan", "hinge", "lsgan")


@dataclass(frozen=True)
class AdversarialLoss:
    """Losses of discriminator and generator from the discriminator's logits D.

        kind     discriminator                                        generator
        "bce"    E[-log s(D(real))] + E[-log(1 - s(D(fake)))]         E[-log s(D(fake))]
        "nsgan"  half of that                                         the same
        "hinge"  E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))]      -E[D(fake)]
        "lsgan"  E[(D(real) - 1)^2] + E[D(fake)^2]                    E[(D(fake) - 1)^2]

    s is the sigmoid, E the mean over all logits. "bce": Bernikov et al., section 2.5; Guo, Zhao.
    "nsgan": as public code of EdgeConnect and of region normalization scales it. Both are
    L_D_BCE and L_G_BCE of Shi et al. (eq. 3, 4), who give no scale. "hinge": Li et al. (ISNet),
    eq. 3.
    "lsgan": the mean squared error of labels in Guo, Zhao's "GAN with MSE loss" (Mao et al. 2017).

    Bernikov et al. let the generator minimise log(1 - s(D(fake))), Li et al. -L_D; both have no
    gradient where the discriminator is sure. The generator's forms above are the ones in use.
    Shi et al. report about 0.43 for the generator. Logits of that loss make the discriminator's
    second term at least 1.05 (Jensen), but they report about 0.57: their figures fit half the sum,
    "nsgan", and not "bce".

    What the discriminator sees is the caller's: `hole_only(prediction, mask)` gives the masked form
    of Li et al. (ISNet), eq. 3, and `without_unmeasured` keeps NaN of the truth away.
    """

    kind: str

    def __post_init__(self) -> None:
        """Raise ValueError unless `kind` is one of the table's."""
        check_choice("kind", self.kind, _KINDS)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The discriminator's loss, a scalar.

        Args:
            real_logits, fake_logits: of any shape each. Detach the generated image before it goes
                into the discriminator.
        """
        real = _wide_logits(real_logits, "real_logits")
        fake = _wide_logits(fake_logits, "fake_logits")
        if self.kind == "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        if self.kind == "lsgan":
            return (real - 1).square().mean() + fake.square().mean()
        # -log s(x) = softplus(-x) and -log(1 - s(x)) = softplus(x): finite for any finite logit.
        loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        return loss / 2 if self.kind == "nsgan" else loss

    def generator(self, fake_logits: Tensor) -> Tensor:
        """The generator's loss, a scalar, before its weight.

        Args:
            fake_logits: of any shape.
        """
        fake = _wide_logits(fake_logits, "fake_logits")
        if self.kind == "hinge":
            return -fake.mean()
        if self.kind == "lsgan":
            return (fake - 1).square().mean()
        return F.softplus(-fake).mean()


def _wide_logits(logits: Tensor, name: str) -> Tensor:
    if not isinstance(logits, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(logits).__name__}")
    if not logits.is_floating_point():
        raise TypeError(f"{name} must be of a floating-point dtype, got {logits.dtype}")
    if logits.numel() == 0:
        raise ValueError(f"{name} must have at least one value, got shape {tuple(logits.shape)}")
    return wide(logits)
