"""Losses that compare feature maps, of a discriminator or of a VGG."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .regions import wide


def feature_matching(fake_features: Sequence[Tensor], real_features: Sequence[Tensor]) -> Tensor:
    """L_FM of Li et al. (ISNet), eq. 2: sum over layers of mean |D_i(fake) - D_i(real)|.

    Args:
        fake_features: the discriminator's maps of the generated image, any shapes.
        real_features: its maps of the true image, the same shapes; no gradient flows to them.

    Returns:
        A scalar. Nothing is left out: keep NaN of the truth out of the discriminator
        (`without_unmeasured`).
    """
    return feature_l1(fake_features, real_features, ("fake_features", "real_features"))


def feature_l1(
    features: Sequence[Tensor],
    targets: Sequence[Tensor],
    names: tuple[str, str] = ("features", "targets"),
) -> Tensor:
    """Sum over layers of the mean absolute difference; `targets` get no gradient.

    One image's part of L_perceptual in Shi et al., eq. 3, by Liu et al. (2018), and of L_perc in
    Li et al. (ISNet), eq. 2: sum over p of |Psi_p(image) - Psi_p(I_gt)|_1 / N_p.
    """
    _check(features, targets, names)
    terms = [
        (wide(a) - wide(b.detach())).abs().mean() for a, b in zip(features, targets, strict=True)
    ]
    return torch.stack(terms).sum()


def style_l1(features: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Sum over layers of the mean absolute difference of Gram matrices.

    One image's part of L_styleOut, L_styleComp in Shi et al., eq. 3, by Liu et al. (2018), and of
    L_style in Li et al. (ISNet), eq. 2: sum over p of |Gram_p(image) - Gram_p(I_gt)|_1 / C_p^2,
    mean over the batch.

    Args:
        features, targets: maps (N, C_p, H_p, W_p); no gradient flows to the targets.
    """
    _check(features, targets, ("features", "targets"))
    return feature_l1([gram_matrix(f) for f in features], [gram_matrix(t) for t in targets])


def gram_matrix(features: Tensor) -> Tensor:
    """Psi Psi^T / (C * H * W), where Psi is (C, H * W).

    Args:
        features: (N, C, H, W).

    Returns:
        (N, C, C), in float32 for half precision, under autocast too: 65504, the largest float16, is
        soon reached by sums of squares.
    """
    if features.dim() != 4:
        raise ValueError(f"features must have shape (N, C, H, W), got {tuple(features.shape)}")
    n, c, h, w = features.shape
    with torch.autocast(features.device.type, enabled=False):
        rows = wide(features).reshape(n, c, h * w)
        return rows @ rows.mT / (c * h * w)


def _check(features: Sequence[Tensor], targets: Sequence[Tensor], names: tuple[str, str]) -> None:
    first, second = names
    if len(features) == 0:
        raise ValueError(f"{first} must have at least one map")
    if len(features) != len(targets):
        raise ValueError(
            f"{second} must have as many maps as {first}, {len(features)}, got {len(targets)}"
        )
    for i, (a, b) in enumerate(zip(features, targets, strict=True)):
        if a.shape != b.shape:
            raise ValueError(
                f"{second}[{i}] must have the shape of {first}[{i}], {tuple(a.shape)}, got "
                f"{tuple(b.shape)}"
            )
