"""Launches the implicit matrix products: forward, gradient of the input, gradient of the weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..layout import like, order
from ..window import output_size
from .kernels.conv_forward import conv_forward_kernel
from .kernels.conv_grad_input import conv_grad_input_kernel
from .kernels.conv_grad_weight import conv_grad_weight_kernel
from .launch import Planes, ceil_div, launch, planes, power_of_2, raw
from .statistics import SLOTS, finish_statistics

_LEAST = 16  # no side of a block of tl.dot may be smaller
_PROGRAMS, _MAX_SPLITS, _MIN_STEPS = 512, 64, 8
_MAX_PIXELS = 2**31 - 2**16


class Config(NamedTuple):
    """The tile of one program, its warps, and how many loads are in flight."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


class Window(NamedTuple):
    """How the convolution walks over x."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]


CONFIGS = (
    Config(128, 64, 32, 4, 3),
    Config(64, 64, 64, 4, 3),
    Config(128, 128, 32, 8, 3),
    Config(64, 32, 32, 4, 4),
)


def fitting(rows: int, columns: int, depth: int) -> list[Config]:
    """The tiles worth trying for a product of this size: none wider than it is."""

    def cut(size: int, limit: int) -> int:
        return min(size, max(power_of_2(limit), _LEAST))

    found = [c._replace(m=cut(c.m, rows), n=cut(c.n, columns), k=cut(c.k, depth)) for c in CONFIGS]
    return list(dict.fromkeys(found))


def applies(x: Tensor, weight: Tensor, groups: int) -> bool:
    """Whether these products can be formed, with results in the memory order that is promised.

    That of ``y`` is the library's: it follows x, or the weight where x lies like both.
    """
    if x.dim() != 4 or groups != 1 or not x.numel():
        return False
    if max(x.numel() // x.shape[1], x.shape[0] * image(x)) > _MAX_PIXELS:
        return False
    both = x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    flat = weight.is_contiguous() and not weight.is_contiguous(memory_format=torch.channels_last)
    return not both and (order(x) == torch.channels_last or flat)


def image(x: Tensor) -> int:
    """Pixels of one image."""
    return math.prod(x.shape[2:])


def precision() -> str:
    """What the library's convolutions are allowed for float32."""
    conv: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    return "tf32" if conv.fp32_precision == "tf32" else "ieee"


def _taps_first(weight: Tensor) -> Tensor:
    """(K, C, KH, KW) in the memory order K, KH, KW, C."""
    return weight.contiguous(memory_format=torch.channels_last)


def _image_strides(x: Tensor) -> tuple[int, int, int, int]:
    """Steps of sample, channel, row and column of dense x (those of axes of length 1 are free)."""
    _, c, h, w = x.shape
    if order(x) == torch.channels_last:
        return h * w * c, 1, w * c, c
    return c * h * w, h * w, w, 1


def _mask(
    mask: Tensor | None, x: Tensor, channels: Sequence[int]
) -> tuple[Planes, tuple[int, int, int, int]]:
    """The mask to select by, and its steps of sample, plane, row and column."""
    if mask is None:  # nothing is read
        return Planes(x, (0, 0, 0), (0, 0, 0), 0), (0, 0, 0, 0)
    found = planes(mask, x, channels)
    sample, plane, pixel = found.strides
    return found, (sample, plane, pixel * mask.shape[3], pixel)


def _counted(mask: Tensor, channels: Sequence[int]) -> tuple[Tensor, float]:
    """One plane whose window sums count the mask, and its value where every channel is valid."""
    if len(channels) == 1:
        return raw(mask.contiguous()), 1.0
    if len(set(channels)) == 1:
        total = mask.sum(1, keepdim=True, dtype=torch.float32) * channels[0]
    else:
        wide = mask.float()
        total = wide[:, :1] * channels[0]
        for g in range(1, len(channels)):
            total += wide[:, g : g + 1] * channels[g]
    return total, float(sum(channels))


