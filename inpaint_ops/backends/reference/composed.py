"""A block's norm from the separate operators of a backend: the plain form of the fused one.

What a block does to a convolution's raw result x, all in the dtype that x is computed in::

    z = x * ratio               what a partial convolution without a bias returns
    u = norm(z)
    y = activation(u) * new_mask
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..layout import dense, like
from ..precision import compute_dtype
from .region_norm import affine_map, normalize, regions_of
from .upsampled_weight import upsampled_weight_backward, upsampled_weight_forward


def activated(u: Tensor, slope: float) -> Tensor:
    """ReLU (slope 0), LeakyReLU, or u itself (slope 1)."""
    if slope == 1.0:
        return u
    return torch.relu(u) if slope == 0.0 else torch.where(u > 0, u, u * slope)


def through_activation(grad: Tensor, u: Tensor, new_mask: Tensor, slope: float) -> Tensor:
    """The gradient of u, given that of activated(u) * new_mask."""
    through = grad.to(u.dtype) * new_mask
    if slope == 1.0:
        return through
    return torch.where(u > 0, through, 0.0 if slope == 0.0 else through * slope)


def one_region(x: Tensor) -> Tensor:
    """A mask that calls every pixel valid."""
    return x.new_ones(1, 1, *x.shape[2:], dtype=compute_dtype(x.dtype))


def two_rows(values: Tensor | None) -> Tensor | None:
    """Parameters of one region, (1, C), as those of two; the second is of no pixel."""
    return None if values is None else values.expand(2, -1)


def channel_map(values: Tensor, x: Tensor) -> Tensor:
    """(..., C) as a map over x's pixels, in the dtype that x is computed in."""
    return values.to(compute_dtype(x.dtype)).view(1, -1, *[1] * (x.dim() - 2))


def fixed_map(
    z: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, rstd: Tensor
) -> Tensor:
    """z by given statistics (1, 1, C), then the affine map (1, C)."""
    u = (z - channel_map(mean, z)) * channel_map(rstd, z)
    if weight is not None:
        u = u * channel_map(weight, z)
    return u if bias is None else u + channel_map(bias, z)


@dataclass(frozen=True)
class Composed:
    """The block operators of a backend, from its separate ones."""

    region_norm_forward: Callable[..., Any]
    region_norm_backward: Callable[..., Any]
    attention_forward: Callable[..., Any]
    attention_backward: Callable[..., Any]

    def ops(self) -> dict[str, Callable[..., Any]]:
        """By the operators' names; the decoder's weights are no work for a kernel."""
        names = (
            "block_norm_forward",
            "block_norm_fixed",
            "block_norm_fixed_",
            "block_norm_backward",
            "attention_block_norm_forward",
            "attention_block_norm_backward",
        )
        ops: dict[str, Callable[..., Any]] = {name: getattr(self, name) for name in names}
        ops["upsampled_weight_forward"] = upsampled_weight_forward
        ops["upsampled_weight_backward"] = upsampled_weight_backward
        return ops

    def block_norm_forward(
        self,
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
        z = x * ratio
        if mask is None:
            u, mean, rstd = self.region_norm_forward(
                z, one_region(z), two_rows(weight), two_rows(bias), eps, False, False
            )
            mean, rstd = mean[:, :1].contiguous(), rstd[:, :1].contiguous()
        else:
            u, mean, rstd = self.region_norm_forward(z, mask, weight, bias, eps, scale_eps, False)
        return like((activated(u, slope) * new_mask).to(x.dtype), x), mean, rstd

    def block_norm_fixed(
        self,
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
        u = fixed_map(x * ratio, weight, bias, mean, rstd)
        return like((activated(u, slope) * new_mask).to(x.dtype), x)

    def block_norm_fixed_(self, x: Tensor, *rest: Any) -> None:
        """The same, in place."""
        x.copy_(self.block_norm_fixed(x, *rest))

    def block_norm_backward(
        self,
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

        Those of weight and bias are empty, (0, C), unless ``needs_affine``.
        """
        x = dense(x)
        z = x * ratio
        if mask is None:
            u = fixed_map(z, weight, bias, mean, rstd)
        else:
            u, regions = normalize(z, mask, mean, rstd), regions_of(z, mask)
            gain, offset = affine_map(weight, regions, z), affine_map(bias, regions, z)
            u = u if gain is None else u * gain
            u = u if offset is None else u + offset
        through = through_activation(grad, u, new_mask, slope)
        if fixed:
            axes = [0, *range(2, x.dim())]
            normalized = fixed_map(z, None, None, mean, rstd)
            grad_weight = (through * normalized).sum(axes).unsqueeze(0)
            grad_bias = through.sum(axes).unsqueeze(0)
            scale = channel_map(rstd if weight is None else rstd * weight, z)
            grad_z = through * scale
        else:
            rows = 1 if mask is None else 2
            if mask is None:
                mean, rstd = (t.expand(1, 2, -1).contiguous() for t in (mean, rstd))
            grad_z, grad_weight, grad_bias = self.region_norm_backward(
                through.to(z.dtype), z, one_region(z) if mask is None else mask,
                two_rows(weight) if mask is None else weight, mean, rstd, False,
            )  # fmt: skip
            grad_weight, grad_bias = grad_weight[:rows].contiguous(), grad_bias[:rows].contiguous()
        if not needs_affine:
            grad_weight, grad_bias = grad_weight[:0], grad_bias[:0].clone()
        return like((grad_z * ratio).to(x.dtype), x), grad_weight.clone(), grad_bias

    def attention_block_norm_forward(
        self, x: Tensor, ratio: Tensor, new_mask: Tensor, slope: float, *rest: Any
    ) -> tuple[Tensor, ...]:
        """y; pooled, argmax, attention, maps, mean and rstd as the separate operator has them."""
        x = dense(x)
        u, *by_products = self.attention_forward(x * ratio, *rest)
        return like((activated(u, slope) * new_mask).to(x.dtype), x), *by_products

    def attention_block_norm_backward(
        self,
        grad: Tensor,
        x: Tensor,
        ratio: Tensor,
        new_mask: Tensor,
        slope: float,
        attention_weight: Tensor,
        gamma_weight: Tensor,
        beta_weight: Tensor,
        pooled: Tensor,
        argmax: Tensor,
        attention: Tensor,
        maps: Tensor,
        mean: Tensor,
        rstd: Tensor,
        threshold: float,
    ) -> tuple[Tensor, ...]:
        """Gradients of x and of the five parameters."""
        x = dense(x)
        z = x * ratio
        u = normalize(z, attention >= threshold, mean, rstd) * (1 + maps[:, :1]) + maps[:, 1:]
        through = through_activation(grad, u, new_mask, slope).to(z.dtype)
        grad_z, *parameters = self.attention_backward(
            through, z, attention_weight, gamma_weight, beta_weight, pooled, argmax, attention,
            maps, mean, rstd, threshold,
        )  # fmt: skip
        return like((grad_z * ratio).to(x.dtype), x), *parameters
