"""Loads the native core and hands tensors to it.

The core knows nothing of torch: a tensor goes to it as address, type, sizes and strides (see
:func:`view`), and its threads are torch's own, through a C function that libtorch exports.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

# The argument names of every native function, in order: csrc/include/inpaint/op_table.h holds the
# same table, and a core that was built from another one is refused.
OP_TABLE: dict[str, str] = {
    "mask_update": "mask,channels,kernel_size,stride,padding,dilation,eps,new_mask,ratio",
    "apply_mask": "x,mask,channels,out",
    "all_valid": "mask",
    "partial_conv_prologue": (
        "x,mask,channels,counts,kernel_size,stride,padding,dilation,eps,new_mask,ratio,out"
    ),
    "partial_conv_epilogue": "y,ratio,new_mask,bias",
    "partial_conv_epilogue_backward": "grad,ratio,new_mask,grad_raw,grad_bias",
    "region_norm_forward": "x,mask,weight,bias,eps,scale_eps,instance,y,mean,rstd",
    "region_norm_backward": ("grad,x,mask,weight,mean,rstd,instance,grad_x,grad_weight,grad_bias"),
    "block_norm_forward": (
        "x,ratio,new_mask,slope,mask,weight,bias,eps,scale_eps,fixed,y,mean,rstd"
    ),
    "block_norm_backward": (
        "grad,x,ratio,new_mask,slope,mask,weight,bias,mean,rstd,fixed,grad_x,grad_weight,grad_bias"
    ),
    "channel_pool": "x,pooled,argmax",
    "narrow_conv": "x,weight,padding,dilation,out",
    "upsampled_weight_forward": "weight,transposed,beside",
    "upsampled_weight_backward": "grad_transposed,grad_beside,grad_weight",
    "plane_conv": "x,weight,bias,out",
    "plane_conv_backward_weight": "grad,x,grad_weight",
    "attention_region_norm_forward": "x,ratio,new_mask,slope,mask,maps,eps,y,mean,rstd",
    "attention_region_norm_backward_maps": (
        "grad,x,ratio,new_mask,slope,mask,maps,mean,rstd,grad_maps,sums"
    ),
    "attention_region_norm_backward_input": (
        "grad,x,ratio,new_mask,slope,mask,maps,mean,rstd,sums,grad_pooled,argmax,grad_x"
    ),
    "cuda_mask_update": (
        "device,stream,mask,channels,kernel_size,stride,padding,dilation,eps,new_mask,ratio"
    ),
    "cuda_apply_mask": "device,stream,x,mask,channels,out",
    "cuda_partial_conv_epilogue": "device,stream,y,ratio,new_mask,bias",
    "cuda_partial_conv_epilogue_backward": (
        "device,stream,grad,ratio,new_mask,grad_raw,grad_bias,workspace"
    ),
    "cuda_region_norm_forward": (
        "device,stream,x,mask,weight,bias,eps,scale_eps,instance,y,mean,rstd,workspace"
    ),
    "cuda_region_norm_backward": (
        "device,stream,grad,x,mask,weight,mean,rstd,instance,grad_x,grad_weight,grad_bias,workspace"
    ),
    "cuda_block_norm_forward": (
        "device,stream,x,ratio,new_mask,slope,mask,weight,bias,eps,scale_eps,fixed,y,mean,rstd,"
        "workspace"
    ),
    "cuda_block_norm_backward": (
        "device,stream,grad,x,ratio,new_mask,slope,mask,weight,bias,mean,rstd,fixed,grad_x,"
        "grad_weight,grad_bias,workspace"
    ),
    "cuda_channel_pool": "device,stream,x,pooled,argmax",
    "cuda_attention_region_norm_forward": (
        "device,stream,x,ratio,new_mask,slope,mask,maps,eps,y,mean,rstd,workspace"
    ),
    "cuda_attention_region_norm_maps": (
        "device,stream,grad,x,ratio,new_mask,slope,mask,maps,mean,rstd,grad_maps"
    ),
    "cuda_attention_region_norm_sums": (
        "device,stream,grad,x,ratio,new_mask,slope,mask,maps,mean,rstd,workspace"
    ),
    "cuda_attention_region_norm_input": (
        "device,stream,grad,x,ratio,new_mask,slope,mask,maps,mean,rstd,grad_pooled,argmax,grad_x,"
        "workspace"
    ),
    "cuda_workspace": "x,values",
    "cuda_region_workspace": "x,instance",
}

# Codes of dtypes: enum DType in csrc/include/inpaint/tensor_view.h.
_DTYPES = {
    torch.bool: 0,
    torch.int32: 1,
    torch.float32: 2,
    torch.float64: 3,
    torch.bfloat16: 4,
    torch.float16: 5,
}

TensorView = tuple[int, int, torch.Size, tuple[int, ...], Tensor]


class CoreError(RuntimeError):
    """The native core is missing or does not belong to these sources."""


def op_table_hash() -> int:
    """FNV-1a of the table, as the core computes it of its own."""
    value = 0xCBF29CE484222325
    for char in "".join(f"{name}({arguments});" for name, arguments in OP_TABLE.items()):
        value = ((value ^ ord(char)) * 0x100000001B3) % 2**64
    return value


def torch_parallel_for() -> int:
    """The address of ``torch_parallel_for`` in libtorch (torch >= 2.10)."""
    name = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}.get(
        sys.platform, "libtorch_cpu.so"
    )
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name))
    function = getattr(library, "torch_parallel_for", None)
    if function is None:
        raise CoreError(f"torch {torch.__version__} is too old: inpaint_ops needs torch >= 2.10")
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


def check(core: ModuleType) -> None:
    """Raise :class:`CoreError` if the binary was built from other sources."""
    found = getattr(core, "OP_TABLE_HASH", None)
    if found != op_table_hash():
        raise CoreError(
            f"the native core {getattr(core, '__file__', '?')} was built from other sources than "
            "these; rebuild: pip install -e ."
        )


@functools.cache
def load() -> ModuleType:
    """The native core, checked and connected to torch's threads.

    Raises:
        CoreError: it was never built, was built from other sources, or torch is too old.
    """
    try:
        from . import _core
    except ImportError as error:
        folder = Path(__file__).parent
        there = sorted(p.name for p in folder.glob("_core.*") if p.suffix in (".so", ".pyd"))
        raise CoreError(
            f"the native core cannot be loaded ({error}; binaries in {folder}: "
            f"{', '.join(there) or 'none'}; this is Python {platform.python_version()}); "
            "rebuild: pip install -e ."
        ) from error
    check(_core)
    _core.set_parallel_for(torch_parallel_for())
    level = os.environ.get("INPAINT_OPS_SIMD")
    if level:
        _core.select_simd(level)
    return _core


def view(tensor: Tensor) -> TensorView:
    """What the core needs of a tensor, and the tensor itself: a temporary must outlive the call."""
    return (tensor.data_ptr(), _DTYPES[tensor.dtype], tensor.shape, tensor.stride(), tensor)
