"""Region normalization, Yu et al. 2020, as the published ``RN_binarylabel`` computes it.

A region r is a weight w per pixel: the mask, or one minus it. For binary masks this is the paper's
formula; soft labels follow what the published code does with them:

    mu = sum(w x) / sum(w)      var = sum(w^2 (x - mu)^2) / sum(w)
    normalized = sum over r of w (x - mu) / sqrt(var + eps_r),   eps_r = eps * pixels / sum(w)
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..precision import compute_dtype


def _axes(x: Tensor, instance: bool) -> list[int]:
    return [*([] if instance else [0]), *range(2, x.dim())]


def regions_of(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of the valid and of the hole region, (N, 1, ...)."""
    valid = mask.to(compute_dtype(x.dtype)).expand(x.shape[0], 1, *x.shape[2:])
    return valid, 1 - valid


def _sum(x: Tensor, axes: list[int]) -> Tensor:
    return x.sum(axes, keepdim=True, dtype=torch.float64)


def _deviation(x: Tensor, weight: Tensor, mean: Tensor) -> Tensor:
    """w (x - mean); a pixel outside the region is selected away, whatever it holds."""
    return torch.where(weight == 0, 0.0, weight * (x - mean))


def _row(values: Tensor, region: int, x: Tensor) -> Tensor:
    """Row ``region`` of (groups, 2, C), ready to broadcast against x."""
    row = values[:, region].to(compute_dtype(x.dtype))
    return row.reshape(*row.shape, *[1] * (x.dim() - 2))


def affine_map(values: Tensor | None, weights: tuple[Tensor, Tensor], x: Tensor) -> Tensor | None:
    """(2, C) parameters as a map over pixels, mixed by the regions' weights."""
    if values is None:
        return None
    rows = values.unsqueeze(0)
    return weights[0] * _row(rows, 0, x) + weights[1] * _row(rows, 1, x)


def region_statistics(
    x: Tensor, mask: Tensor, eps: float, scale_eps: bool, instance: bool
) -> tuple[Tensor, Tensor]:
    """Mean and 1/sqrt(var + eps) of both regions, (groups, 2, C) float64; 0 for an empty region.

    Summed in float64: rounding of a constant region's mean would be made 300 times larger by each
    layer that has such a norm.
    """
    wide = x.to(compute_dtype(x.dtype))
    axes = _axes(x, instance)
    means, rstds = [], []
    for weight in regions_of(x, mask):
        share = _sum(weight, axes)
        filled = share > 0
        share_or_1 = torch.where(filled, share, 1.0)
        mean = _sum(torch.where(weight == 0, 0.0, weight * wide), axes) / share_or_1
        deviation = _deviation(wide, weight, mean.to(wide.dtype))
        var = _sum(deviation.square(), axes) / share_or_1
        pixels = weight.numel() // share.shape[0]
        eps_r = eps * pixels / share_or_1 if scale_eps else torch.full_like(share_or_1, eps)
        rstd = torch.where(filled, (var + eps_r).rsqrt(), 0.0)
        shape = (-1, x.shape[1])
        means.append(mean.reshape(shape))
        rstds.append(rstd.reshape(shape))
    return torch.stack(means, 1), torch.stack(rstds, 1)


def normalize(x: Tensor, mask: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    """Each pixel normalized by the statistics of its region, in the compute dtype.

    Those of the other region are selected away: they may be NaN.
    """
    wide = x.to(compute_dtype(x.dtype))
    parts = [
        _deviation(wide, w, _row(mean, r, x)) * torch.where(w == 0, 0.0, _row(rstd, r, x))
        for r, w in enumerate(regions_of(x, mask))
    ]
    return parts[0] + parts[1]


def region_norm_forward(
    x: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    scale_eps: bool,
    instance: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, and mean and rstd (groups, 2, C) float64 for the backward."""
    mean, rstd = region_statistics(x, mask, eps, scale_eps, instance)
    y = normalize(x, mask, mean, rstd)
    regions = regions_of(x, mask)
    gain, offset = affine_map(weight, regions, x), affine_map(bias, regions, x)
    if gain is not None:
        y = y * gain
    if offset is not None:
        y = y + offset
    return y.to(x.dtype), mean, rstd


def normalized_backward(
    grad: Tensor, x: Tensor, mask: Tensor, mean: Tensor, rstd: Tensor, instance: bool
) -> Tensor:
    """Gradient of x, given that of the normalized value; mean and variance depend on x."""
    wide = x.to(compute_dtype(x.dtype))
    axes = _axes(x, instance)
    total = torch.zeros_like(wide)
    for r, w in enumerate(regions_of(x, mask)):
        share = w.sum(axes, keepdim=True)
        share = torch.where(share > 0, share, 1.0)
        mu, scale = _row(mean, r, x), _row(rstd, r, x)
        deviation = _deviation(wide, w, mu)
        sum_grad = (w * grad).sum(axes, keepdim=True)
        sum_product = (grad * deviation).sum(axes, keepdim=True)
        sum_deviation = (w * deviation).sum(axes, keepdim=True)
        through_variance = (w * deviation - w / share * sum_deviation) * (sum_product / share)
        part = scale * (w * grad - w / share * sum_grad) - scale.pow(3) * through_variance
        total = total + torch.where(w == 0, 0.0, part)
    return total


def region_norm_backward(
    grad: Tensor,
    x: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    instance: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight (2, C) and bias (2, C)."""
    wide = grad.to(compute_dtype(x.dtype))
    regions = regions_of(x, mask)
    normalized = normalize(x, mask, mean, rstd)
    axes = _axes(x, False)
    products = wide * normalized
    grad_weight = torch.stack([torch.where(w == 0, 0.0, products * w).sum(axes) for w in regions])
    grad_bias = torch.stack([(wide * w).sum(axes) for w in regions])
    gain = affine_map(weight, regions, x)
    inner = wide if gain is None else wide * gain
    grad_x = normalized_backward(inner, x, mask, mean, rstd, instance)
    return grad_x.to(x.dtype), grad_weight, grad_bias