def forward(
    x: Tensor,
    mask: Tensor | None,
    channels: Sequence[int],
    weight: Tensor,
    bias: Tensor | None,
    window: Window,
    mask_padding: Sequence[int],
    multi_channel: bool,
    masked_input: bool,
    eps: float,
    config: Config,
    statistics: tuple[float, bool] | None = None,
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    """y, new mask and ratio; x is dense.

    With ``statistics`` (eps and whether it is scaled) also mean and rstd of y by the regions of the
    new mask over the whole batch, as region normalization has them, without another pass over y.
    """
    kernel = weight.shape[2:]
    size = output_size(x.shape[2:], kernel, *window)
    y = torch.empty(
        (x.shape[0], weight.shape[0], *size),
        dtype=x.dtype, device=x.device, memory_format=order(x),
    )  # fmt: skip
    counts = list(channels) if multi_channel else [1]
    like_mask = x if mask is None else mask
    new_mask = like_mask.new_empty(1 if mask is None else mask.shape[0], 1, *size)
    ratio = x.new_empty(new_mask.shape, dtype=torch.float32)
    counted, full = (x, 1.0) if mask is None else _counted(mask, counts)
    spatial = x.shape[2:] if mask is None else mask.shape[2:]
    select = mask is not None and not masked_input
    chosen, steps = _mask(mask if select else None, x, channels)
    pixels = x.shape[0] * math.prod(size)
    rows = ceil_div(pixels, config.m)
    partials = ratio.new_empty(
        (rows, 2, SLOTS, weight.shape[0]) if statistics is not None else (0,)
    )
    launch(
        conv_forward_kernel, rows * ceil_div(weight.shape[0], config.n), x,
        x, chosen.values, counted, _taps_first(weight), x if bias is None else bias.contiguous(),
        y, raw(new_mask), ratio, partials, pixels, new_mask.numel(), x.shape[1], weight.shape[0],
        *x.shape[2:], *size, *spatial, *_image_strides(x), *steps,
        0 if counted.shape[0] == 1 else math.prod(spatial), *_image_strides(y), *window.stride,
        *window.padding, *mask_padding, *window.dilation, *chosen.bounds, full,
        float(counts[0]) if len(counts) == 1 else 1.0, float(sum(counts) * math.prod(kernel)), eps,
        HAS_MASK=mask is not None, SELECT=select, FORM=chosen.form, HAS_BIAS=bias is not None,
        STATISTICS=statistics is not None, KH=kernel[0], KW=kernel[1], PRECISION=precision(),
        BLOCK_M=config.m, BLOCK_N=config.n, BLOCK_K=config.k, num_stages=config.stages,
        num_warps=config.warps if statistics is None else 8,  # four would spill on sm_100
    )  # fmt: skip
    found = None
    if statistics is not None:
        found = finish_statistics(partials, 1, pixels, *statistics)
    return y, new_mask, ratio, found


def scaled(new_mask: Tensor, ratio: Tensor, has_bias: bool) -> Tensor:
    """What multiplies the gradient of y before it reaches the dense convolution."""
    return (ratio * new_mask if has_bias else ratio).contiguous()


def _step(scale: Tensor) -> int:
    return 0 if scale.shape[0] == 1 else math.prod(scale.shape[2:])


def grad_input(
    grad: Tensor,
    scale: Tensor,
    x: Tensor,
    mask: Tensor | None,
    channels: Sequence[int],
    weight: Tensor,
    window: Window,
    config: Config,
) -> Tensor:
    """The gradient of x, in its memory order; grad and x are dense, ``mask`` the holes of x."""
    grad_x = torch.empty_like(x)
    chosen, steps = _mask(mask, x, channels)
    pixels = x.shape[0] * image(x)
    kernel = weight.shape[2:]
    launch(
        conv_grad_input_kernel, ceil_div(pixels, config.m) * ceil_div(x.shape[1], config.n), x,
        grad, scale, _taps_first(weight), chosen.values, grad_x, pixels, x.shape[1],
        weight.shape[0], *x.shape[2:], *grad.shape[2:], *_image_strides(grad), _step(scale),
        *steps, *_image_strides(x), *window.stride, *window.padding, *window.dilation,
        *chosen.bounds,
        SELECT=mask is not None, FORM=chosen.form, KH=kernel[0], KW=kernel[1],
        PRECISION=precision(), BLOCK_M=config.m, BLOCK_N=config.n, BLOCK_K=config.k,
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return grad_x


def grad_weight(
    grad: Tensor,
    scale: Tensor,
    x: Tensor,
    mask: Tensor | None,
    channels: Sequence[int],
    weight: Tensor,
    window: Window,
    config: Config,
) -> Tensor:
    """The gradient of the weight, in its memory order; grad and x are dense."""
    chosen, steps = _mask(mask, x, channels)
    k, c, *kernel = weight.shape
    pixels = grad.shape[0] * image(grad)
    tiles = ceil_div(k, config.m) * ceil_div(c, config.n) * math.prod(kernel)
    deep = ceil_div(pixels, config.k * _MIN_STEPS)
    splits = max(1, min(ceil_div(_PROGRAMS, tiles), _MAX_SPLITS, deep))
    partials = x.new_empty((splits, k, *kernel, c), dtype=torch.float32)
    launch(
        conv_grad_weight_kernel, tiles * splits, x,
        grad, scale, x, chosen.values, partials, pixels, c, k, *x.shape[2:], *grad.shape[2:],
        splits, *_image_strides(grad), _step(scale), *_image_strides(x), *steps, *window.stride,
        *window.padding, *window.dilation, *chosen.bounds,
        SELECT=mask is not None, FORM=chosen.form, KH=kernel[0], KW=kernel[1],
        PRECISION=precision(), BLOCK_M=config.m, BLOCK_N=config.n, BLOCK_K=config.k,
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return like(partials.sum(0).to(weight.dtype).permute(0, 3, 1, 2), weight)
