"""Distances between a filled picture and the truth, each published definition under its own name.

All take `prediction` and `truth` (N, 3, H, W) with values in [0, 1] and return one float64 value
per picture, (N,). Truth may hold NaN, "never measured": a pixel with NaN in any channel is left
out, and of SSIM every window that touches one. Where nothing is left to compare, for instance in
the hole of a picture without a hole, the value is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import prepare_mask
from .extras import require

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""A distance of two (N, 3, H, W) batches: (N,), or a single value where N is 1."""

WINDOW = 11
SIGMA = 1.5


def measured(truth: Tensor) -> Tensor:
    """(N, 1, H, W) bool: where no channel of `truth` is NaN."""
    return ~truth.isnan().any(dim=1, keepdim=True)


def l1(prediction: Tensor, truth: Tensor) -> Tensor:
    """mean |a - b| over all pixels and channels; times 100 the L1 % of Liu et al. and of ISNet."""
    prediction, truth, known = _checked(prediction, truth)
    return _mean((prediction - truth).abs(), known)


def l1_hole(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """mean |a - b| over the pixels of the hole. `mask` is (N|1, 1, H, W), 1 = valid."""
    prediction, truth, known = _checked(prediction, truth)
    return _mean((prediction - truth).abs(), known & hole(mask, truth))


def l1_edgeconnect(prediction: Tensor, truth: Tensor) -> Tensor:
    """sum |a - b| / sum (a + b), EdgeConnect's formula, over all pixels and channels."""
    prediction, truth, known = _checked(prediction, truth)
    return _relative(prediction, truth, known)


def l1_edgeconnect_grey(prediction: Tensor, truth: Tensor) -> Tensor:
    """The same on grey pictures, as EdgeConnect's evaluation script takes it."""
    prediction, truth, known = _checked(prediction, truth)
    return _relative(grey(prediction), grey(truth), known)


def mse(prediction: Tensor, truth: Tensor) -> Tensor:
    """mean (a - b)^2 over all pixels and channels."""
    prediction, truth, known = _checked(prediction, truth)
    return _mean((prediction - truth).square(), known)


def mse_hole(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """mean (a - b)^2 over the pixels of the hole. `mask` is (N|1, 1, H, W), 1 = valid."""
    prediction, truth, known = _checked(prediction, truth)
    return _mean((prediction - truth).square(), known & hole(mask, truth))


def psnr(prediction: Tensor, truth: Tensor) -> Tensor:
    """10 log10 (1 / MSE) of each picture, in dB; infinite for equal pictures."""
    prediction, truth, known = _checked(prediction, truth)
    function = require(
        "torchmetrics.functional.image", "torchmetrics"
    ).peak_signal_noise_ratio  # fmt: skip
    values = [
        function(a[:, here], b[:, here], data_range=1.0)
        for a, b, here in zip(prediction, truth, known[:, 0], strict=True)
    ]
    return torch.stack(values) if values else prediction.new_empty(0)


def ssim(prediction: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004), the mean over the channels.

    Gaussian windows of 11x11, sigma 1.5, K1 = 0.01, K2 = 0.03, data range 1. As published, only
    windows that lie in the picture count; those that touch an unmeasured pixel are left out.

    Raises:
        ValueError: the pictures are smaller than a window.
    """
    prediction, truth, known = _checked(prediction, truth)
    return _ssim(prediction, truth, known)


def ssim_grey(prediction: Tensor, truth: Tensor) -> Tensor:
    """`ssim` of the grey pictures, which Wang et al. define it for."""
    prediction, truth, known = _checked(prediction, truth)
    return _ssim(grey(prediction), grey(truth), known)


def perceptual_distance(distance: Perceptual, prediction: Tensor, truth: Tensor) -> Tensor:
    """What `distance` says of the pictures; unmeasured pixels are 0 in both."""
    dtype = prediction.dtype
    prediction, truth, known = _checked(prediction, truth)
    blank = prediction.new_zeros(())
    value = distance(
        torch.where(known, prediction, blank).to(dtype), torch.where(known, truth, blank).to(dtype)
    )
    n = prediction.shape[0]
    if not isinstance(value, Tensor) or (value.shape != (n,) and not (value.numel() == n == 1)):
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"perceptual must return shape ({n},) for {n} pictures, got {shape}")
    # A picture that was never measured has no distance, not 0.
    return value.reshape(n).double().masked_fill(~known.flatten(1).any(dim=1), torch.nan)


def grey(image: Tensor) -> Tensor:
    """(N, 1, H, W): luminance with the weights of scikit-image's `rgb2gray`, EdgeConnect's."""
    weights = image.new_tensor([0.2125, 0.7154, 0.0721]).view(1, 3, 1, 1)
    return (image * weights).sum(dim=1, keepdim=True)


def hole(mask: Tensor, image: Tensor) -> Tensor:
    """(N, 1, H, W) bool, True in the hole.

    Raises:
        ValueError: `mask` does not go with `image`, or has values other than 0 and 1: what is
            neither hole nor valid has no composite.
    """
    mask = prepare_mask(mask, image)
    if not bool(((mask == 0) | (mask == 1)).all()):
        low, high = mask.min().item(), mask.max().item()
        raise ValueError(f"mask must hold 0 (hole) and 1 (valid) only, got {low:g} to {high:g}")
    return mask == 0


@dataclass(frozen=True)
class Metric:
    """A metric of the report: `compute(composite, truth, mask)` gives (N,); `digits` are shown.

    `of_output`: it is given the whole prediction in place of the composite.
    """

    name: str
    label: str
    higher_is_better: bool
    digits: int
    compute: Callable[[Tensor, Tensor, Tensor], Tensor]
    of_output: bool = False


def _without_mask(
    function: Callable[[Tensor, Tensor], Tensor], scale: float = 1.0
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda prediction, truth, mask: scale * function(prediction, truth)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("l1_percent", "L1 (%)", False, 3, _without_mask(l1, 100)),
        Metric("l1_hole_percent", "L1 in the hole (%)", False, 3,
               lambda a, b, mask: 100 * l1_hole(a, b, mask)),
        Metric("l1_edgeconnect_percent", "L1, EdgeConnect's formula (%)", False, 3,
               _without_mask(l1_edgeconnect, 100)),
        Metric("l1_edgeconnect_grey_percent", "L1, EdgeConnect's script (%)", False, 3,
               _without_mask(l1_edgeconnect_grey, 100)),
        Metric("mse", "MSE", False, 6, _without_mask(mse)),
        Metric("mse_hole", "MSE in the hole", False, 6, mse_hole),
        Metric("mse_output", "MSE of the output", False, 6, _without_mask(mse), of_output=True),
        Metric("psnr", "PSNR (dB)", True, 3, _without_mask(psnr)),
        Metric("ssim", "SSIM", True, 4, _without_mask(ssim)),
        Metric("ssim_grey", "SSIM, grey", True, 4, _without_mask(ssim_grey)),
    )
}  # fmt: skip
"""What a report can show by itself, by name; percentages are times 100."""


def perceptual_metric(distance: Perceptual) -> Metric:
    """The metric "perceptual" from a distance, for instance of VGG features."""
    return Metric(
        "perceptual", "Perceptual", False, 4,
        lambda a, b, mask: perceptual_distance(distance, a, b),
    )  # fmt: skip


def _checked(prediction: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both in float64, finite wherever they are compared, and where that is."""
    for name, image in (("prediction", prediction), ("truth", truth)):
        if not isinstance(image, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(image).__name__}")
        if image.dim() != 4 or image.shape[1] != 3:
            raise ValueError(f"{name} must have shape (N, 3, H, W), got {tuple(image.shape)}")
        if not image.is_floating_point():
            raise TypeError(
                f"{name} must be of a floating-point dtype with values in [0, 1], got {image.dtype}"
            )
    if prediction.shape != truth.shape:
        raise ValueError(
            f"prediction must have the shape of truth, {tuple(truth.shape)}, "
            f"got {tuple(prediction.shape)}"
        )
    if prediction.device != truth.device:
        raise ValueError(
            f"prediction is on {prediction.device}, but the truth is on {truth.device}"
        )
    known = measured(truth)
    blank = torch.zeros((), dtype=torch.float64, device=truth.device)
    truth = torch.where(known, truth.detach().double(), blank)
    prediction = torch.where(known, prediction.detach().double(), blank)
    for name, image in (("prediction", prediction), ("truth", truth)):
        if not bool(image.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinity where the truth was measured")
    return prediction, truth, known


def _sum(values: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, values, values.new_zeros(())).sum(dim=(1, 2, 3))


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return _sum(values, where) / (values.shape[1] * where.sum(dim=(1, 2, 3)))


def _relative(prediction: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    return _sum((prediction - truth).abs(), known) / _sum(prediction + truth, known)


def _ssim(prediction: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    if min(truth.shape[2:]) < WINDOW:
        h, w = truth.shape[2:]
        raise ValueError(f"ssim needs pictures of at least {WINDOW}x{WINDOW} pixels, got {h}x{w}")
    # torchmetrics mirrors the picture at its border and averages over those windows too, which is
    # not the published mean; in float64 it takes several times as long.
    a, b, aa, bb, ab = _windows(
        torch.stack((prediction, truth, prediction.square(), truth.square(), prediction * truth))
    )
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * a * b + c1) * (2 * (ab - a * b) + c2)) / (
        (a.square() + b.square() + c1) * ((aa - a.square()) + (bb - b.square()) + c2)
    )
    touched = F.max_pool2d((~known).double(), WINDOW, stride=1) > 0
    return _mean(similarity, ~touched)


def _windows(values: Tensor) -> Tensor:
    """Gaussian means of (..., H, W) over the windows inside, (..., H - 10, W - 10)."""
    at = torch.arange(WINDOW, dtype=values.dtype, device=values.device) - WINDOW // 2
    weights = torch.exp(-at.square() / (2 * SIGMA**2))
    weights = weights / weights.sum()
    planes = values.flatten(0, -3).unsqueeze(1)
    planes = F.conv2d(planes, weights.view(1, 1, WINDOW, 1))
    planes = F.conv2d(planes, weights.view(1, 1, 1, WINDOW))
    return planes.reshape(*values.shape[:-2], *planes.shape[-2:])
