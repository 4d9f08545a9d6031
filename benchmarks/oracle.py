"""The truth in float64: the operators' definitions written out, and the comparison with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

Outputs = Mapping[str, Tensor]
"""What a call computed, by name."""


def partial_conv(
    x: Tensor,
    planes: Tensor,
    channels: tuple[int, ...],
    weight: Tensor,
    bias: Tensor,
    stride: int,
    padding: int,
) -> tuple[Tensor, Tensor]:
    """Partial convolution by its definition; returns the output and its one-plane mask."""
    kernel = weight.shape[-1]
    counts = torch.tensor(channels, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)
    per_pixel = (planes * counts).sum(1, keepdim=True)
    valid = F.avg_pool2d(per_pixel, kernel, stride, padding, divisor_override=1)
    new_mask = valid.clamp(0, 1)
    full = weight.shape[1] * kernel * kernel
    repeats = torch.tensor(channels, device=x.device)
    masked = x * planes.repeat_interleave(repeats, 1)
    raw = F.conv2d(masked, weight, None, stride, padding)
    ratio = full / (valid + 1e-8) * new_mask
    return (raw * ratio + bias.view(1, -1, 1, 1)) * new_mask, new_mask


def region_core(x: Tensor, label: Tensor, eps: float = 1e-5) -> Tensor:
    """Each region of a 0/1 label (N, 1, H, W) by its own mean and variance over the batch."""
    y = torch.zeros_like(x)
    for inside in (label, 1 - label):
        area = inside.sum()
        if area == 0:
            continue
        mean = (x * inside).sum((0, 2, 3), keepdim=True) / area
        centred = (x - mean) * inside
        variance = centred.square().sum((0, 2, 3), keepdim=True) / area
        y = y + centred / torch.sqrt(variance + eps * inside.numel() / area)
    return y


@dataclass(frozen=True)
class Truth:
    """A float64 result, and how far from it a float32 result may be.

    ``tolerance`` bounds ``max |a - b| / max |b|``; with ``mean_square`` it bounds the same ratio
    of root mean squares, for results where single elements may legitimately jump. ``own`` is the
    error, measured alike, of PyTorch's plain operator in the same dtype, where that is known.
    """

    value: Tensor
    tolerance: float
    mean_square: bool = False
    own: float | None = None


@dataclass(frozen=True)
class Match:
    """How a candidate's results compare with the truth: the worst of them, against its bound.

    ``over_own`` is the largest error in units of PyTorch's own.
    """

    ok: bool
    worst: str
    error: float
    tolerance: float
    over_own: float | None = None

    def to_json(self) -> dict[str, object]:
        """Plain data for the result file; JSON knows no infinity, so such an error is null."""
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }
        return finite


def compare(outputs: Outputs, truth: Mapping[str, Truth]) -> Match:
    """Compare every result that ``truth`` knows; a missing or non-finite one is a mismatch."""
    worst = Match(True, "", 0.0, 1.0)
    over_own: float | None = None
    for name, expected in truth.items():
        error = _error(outputs.get(name), expected)
        if expected.own is not None:
            over_own = max(over_own or 0.0, error / expected.own)
        # "not <=" also catches NaN.
        ok = not (error != error or error > expected.tolerance)
        match = Match(ok, name, error, expected.tolerance)
        if not worst.worst or (worst.ok and not ok) or _badness(match) > _badness(worst):
            worst = match
    return replace(worst, over_own=over_own)


def beside_own(
    truth: Mapping[str, Truth], own: Outputs, exact: Outputs, dtype: torch.dtype
) -> dict[str, Truth]:
    """``truth`` with room for what PyTorch's plain operator loses in ``dtype``.

    ``own`` is what that operator computes, ``exact`` the same in float64. An exact result rounded
    once is off by half an epsilon; nothing is asked to do better. Twice PyTorch's own error is
    allowed, and one rounding more: a masked operator rescales what it has rounded.
    """
    eps, found = torch.finfo(dtype).eps, dict(truth)
    for name, expected in truth.items():
        if name in own:
            error = _error(own[name], replace(expected, value=exact[name]))
            error = max(error, eps / 2)
            tolerance = max(expected.tolerance, 2 * error + eps)
            found[name] = replace(expected, own=error, tolerance=tolerance)
    return found


def _error(found: Tensor | None, expected: Truth) -> float:
    if found is None or found.shape != expected.value.shape:
        return float("inf")
    truth = expected.value
    difference = found.detach().to(truth) - truth
    if not bool(torch.isfinite(difference).all()):
        return float("inf")
    if expected.mean_square:
        size, error = truth.square().mean().sqrt(), difference.square().mean().sqrt()
    else:
        size, error = truth.abs().max(), difference.abs().max()
    # A truth of zeros has no scale of its own: the error counts as it is.
    return float(error / size) if size > 0 else float(error)


def _badness(match: Match) -> float:
    """Error in units of its bound; a bound of zero admits no error at all."""
    if match.tolerance == 0:
        return 0.0 if match.error == 0 else float("inf")
    return match.error / match.tolerance


def tolerance(reduction: int, dtype: torch.dtype = torch.float32) -> float:
    """Error to expect, relative to the largest result, from sums of ``reduction`` terms.

    Rounding errors of a sum grow like the square root of its length when they are independent;
    the factor leaves room for operators that chain a few such sums.
    """
    return float(4 * torch.finfo(dtype).eps * max(1.0, reduction**0.5))
