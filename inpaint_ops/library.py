"""The operators as torch sees them: schemas, fake kernels, registration.

Forward and backward are separate ops with fixed outputs. They carry no autograd of their own:
``inpaint_ops.autograd`` wraps them, so call them through ``inpaint_ops.functional``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .backends import dispatch
from .backends.convolution import convolution
from .backends.layout import dense, order
from .backends.precision import compute_dtype
from .backends.window import output_size

NAMESPACE = "inpaint_ops"

SCHEMAS: dict[str, str] = {
    "mask_update": (
        "(Tensor mask, SymInt[] channels, SymInt[] kernel_size, SymInt[] stride, SymInt[] padding,"
        " SymInt[] dilation, float eps, ScalarType dtype) -> (Tensor new_mask, Tensor ratio)"
    ),
    "apply_mask": "(Tensor x, Tensor mask, SymInt[] channels) -> Tensor",
    "partial_conv_forward": (
        "(Tensor x, Tensor? mask, SymInt[] channels, Tensor weight, Tensor? bias, SymInt[] stride,"
        " SymInt[] padding, SymInt[] mask_padding, SymInt[] dilation, SymInt groups,"
        " bool multi_channel, bool masked_input, float eps)"
        " -> (Tensor y, Tensor new_mask, Tensor ratio)"
    ),
    "partial_conv_backward": (
        "(Tensor grad, Tensor x, Tensor? mask, SymInt[] channels, Tensor weight, Tensor new_mask,"
        " Tensor ratio, bool has_bias, SymInt[] stride, SymInt[] padding, SymInt[] dilation,"
        " SymInt groups, bool masked_input, bool[3] needs)"
        " -> (Tensor grad_x, Tensor grad_weight, Tensor grad_bias)"
    ),
    "region_norm_forward": (
        "(Tensor x, Tensor mask, Tensor? weight, Tensor? bias, float eps, bool scale_eps,"
        " bool instance) -> (Tensor y, Tensor mean, Tensor rstd)"
    ),
    "region_norm_backward": (
        "(Tensor grad, Tensor x, Tensor mask, Tensor? weight, Tensor mean, Tensor rstd,"
        " bool instance) -> (Tensor grad_x, Tensor grad_weight, Tensor grad_bias)"
    ),
    "attention_region_norm_forward": (
        "(Tensor x, Tensor attention_weight, Tensor gamma_weight, Tensor gamma_bias,"
        " Tensor beta_weight, Tensor beta_bias, float threshold, float eps)"
        " -> (Tensor y, Tensor pooled, Tensor argmax, Tensor attention, Tensor maps, Tensor mean,"
        " Tensor rstd)"
    ),
    "attention_region_norm_backward": (
        "(Tensor grad, Tensor x, Tensor attention_weight, Tensor gamma_weight, Tensor beta_weight,"
        " Tensor pooled, Tensor argmax, Tensor attention, Tensor maps, Tensor mean, Tensor rstd,"
        " float threshold) -> (Tensor grad_x, Tensor grad_attention_weight,"
        " Tensor grad_gamma_weight, Tensor grad_gamma_bias, Tensor grad_beta_weight,"
        " Tensor grad_beta_bias)"
    ),
    "upsampled_weight_forward": (
        "(Tensor weight, SymInt deep) -> (Tensor transposed, Tensor beside)"
    ),
    "upsampled_weight_backward": "(Tensor grad_transposed, Tensor grad_beside) -> Tensor",
    "block_norm_forward": (
        "(Tensor x, Tensor ratio, Tensor new_mask, float slope, Tensor? mask, Tensor? weight,"
        " Tensor? bias, float eps, bool scale_eps) -> (Tensor y, Tensor mean, Tensor rstd)"
    ),
    "block_norm_fixed": (
        "(Tensor x, Tensor ratio, Tensor new_mask, float slope, Tensor? weight, Tensor? bias,"
        " Tensor mean, Tensor rstd) -> Tensor"
    ),
    "block_norm_fixed_": (
        "(Tensor(a!) x, Tensor ratio, Tensor new_mask, float slope, Tensor? weight, Tensor? bias,"
        " Tensor mean, Tensor rstd) -> ()"
    ),
    "block_norm_backward": (
        "(Tensor grad, Tensor x, Tensor ratio, Tensor new_mask, float slope, Tensor? mask,"
        " Tensor? weight, Tensor? bias, Tensor mean, Tensor rstd, bool fixed, bool needs_affine)"
        " -> (Tensor grad_x, Tensor grad_weight, Tensor grad_bias)"
    ),
    "attention_block_norm_forward": (
        "(Tensor x, Tensor ratio, Tensor new_mask, float slope, Tensor attention_weight,"
        " Tensor gamma_weight, Tensor gamma_bias, Tensor beta_weight, Tensor beta_bias,"
        " float threshold, float eps) -> (Tensor y, Tensor pooled, Tensor argmax,"
        " Tensor attention, Tensor maps, Tensor mean, Tensor rstd)"
    ),
    "attention_block_norm_backward": (
        "(Tensor grad, Tensor x, Tensor ratio, Tensor new_mask, float slope,"
        " Tensor attention_weight, Tensor gamma_weight, Tensor beta_weight, Tensor pooled,"
        " Tensor argmax, Tensor attention, Tensor maps, Tensor mean, Tensor rstd, float threshold)"
        " -> (Tensor grad_x, Tensor grad_attention_weight, Tensor grad_gamma_weight,"
        " Tensor grad_gamma_bias, Tensor grad_beta_weight, Tensor grad_beta_bias)"
    ),
}

_library = torch.library.Library(NAMESPACE, "DEF")


def _implementation(name: str) -> Callable[..., Any]:
    resolve = dispatch.resolve

    def run(*args: Any) -> Any:
        function, device = resolve(name, args[0]), args[0].device.type
        if not torch.is_autocast_enabled(device):
            return function(*args)
        with torch.autocast(device, enabled=False):  # dtypes were settled by the caller
            return function(*args)

    run.__name__ = name
    return run


def _fake_mask_update(
    mask: Tensor,
    channels: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    eps: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    spatial = output_size(mask.shape[2:], kernel_size, stride, padding, dilation)
    size = (mask.shape[0], 1, *spatial)
    return mask.new_empty(size), mask.new_empty(size, dtype=dtype)


def _fake_apply_mask(x: Tensor, mask: Tensor, channels: Sequence[int]) -> Tensor:
    return torch.empty_like(dense(x))


def _fake_partial_conv_forward(
    x: Tensor,
    mask: Tensor | None,
    channels: Sequence[int],
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    mask_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    multi_channel: bool,
    masked_input: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    y = convolution(dense(x), weight, stride, padding, dilation, groups)
    batch = 1 if mask is None else mask.shape[0]
    new_mask = (x if mask is None else mask).new_empty(batch, 1, *y.shape[2:])
    return y, new_mask, x.new_empty(new_mask.shape, dtype=compute_dtype(x.dtype))


def _fake_partial_conv_backward(
    grad: Tensor,
    x: Tensor,
    mask: Tensor | None,
    channels: Sequence[int],
    weight: Tensor,
    new_mask: Tensor,
    ratio: Tensor,
    has_bias: bool,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    masked_input: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    source = dense(x)
    return (
        torch.empty_like(source) if needs[0] else x.new_empty(0),
        torch.empty_like(dense(weight)) if needs[1] else x.new_empty(0),
        x.new_empty(weight.shape[0]) if has_bias and needs[2] else x.new_empty(0),
    )


def _fake_region_norm_forward(
    x: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    scale_eps: bool,
    instance: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    size = (x.shape[0] if instance else 1, 2, x.shape[1])
    moments = x.new_empty(size, dtype=torch.float64)
    return torch.empty_like(dense(x)), moments, torch.empty_like(moments)


def _fake_region_norm_backward(
    grad: Tensor,
    x: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    instance: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    affine = x.new_empty(2, x.shape[1], dtype=compute_dtype(x.dtype))
    return torch.empty_like(dense(x)), affine, torch.empty_like(affine)


def _fake_attention_region_norm_forward(
    x: Tensor,
    attention_weight: Tensor,
    gamma_weight: Tensor,
    gamma_bias: Tensor,
    beta_weight: Tensor,
    beta_bias: Tensor,
    threshold: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    n, c, *spatial = x.shape
    wide = compute_dtype(x.dtype)
    plane = x.new_empty(n, 1, *spatial, dtype=wide)
    moments = x.new_empty((1, 2, c), dtype=torch.float64)
    return (
        torch.empty_like(dense(x)),
        x.new_empty(n, 2, *spatial, dtype=wide),
        torch.empty_like(plane, dtype=torch.int32),
        plane,
        x.new_empty(n, 2, *spatial, dtype=wide),
        moments,
        torch.empty_like(moments),
    )


def _fake_attention_region_norm_backward(
    grad: Tensor,
    x: Tensor,
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(dense(x)),
        torch.empty_like(attention_weight),
        torch.empty_like(gamma_weight),
        gamma_weight.new_empty(1),
        torch.empty_like(beta_weight),
        gamma_weight.new_empty(1),
    )


def _fake_upsampled_weight_forward(weight: Tensor, deep: int) -> tuple[Tensor, Tensor]:
    outputs, inputs, layout = weight.shape[0], weight.shape[1], order(weight)
    transposed = weight.new_empty(deep, outputs, 4, 4).contiguous(memory_format=layout)
    beside = weight.new_empty(outputs, inputs - deep, 3, 3).contiguous(memory_format=layout)
    return transposed, beside


def _fake_upsampled_weight_backward(grad_transposed: Tensor, grad_beside: Tensor) -> Tensor:
    size = (grad_beside.shape[0], grad_transposed.shape[0] + grad_beside.shape[1], 3, 3)
    return grad_beside.new_empty(size).contiguous(memory_format=order(grad_beside))


def _fake_block_norm_forward(
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
    moments = x.new_empty((1, 1 if mask is None else 2, x.shape[1]), dtype=torch.float64)
    return torch.empty_like(dense(x)), moments, torch.empty_like(moments)


def _fake_block_norm_fixed(x: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(dense(x))


def _fake_block_norm_fixed_(x: Tensor, *rest: Any) -> None:
    return None


def _fake_block_norm_backward(
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
    rows = (1 if mask is None else 2) if needs_affine else 0
    affine = x.new_empty(rows, x.shape[1], dtype=compute_dtype(x.dtype))
    return torch.empty_like(dense(x)), affine, torch.empty_like(affine)


def _fake_attention_block_norm_forward(
    x: Tensor, ratio: Tensor, new_mask: Tensor, slope: float, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _fake_attention_region_norm_forward(x, *rest)


def _fake_attention_block_norm_backward(
    grad: Tensor, x: Tensor, ratio: Tensor, new_mask: Tensor, slope: float, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _fake_attention_region_norm_backward(grad, x, *rest)


FAKES: dict[str, Callable[..., Any]] = {
    "mask_update": _fake_mask_update,
    "apply_mask": _fake_apply_mask,
    "partial_conv_forward": _fake_partial_conv_forward,
    "partial_conv_backward": _fake_partial_conv_backward,
    "region_norm_forward": _fake_region_norm_forward,
    "region_norm_backward": _fake_region_norm_backward,
    "attention_region_norm_forward": _fake_attention_region_norm_forward,
    "attention_region_norm_backward": _fake_attention_region_norm_backward,
    "upsampled_weight_forward": _fake_upsampled_weight_forward,
    "upsampled_weight_backward": _fake_upsampled_weight_backward,
    "block_norm_forward": _fake_block_norm_forward,
    "block_norm_fixed": _fake_block_norm_fixed,
    "block_norm_fixed_": _fake_block_norm_fixed_,
    "block_norm_backward": _fake_block_norm_backward,
    "attention_block_norm_forward": _fake_attention_block_norm_forward,
    "attention_block_norm_backward": _fake_attention_block_norm_backward,
}

for _name, _schema in SCHEMAS.items():
    _library.define(f"{_name}{_schema}", tags=(torch.Tag.pt2_compliant_tag,))
    for _key in ("CPU", "CUDA"):
        _library.impl(_name, _implementation(_name), _key)
    torch.library.register_fake(f"{NAMESPACE}::{_name}", FAKES[_name], lib=_library)
