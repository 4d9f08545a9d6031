"""The loss that teaches attention maps where a generator errs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_choice
from .regions import check_pair, difference, hole_of, mean, wide


def attention_loss(
    maps: Sequence[Tensor],
    prediction: Tensor,
    truth: Tensor,
    mask: Tensor,
    *,
    mean_over: str = "region",
) -> Tensor:
    """Loss of DAM blocks: Bernikov et al., section 2.6, from DAM-GAN (Cha and Kim 2022).

        sum over blocks i of mean over the hole of | M_i - mean over channels of |I_gt - I_out| |

    On the hole, because a composite has no error elsewhere. The error is a target: no gradient
    flows through it to the prediction, which would otherwise be rewarded for erring as foreseen.

    Args:
        maps: M_i, each (N, 1, h_i, w_i), values in [0, 1]; resized to the image (nearest, so that
            a value which covers no pixel of the hole is never read).
        prediction: (N, C, H, W), values in [0, 1]; valid pixels are never read.
        truth: (N, C, H, W); NaN values are left out of the mean over channels, and pixels without a
            measured channel out of the loss.
        mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid.
        mean_over: what the mean counts: "region", the pixels of the hole that are measured, or
            "image", all pixels that are.

    Returns:
        A scalar; 0 if no pixel of the hole is measured.
    """
    check_choice("mean_over", mean_over, ("image", "region"))
    check_pair(prediction, truth)
    _check_maps(maps, prediction)
    hole = hole_of(mask, prediction)
    measured = ~truth.isnan()
    channels = measured.sum(dim=1, keepdim=True)
    pixels = channels > 0
    selected = hole & pixels
    error = difference(prediction.detach(), truth, hole & measured).abs()
    target = mean(error.sum(dim=1, keepdim=True), channels)
    count = (selected if mean_over == "region" else pixels).sum()
    size = prediction.shape[2:]
    terms = [mean(difference(_resize(m, size), target, selected).abs().sum(), count) for m in maps]
    return torch.stack(terms).sum()


def _resize(attention: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(wide(attention), size=list(size), mode="nearest")


def _check_maps(maps: Sequence[Tensor], prediction: Tensor) -> None:
    if len(maps) == 0:
        raise ValueError("maps must have at least one attention map")
    n = prediction.shape[0]
    for i, attention in enumerate(maps):
        if not isinstance(attention, Tensor):
            raise TypeError(f"maps[{i}] must be a tensor, got {type(attention).__name__}")
        if attention.dim() != 4 or attention.shape[:2] != (n, 1):
            raise ValueError(
                f"maps[{i}] must have shape ({n}, 1, h, w) to go with a prediction of shape "
                f"{tuple(prediction.shape)}, got {tuple(attention.shape)}"
            )
        if not attention.is_floating_point():
            raise TypeError(f"maps[{i}] must be of a floating-point dtype, got {attention.dtype}")
        if attention.device != prediction.device:
            raise ValueError(
                f"maps[{i}] is on {attention.device}, but prediction is on {prediction.device}"
            )
