"""Normalization by the statistics of all processes of a group (as ``nn.SyncBatchNorm``).

Under data parallelism each process sees a part of the batch. Here every process finds the moments
of its part, one collective exchanges them, and one more carries their gradient back. Plain PyTorch
around the collectives: right for every dtype and device that torch has them for, slower than the
fused norms of one process.

Every process of the group must call in the same order, with or without pixels of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from .backends.precision import compute_dtype
from .backends.reference.attention_maps import attention_maps
from .backends.reference.region_norm import affine_map, normalize, regions_of


class Statistics(NamedTuple):
    """Of all processes' pixels; a row for each region, (regions, C) or (regions, 1), float64."""

    mean: Tensor
    variance: Tensor  # biased
    share: Tensor  # sum of the region's weights


class _Gather(torch.autograd.Function):
    """(...) of each process to (processes, ...) on all of them."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        # A sum with zeros: every backend has it, in the same form in every version of torch.
        gathered = local.new_zeros(dist.get_world_size(group), *local.shape)
        gathered[dist.get_rank(group)] = local
        dist.all_reduce(gathered, group=group)
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # What one process gave went into the results of all: their gradients add up.
        grad = grad.contiguous()
        dist.all_reduce(grad, group=ctx.group)
        return grad[dist.get_rank(ctx.group)], None


def _local_moments(x: Tensor, weight: Tensor) -> Tensor:
    """Of one region: sum of w, mean, sums of w^2 (x - mean) and w^2 (x - mean)^2, sum of w^2."""
    axes = [0, *range(2, x.dim())]
    share = weight.sum()
    mean = torch.where(weight == 0, 0.0, weight * x).sum(axes, keepdim=True)
    mean = mean / torch.where(share > 0, share, 1.0)
    deviation = torch.where(weight == 0, 0.0, weight * (x - mean))
    columns = (
        share,
        mean.flatten(),
        (weight * deviation).sum(axes),
        deviation.square().sum(axes),
        weight.square().sum(),
    )
    return torch.stack([column.double().expand(x.shape[1]) for column in columns])


def statistics(x: Tensor, weights: Sequence[Tensor], group: dist.ProcessGroup) -> Statistics:
    """Mean, variance and size of each region over all processes, differentiable in x.

    Args:
        x: (N, C, ...) of this process; N may differ between processes.
        weights: (N, 1, ...) for each region, values in [0, 1].
        group: of processes; one all-reduce forward, one backward.
    """
    wide = x.to(compute_dtype(x.dtype))
    local = torch.stack([_local_moments(wide, weight) for weight in weights])
    share, mean, first, second, squares = _Gather.apply(local, group).unbind(2)
    total = share.sum(0)
    total_or_1 = torch.where(total > 0, total, 1.0)
    common = (share * mean).sum(0) / total_or_1
    # x - common = (x - mean) - shift, so that no process needs its pixels again.
    shift = common - mean
    squared = second - 2 * shift * first + shift.square() * squares
    return Statistics(common, squared.sum(0) / total_or_1, total)


def region_norm(
    x: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    scale_eps: bool,
    group: dist.ProcessGroup,
) -> Tensor:
    """:func:`functional.region_norm` with ``stats="batch"`` over the batches of all processes."""
    y = _normalized(x, mask, eps, scale_eps, group)
    regions = regions_of(x, mask)
    gain, offset = affine_map(weight, regions, x), affine_map(bias, regions, x)
    if gain is not None:
        y = y * gain
    if offset is not None:
        y = y + offset
    return y.to(x.dtype)


def attention_region_norm(
    tensors: Sequence[Tensor], threshold: float, eps: float, group: dist.ProcessGroup
) -> Tensor:
    """:func:`functional.attention_region_norm` over the batches of all processes.

    ``tensors``: x and the five parameters.
    """
    x, *parameters = tensors
    wide = x.to(compute_dtype(x.dtype))
    pooled = torch.cat([wide.mean(1, keepdim=True), wide.max(1, keepdim=True).values], 1)
    attention, maps = attention_maps(pooled, *parameters)
    mask = attention.detach() >= threshold
    y = _normalized(x, mask, eps, True, group) * (1 + maps[:, :1]) + maps[:, 1:]
    return y.to(x.dtype)


def _normalized(
    x: Tensor, mask: Tensor, eps: float, scale_eps: bool, group: dist.ProcessGroup
) -> Tensor:
    mean, variance, share = statistics(x, regions_of(x, mask), group)
    filled = share > 0
    # Every pixel belongs to the two regions with weights of sum 1.
    eps_r = eps * share.sum(0) / torch.where(filled, share, 1.0) if scale_eps else eps
    rstd = torch.where(filled, (variance + eps_r).rsqrt(), 0.0)
    return normalize(x, mask, mean.unsqueeze(0), rstd.unsqueeze(0))
