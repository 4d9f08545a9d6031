"""What follows the convolution in a block, on its raw result: two passes forward, two backward.

The ratio is applied while the raw result is read, activation and new mask while the result is
written: neither has a pass of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ... import core
from ..layout import dense, like
from .launch import optional, plane, where, workspace


class Surround(NamedTuple):
    """What stands around the norm, as the native core takes it; nothing without a block."""

    ratio: core.TensorView | None = None
    new_mask: core.TensorView | None = None
    slope: float = 1.0


def surround(ratio: Tensor, new_mask: Tensor, slope: float) -> Surround:
    """That of a block."""
    return Surround(plane(ratio), plane(new_mask), slope)


def _run_forward(
    x: Tensor,
    block: Surround,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    scale_eps: bool,
    fixed: bool,
    y: Tensor,
    mean: Tensor,
    rstd: Tensor,
) -> None:
    native = core.load()
    scratch = workspace(x, native.cuda_region_workspace(core.view(x), False))
    native.cuda_block_norm_forward(
        *where(x), core.view(x), *block, None if mask is None else plane(mask), optional(weight),
        optional(bias), eps, scale_eps, fixed, core.view(y), core.view(mean), core.view(rstd),
        core.view(scratch),
    )  # fmt: skip


def block_norm_forward(
    x: Tensor,
    ratio: Tensor,
    new_mask: Tensor,
    slope: float,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    scale_eps: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y; mean and rstd, (1, 2, C), or (1, 1, C) without a mask: batch norm's one region."""
    x = dense(x)
    y = torch.empty_like(x)
    size = (1, 1 if mask is None else 2, x.shape[1])
    mean = torch.zeros(size, dtype=torch.float64, device=x.device)
    rstd = torch.zeros_like(mean)
    block = surround(ratio, new_mask, slope)
    _run_forward(x, block, mask, weight, bias, eps, scale_eps, False, y, mean, rstd)
    return y, mean, rstd


def block_norm_fixed(
    x: Tensor,
    ratio: Tensor,
    new_mask: Tensor,
    slope: float,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
) -> Tensor:
    """y by given statistics (1, 1, C)."""
    x = dense(x)
    y = torch.empty_like(x)
    _run_forward(
        x, surround(ratio, new_mask, slope), None, weight, bias, 0.0, False, True, y,
        mean.contiguous(), rstd.contiguous(),
    )  # fmt: skip
    return y


def block_norm_fixed_(
    x: Tensor,
    ratio: Tensor,
    new_mask: Tensor,
    slope: float,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
) -> None:
    """The same, in place."""
    source = dense(x)
    _run_forward(
        source, surround(ratio, new_mask, slope), None, weight, bias, 0.0, False, True, source,
        mean.contiguous(), rstd.contiguous(),
    )  # fmt: skip
    if source is not x:
        x.copy_(source)


def block_norm_backward(
    grad: Tensor,
    x: Tensor,
    ratio: Tensor,
    new_mask: Tensor,
    slope: float,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    fixed: bool,
    needs_affine: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias; the statistics are given ones if ``fixed``.

    Those of weight and bias are empty, (0, C), unless ``needs_affine``; given statistics then save
    the pass that sums.
    """
    native = core.load()
    x = dense(x)
    grad_x = torch.empty_like(x)
    rows = (1 if mask is None else 2) if needs_affine else 0
    grad_weight = torch.zeros(rows, x.shape[1], dtype=torch.float32, device=x.device)
    grad_bias = torch.zeros_like(grad_weight)
    scratch = workspace(x, native.cuda_region_workspace(core.view(x), False))
    native.cuda_block_norm_backward(
        *where(x), core.view(like(grad, x)), core.view(x), *surround(ratio, new_mask, slope),
        None if mask is None else plane(mask), optional(weight), optional(bias),
        core.view(mean.contiguous()), core.view(rstd.contiguous()), fixed, core.view(grad_x),
        core.view(grad_weight) if needs_affine else None,
        core.view(grad_bias) if needs_affine else None, core.view(scratch),
    )  # fmt: skip
    return grad_x, grad_weight, grad_bias
