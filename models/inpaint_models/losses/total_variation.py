"""Total variation: how much neighbouring pixels of the composite differ."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_choice
from .regions import check_pair, hole_of, mean, wide


def total_variation(
    prediction: Tensor, truth: Tensor, mask: Tensor, *, region: str = "hole"
) -> Tensor:
    """L_tv of Shi et al., eq. 3, defined by Liu et al. (2018).

        sum over (i, j), (i, j+1) in R of |I_comp(i, j+1) - I_comp(i, j)|_1 / N_comp, and the same
        for (i, j), (i+1, j);  I_comp = prediction in the hole, truth elsewhere

    Pairs with an unmeasured value are left out, also where the composite is the prediction.

    Args:
        prediction: (N, C, H, W); valid pixels are never read.
        truth: (N, C, H, W); its NaN values are unmeasured.
        mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid.
        region: R: "hole", the hole and the pixels next to it (also diagonally), or "image".

    Returns:
        A scalar. N_comp counts the measured values of the batch, N * C * H * W if all are.
    """
    check_choice("region", region, ("hole", "image"))
    check_pair(prediction, truth)
    hole = hole_of(mask, prediction)
    measured = ~truth.isnan()
    image = torch.where(hole, wide(prediction), wide(truth.detach()))
    if region == "hole":
        near_hole = F.max_pool2d(hole.to(image.dtype), kernel_size=3, stride=1, padding=1) > 0
        selected = near_hole & measured
    else:
        selected = measured
    total = _variation(image, selected, 2) + _variation(image, selected, 3)
    return mean(total, measured.sum())


def _variation(image: Tensor, selected: Tensor, dim: int) -> Tensor:
    """Sum of |differences| along `dim` over pairs of which both are selected."""
    pairs = image.shape[dim] - 1
    both = selected.narrow(dim, 0, pairs) & selected.narrow(dim, 1, pairs)
    steps = image.narrow(dim, 1, pairs) - image.narrow(dim, 0, pairs)
    return torch.where(both, steps, 0).abs().sum()
