# The native core (csrc/bindings.cpp). Tensors are what core.view makes of them, or None.
from collections.abc import Sequence
from typing import Any

from .core import TensorView

OP_TABLE_HASH: int

def build_info() -> dict[str, Any]: ...
def set_parallel_for(address: int) -> None: ...
def select_simd(name: str) -> None: ...
def mask_update(
    mask: TensorView,
    channels: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    eps: float,
    new_mask: TensorView,
    ratio: TensorView,
) -> None: ...
def apply_mask(
    x: TensorView, mask: TensorView, channels: Sequence[int], out: TensorView
) -> None: ...
def all_valid(mask: TensorView) -> bool: ...
def partial_conv_prologue(
    x: TensorView,
    mask: TensorView,
    channels: Sequence[int],
    counts: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    eps: float,
    new_mask: TensorView,
    ratio: TensorView,
    out: TensorView,
) -> bool: ...
def partial_conv_epilogue(
    y: TensorView, ratio: TensorView, new_mask: TensorView, bias: TensorView | None
) -> None: ...
def partial_conv_epilogue_backward(
    grad: TensorView,
    ratio: TensorView,
    new_mask: TensorView,
    grad_raw: TensorView,
    grad_bias: TensorView | None,
) -> None: ...
def region_norm_forward(
    x: TensorView,
    mask: TensorView,
    weight: TensorView | None,
    bias: TensorView | None,
    eps: float,
    scale_eps: bool,
    instance: bool,
    y: TensorView,
    mean: TensorView,
    rstd: TensorView,
) -> None: ...
def region_norm_backward(
    grad: TensorView,
    x: TensorView,
    mask: TensorView,
    weight: TensorView | None,
    mean: TensorView,
    rstd: TensorView,
    instance: bool,
    grad_x: TensorView,
    grad_weight: TensorView,
    grad_bias: TensorView,
) -> None: ...
def block_norm_forward(
    x: TensorView,
    ratio: TensorView,
    new_mask: TensorView,
    slope: float,
    mask: TensorView | None,
    weight: TensorView | None,
    bias: TensorView | None,
    eps: float,
    scale_eps: bool,
    fixed: bool,
    y: TensorView,
    mean: TensorView,
    rstd: TensorView,
) -> None: ...
def block_norm_backward(
    grad: TensorView,
    x: TensorView,
    ratio: TensorView,
    new_mask: TensorView,
    slope: float,
    mask: TensorView | None,
    weight: TensorView | None,
    bias: TensorView | None,
    mean: TensorView,
    rstd: TensorView,
    fixed: bool,
    grad_x: TensorView,
    grad_weight: TensorView | None,
    grad_bias: TensorView | None,
) -> None: ...
def channel_pool(x: TensorView, pooled: TensorView, argmax: TensorView) -> None: ...
def narrow_conv(
    x: TensorView,
    weight: TensorView,
    padding: Sequence[int],
    dilation: Sequence[int],
    out: TensorView,
) -> None: ...
def upsampled_weight_forward(
    weight: TensorView,
    transposed: TensorView,
    beside: TensorView,
) -> None: ...
def upsampled_weight_backward(
    grad_transposed: TensorView,
    grad_beside: TensorView,
    grad_weight: TensorView,
) -> None: ...
def plane_conv(
    x: TensorView, weight: TensorView, bias: TensorView | None, out: TensorView
) -> None: ...
def plane_conv_backward_weight(
    grad: TensorView, x: TensorView, grad_weight: TensorView
) -> None: ...
def attention_region_norm_forward(
    x: TensorView,
    ratio: TensorView | None,
    new_mask: TensorView | None,
    slope: float,
    mask: TensorView,
    maps: TensorView,
    eps: float,
    y: TensorView,
    mean: TensorView,
    rstd: TensorView,
) -> None: ...
def attention_region_norm_backward_maps(
    grad: TensorView,
    x: TensorView,
    ratio: TensorView | None,
    new_mask: TensorView | None,
    slope: float,
    mask: TensorView,
    maps: TensorView,
    mean: TensorView,
    rstd: TensorView,
    grad_maps: TensorView,
    sums: TensorView,
) -> None: ...
def attention_region_norm_backward_input(
    grad: TensorView,
    x: TensorView,
    ratio: TensorView | None,
    new_mask: TensorView | None,
    slope: float,
    mask: TensorView,
    maps: TensorView,
    mean: TensorView,
    rstd: TensorView,
    sums: TensorView,
    grad_pooled: TensorView,
    argmax: TensorView,
    grad_x: TensorView,
) -> None: ...
def cuda_mask_update(
    device: int,
    stream: int,
    mask: TensorView,
    channels: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    eps: float,
    new_mask: TensorView,
    ratio: TensorView,
) -> None: ...
def cuda_apply_mask(
    device: int,
    stream: int,
    x: TensorView,
    mask: TensorView,
    channels: Sequence[int],
    out: TensorView,
) -> None: ...
def cuda_partial_conv_epilogue(
    device: int,
    stream: int,
    y: TensorView,
    ratio: TensorView,
    new_mask: TensorView,
    bias: TensorView | None,
) -> None: ...
def cuda_partial_conv_epilogue_backward(
    device: int,
    stream: int,
    grad: TensorView,
    ratio: TensorView,
    new_mask: TensorView,
    grad_raw: TensorView,
    grad_bias: TensorView | None,
    workspace: TensorView | None,
) -> None: ...
def cuda_region_norm_forward(
    device: int,
    stream: int,
    x: TensorView,
    mask: TensorView,
    weight: TensorView | None,
    bias: TensorView | None,
    eps: float,
    scale_eps: bool,
    instance: bool,
    y: TensorView,
    mean: TensorView,
    rstd: TensorView,
    workspace: TensorView,
) -> None: ...
def cuda_region_norm_backward(
    device: int,
    stream: int,
    grad: TensorView,
    x: TensorView,
    mask: TensorView,
    weight: TensorView | None,
    mean: TensorView,
    rstd: TensorView,
    instance: bool,
    grad_x: TensorView,
    grad_weight: TensorView,
    grad_bias: TensorView,
    workspace: TensorView,
) -> None: ...
def cuda_block_norm_forward(
    device: int,
    stream: int,
    x: TensorView,
    ratio: TensorView,
    new_mask: TensorView,
    slope: float,
    mask: TensorView | None,
    weight: TensorView | None,
    bias: TensorView | None,
    eps: float,
    scale_eps: bool,
    fixed: bool,
    y: TensorView,
    mean: TensorView,
    rstd: TensorView,
    workspace: TensorView,
) -> None: ...
def cuda_block_norm_backward(
    device: int,
    stream: int,
    grad: TensorView,
    x: TensorView,
    ratio: TensorView,
    new_mask: TensorView,
    slope: float,
    mask: TensorView | None,
    weight: TensorView | None,
    bias: TensorView | None,
    mean: TensorView,
    rstd: TensorView,
    fixed: bool,
    grad_x: TensorView,
    grad_weight: TensorView | None,
    grad_bias: TensorView | None,
    workspace: TensorView,
) -> None: ...
def cuda_channel_pool(
    device: int,
    stream: int,
    x: TensorView,
    pooled: TensorView,
    argmax: TensorView,
) -> None: ...
def cuda_attention_region_norm_forward(
    device: int,
    stream: int,
    x: TensorView,
    ratio: TensorView | None,
    new_mask: TensorView | None,
    slope: float,
    mask: TensorView,
    maps: TensorView,
    eps: float,
    y: TensorView,
    mean: TensorView,
    rstd: TensorView,
    workspace: TensorView,
) -> None: ...
def cuda_attention_region_norm_maps(
    device: int,
    stream: int,
    grad: TensorView,
    x: TensorView,
    ratio: TensorView | None,
    new_mask: TensorView | None,
    slope: float,
    mask: TensorView,
    maps: TensorView,
    mean: TensorView,
    rstd: TensorView,
    grad_maps: TensorView,
) -> None: ...
def cuda_attention_region_norm_sums(
    device: int,
    stream: int,
    grad: TensorView,
    x: TensorView,
    ratio: TensorView | None,
    new_mask: TensorView | None,
    slope: float,
    mask: TensorView,
    maps: TensorView,
    mean: TensorView,
    rstd: TensorView,
    workspace: TensorView,
) -> None: ...
def cuda_attention_region_norm_input(
    device: int,
    stream: int,
    grad: TensorView,
    x: TensorView,
    ratio: TensorView | None,
    new_mask: TensorView | None,
    slope: float,
    mask: TensorView,
    maps: TensorView,
    mean: TensorView,
    rstd: TensorView,
    grad_pooled: TensorView,
    argmax: TensorView,
    grad_x: TensorView,
    workspace: TensorView,
) -> None: ...
def cuda_workspace(x: TensorView, values: int) -> int: ...
def cuda_region_workspace(x: TensorView, instance: bool) -> int: ...
