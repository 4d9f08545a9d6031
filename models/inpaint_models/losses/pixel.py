"""Losses that compare pixels: L1 and mean squared error, on the hole, the rest or everything."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_choice
from .regions import check_pair, difference, hole_of, mean


def valid_l1(
    prediction: Tensor, truth: Tensor, mask: Tensor, *, mean_over: str = "image"
) -> Tensor:
    """L_valid of Shi et al., eq. 3, defined by Liu et al. (2018): |M * (I_out - I_gt)|_1 / N_gt.

    Args:
        prediction: (N, C, H, W); what lies in the hole is never read.
        truth: (N, C, H, W); NaN values are left out.
        mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid.
        mean_over: what N_gt counts: "image", all measured values of the batch, as in the equation
            (N * C * H * W if all are); "region", only those at valid pixels.

    Returns:
        A scalar; 0 if no valid pixel is measured.
    """
    check_pair(prediction, truth)
    return _l1(prediction, truth, ~hole_of(mask, prediction), mean_over)


def hole_l1(prediction: Tensor, truth: Tensor, mask: Tensor, *, mean_over: str = "image") -> Tensor:
    """L_hole of Shi et al., eq. 3, by Liu et al. (2018): |(1 - M) * (I_out - I_gt)|_1 / N_gt.

    As `valid_l1`, with the regions exchanged: valid pixels of the prediction are never read, and
    "region" counts the measured values in the hole.
    """
    check_pair(prediction, truth)
    return _l1(prediction, truth, hole_of(mask, prediction), mean_over)


def l1(prediction: Tensor, truth: Tensor) -> Tensor:
    """L_l1 of Li et al. (ISNet), eq. 2: mean |I_pred - I_gt| over all measured values.

    Args:
        prediction: (N, C, H, W).
        truth: (N, C, H, W); NaN values are left out.
    """
    check_pair(prediction, truth)
    measured = ~truth.isnan()
    return mean(difference(prediction, truth, measured).abs().sum(), measured.sum())


def l1_per_hole(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """L_l1 of Li et al. (ISNet) as its public code scales it: `l1` divided by the mean of 1 - M.

    Args:
        prediction: (N, C, H, W).
        truth: (N, C, H, W); NaN values are left out of `l1`.
        mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid. Its mean is that of all pixels, measured or
            not.

    Returns:
        A scalar; 0 if the batch has no hole, where the quotient has no value.
    """
    loss = l1(prediction, truth)
    hole = hole_of(mask, prediction)
    holes = hole.sum()
    return torch.where(holes > 0, loss * hole.numel() / holes.clamp(min=1), 0)


def masked_mse(
    prediction: Tensor, truth: Tensor, mask: Tensor, *, mean_over: str = "image"
) -> Tensor:
    """L of Bernikov et al., section 2.5: ||M_c * (C(x, M_c) - x)||^2, where M_c is 1 in the hole.

    The paper writes a sum; this is the mean, a constant factor apart for "image". The paper's
    table of errors "on masked regions" is "region".

    Args:
        prediction: (N, C, H, W); valid pixels are never read.
        truth: (N, C, H, W); NaN values are left out.
        mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid.
        mean_over: "image", all measured values of the batch, or "region", those in the hole.

    Returns:
        A scalar; 0 if nothing in the hole is measured.
    """
    check_choice("mean_over", mean_over, ("image", "region"))
    check_pair(prediction, truth)
    measured = ~truth.isnan()
    selected = hole_of(mask, prediction) & measured
    counted = measured if mean_over == "image" else selected
    return mean(difference(prediction, truth, selected).square().sum(), counted.sum())


def whole_mse(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean (I_pred - I_gt)^2 over all measured values.

    Bernikov et al., section 4.1, "global MSE"; "MSE loss" of Lokray, Ghosh, whose equation divides
    by pixels instead of values and is C times this, and of Guo, Zhao.

    Args:
        prediction: (N, C, H, W).
        truth: (N, C, H, W); NaN values are left out.
    """
    check_pair(prediction, truth)
    measured = ~truth.isnan()
    return mean(difference(prediction, truth, measured).square().sum(), measured.sum())


def _l1(prediction: Tensor, truth: Tensor, region: Tensor, mean_over: str) -> Tensor:
    check_choice("mean_over", mean_over, ("image", "region"))
    measured = ~truth.isnan()
    selected = region & measured
    counted = measured if mean_over == "image" else selected
    return mean(difference(prediction, truth, selected).abs().sum(), counted.sum())
