"""The published modules: how each is known, what it becomes, and how it is called for the proof."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from ..nn import RN_B, RN_L, PartialConv2d, PartialConv3d
from .adapters import (
    LabelNorm,
    MaskOrPlainConv2d,
    Patched,
    SumConv,
    SumConv2d,
    SumConvBlock,
    adopt,
    is_ones,
    published_class,
)
from .twins import Call, has_hooks, noise


class RefusalError(Exception):
    """Why a module of a known name is left alone."""


class AlreadyError(RefusalError):
    """There is nothing to do: it is ours."""


@dataclass(frozen=True)
class Proposal:
    """How a module could be replaced: conversions to try in turn, and calls to compare."""

    became: str
    conversions: tuple[Callable[[nn.Module], None], ...]
    calls: tuple[Call, ...]
    note: str = ""
    constants: tuple[str, ...] = ()  # parameters whose values belong to the formula
    inner: tuple[nn.Module, ...] = ()  # modules within that change their class too
    absorbed: tuple[nn.Module, ...] = ()  # modules within that nobody calls any more


@dataclass(frozen=True)
class Family:
    """One published class."""

    name: str
    forward: tuple[str, ...]  # names of the arguments
    propose: Callable[[nn.Module], Proposal]


EPS = (1e-8, 1e-6)
"""Of NVIDIA's module, where it is no attribute: as published, and as it advises for float16."""


def propose(module: nn.Module) -> Proposal | None:
    """The proposal for a module, None for one whose class has no known name.

    Raises:
        RefusalError: the class has a known name, and the module is not what is known by it.
    """
    cls, names = published_class(module), set(KNOWN)
    if isinstance(module, Patched):
        if module._published_class.__name__ in names:
            raise AlreadyError("replaced already")
        return None
    families = [family for family in FAMILIES if family.name == cls.__name__]
    if isinstance(module, OURS):
        if families:
            raise AlreadyError("is ours already")
        return None
    if not families:
        known = sorted(names & {parent.__name__ for parent in cls.__mro__})
        if known:
            raise RefusalError(f"a subclass of {known[0]} may do other things")
        return None
    if "forward" in module.__dict__:
        raise RefusalError("its forward is replaced on the instance")
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor) or tensor.is_meta:
            raise RefusalError(f"{name} has no values yet, so that nothing can be compared")
    takes = tuple(inspect.signature(cls.forward).parameters)[1:]
    for family in families:
        if family.forward == takes:
            return family.propose(module)
    raise RefusalError(f"forward({', '.join(takes)}) is that of no known {cls.__name__}")


def _need(module: Any, *names: str) -> None:
    missing = [name for name in names if not hasattr(module, name)]
    if missing:
        raise RefusalError(f"it has no {' and no '.join(missing)}, as the known one has")


def _unwatched(module: Any, name: str) -> None:
    """Modules within are not called any more, or with other arguments: hooks would be lost."""
    if not isinstance(module, nn.Module):
        raise RefusalError(f"{name} is no module")
    if any(map(has_hooks, module.modules())):
        raise RefusalError(f"{name} has hooks, which would not see its calls any more")


# Partial convolutions whose scale is ours


def _nvidia(axes: int) -> Callable[[nn.Module], Proposal]:
    conv, fused = ((nn.Conv2d, PartialConv2d), (nn.Conv3d, PartialConv3d))[axes - 2]

    def propose_it(module: Any) -> Proposal:
        if not isinstance(module, conv):
            raise RefusalError(f"it is no {conv.__name__}")
        _need(module, "multi_channel", "return_mask", "weight_maskUpdater", "slide_winsize")
        x, mask = _features(module), _mask(module, bool(module.multi_channel))
        return Proposal(
            fused.__name__,
            tuple(partial(_convert_nvidia, fused, eps) for eps in EPS),
            (((x, mask), {}), ((x[:1],), {})),
            "keeps no mask of an earlier call",
        )

    return propose_it


def _convert_nvidia(fused: type[nn.Module], eps: float, module: Any) -> None:
    for name in ("weight_maskUpdater", "slide_winsize", "last_size", "update_mask", "mask_ratio"):
        if name in module.__dict__ or name in module._buffers:
            delattr(module, name)
    adopt(module, fused)
    module.eps, module.mask_padding_mode = eps, "zeros"


def _mmagic(module: Any) -> Proposal:
    if not isinstance(module, nn.Conv2d):
        raise RefusalError("it is no Conv2d")
    _need(module, "multi_channel", "eps", "weight_mask_updater", "mask_kernel_numel")
    x, mask = _features(module), _mask(module, bool(module.multi_channel))
    return Proposal(
        "PartialConv2d",
        (_convert_mmagic,),
        (((x, mask), {}), ((x[:1], mask[:1]), {"return_mask": False}), ((x[:1],), {})),
        "without a mask a plain convolution, as before",
    )


def _convert_mmagic(module: Any) -> None:
    del module.weight_mask_updater, module.mask_kernel_numel
    adopt(module, MaskOrPlainConv2d)
    module.return_mask, module.mask_padding_mode = True, "zeros"


# Partial convolutions that divide by the sum of the mask


def _sum_conv(module: Any) -> Proposal:
    conv = _inner_conv(module)
    x = _features(conv)
    return Proposal(
        "PartialConv2d",
        (_convert_sum_conv,),
        (((x, _mask(conv, True)), {}),),
        "scale 1/S kept; mask_conv dropped",
        constants=("mask_conv.weight",),
        inner=(conv,),
    )


def _inner_conv(module: Any) -> Any:
    _need(module, "input_conv", "mask_conv")
    conv, count = module.input_conv, module.mask_conv
    for name, child in (("input_conv", conv), ("mask_conv", count)):
        if published_class(child) is not nn.Conv2d and not isinstance(child, SumConv2d):
            raise RefusalError(f"{name} is no nn.Conv2d")
        _unwatched(child, name)
    if conv.groups != 1:
        raise RefusalError(f"groups={conv.groups}: it counts valid pixels for each group by itself")
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        raise RefusalError("input_conv pads by other values than zeros, or by name")
    if parametrize.is_parametrized(count) or not is_ones(count.weight):
        raise RefusalError("the weights of mask_conv are not all 1")
    return conv


def _convert_sum_conv(module: Any) -> None:
    _convert_inner(module.input_conv)
    del module.mask_conv
    adopt(module, SumConv)


def _convert_inner(conv: Any) -> None:
    if isinstance(conv, SumConv2d):  # shared by two modules
        return
    adopt(conv, SumConv2d)
    conv.multi_channel, conv.return_mask = True, True
    # Far below any sum of a mask, which is at least the smallest of its values.
    conv.eps, conv.mask_padding_mode = 1e-30, "zeros"


def _sum_block(module: Any) -> Proposal:
    conv = _inner_conv(module)
    _need(module, "padding", "trans_pad")
    sides = module.padding
    if not isinstance(sides, tuple) or len(sides) != 4:
        raise RefusalError(f"padding is {sides!r} instead of four numbers")
    if sides[0] != sides[1] or sides[2] != sides[3]:
        raise RefusalError(f"padding {sides} differs between two opposite sides")
    if conv.padding != (0, 0):
        raise RefusalError("input_conv pads, beside the block itself")
    x = _features(conv, more=max(sides))
    norm = getattr(module, "bn", None)
    return Proposal(
        "PartialConv2d",
        (partial(_convert_sum_block, (sides[2], sides[0]), _takes_mask(norm)),),
        (((x, _mask(conv, True, more=max(sides))), {}),),
        "scale 1/S kept; mask_conv dropped",
        constants=("mask_conv.weight",),
        inner=(conv,),
    )


def _takes_mask(norm: nn.Module | None) -> bool:
    """Whether it is climatereconstructionAI's MaskedBatchNorm2d."""
    return norm is not None and "mask" in inspect.signature(norm.forward).parameters


def _convert_sum_block(padding: tuple[int, int], norm_takes_mask: bool, module: Any) -> None:
    conv, pads = module.input_conv, module.trans_pad
    _convert_inner(conv)
    conv.padding = padding
    if pads is not F.pad:  # around the globe
        conv.mask_padding_mode = ("zeros", "circular")
    del module.mask_conv, module.trans_pad, module.padding
    adopt(module, SumConvBlock)
    module.norm_takes_mask = norm_takes_mask


# Region norms


def _core(module: Any) -> nn.BatchNorm2d:
    """The batch norm by which ``RN_binarylabel`` normalizes."""
    _need(module, "bn_norm")
    norm = module.bn_norm
    _unwatched(module.bn_norm, "bn_norm")
    if type(norm) is not nn.BatchNorm2d:
        raise RefusalError(
            f"bn_norm is a {type(norm).__name__}; for statistics of several processes replace "
            "first, then call inpaint_ops.convert_sync_norms"
        )
    if norm.affine or norm.track_running_stats:
        raise RefusalError("bn_norm has parameters or running statistics")
    return norm


def _label_norm(module: Any) -> Proposal:
    channels = _core(module).num_features
    x, label = noise((2, channels, 6, 7), 0), (noise((2, 1, 6, 7), 1) > 0).double()
    return Proposal(
        "region_norm",
        (partial(adopt, fused=LabelNorm),),
        tuple(
            ((x, y), {}) for y in (label, torch.ones_like(label), label.expand(-1, channels, 6, 7))
        ),
    )


def _rn_parts(module: Any) -> Any:
    """The core within an RN_B or RN_L."""
    _need(module, "rn")
    core = module.rn
    _unwatched(core, "rn")
    eps = _core(core).eps
    if eps != 1e-5:
        raise RefusalError(f"its norm has eps {eps:g}; ours has 1e-05")
    return core


def _rn_b(module: Any) -> Proposal:
    core = _rn_parts(module)
    names = [f"{r}_{kind}" for r in ("foreground", "background") for kind in ("gamma", "beta")]
    _need(module, *names)
    x = noise((2, _core(core).num_features, 6, 7), 0)
    hole = (noise((2, 1, 12, 14), 1) > 0).double()
    masks = (hole, torch.zeros_like(hole), hole[:, :, :6, :7] * 0.25)
    return Proposal(
        "RN_B",
        (partial(_convert_norm, RN_B),),
        tuple(((x, mask), {}) for mask in masks),
        absorbed=(core,),
    )


def _rn_l(module: Any) -> Proposal:
    core = _rn_parts(module)
    _need(module, "sa", "threshold")
    if not isinstance(module.sa, nn.Module):
        raise RefusalError("sa is no module")
    _need(module.sa, "conv1", "gamma_conv", "beta_conv")
    for name, child in module.sa.named_modules():
        if any(child.__dict__["_forward_pre_hooks"]) or has_hooks(child):
            raise RefusalError(f"sa.{name}".rstrip(".") + " has hooks, which nobody would call")
    x = noise((2, _core(core).num_features, 9, 10), 0)
    return Proposal(
        "RN_L",
        (partial(_convert_norm, RN_L),),
        # Attention below the threshold nearly everywhere, and on both sides of it.
        tuple(((scale * x,), {}) for scale in (0.1, 100.0)),
        absorbed=(core,),
    )


def _convert_norm(fused: type[nn.Module], module: Any) -> None:
    module.feature_channels = _core(module.rn).num_features
    del module.rn
    adopt(module, fused)


# Inputs


def _size(conv: Any, more: int) -> Iterator[int]:
    """Some windows along each axis, and reflection has what it needs."""
    for axis, (kernel, step, apart) in enumerate(
        zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)
    ):
        pads = 0 if isinstance(conv.padding, str) else conv.padding[axis]
        yield max((kernel - 1) * apart + 1 + 2 * step, pads + 1, more + 1) + axis


def _features(conv: Any, more: int = 0) -> Tensor:
    return noise((2, conv.in_channels, *_size(conv, more)), 0)


def _mask(conv: Any, channels: bool, more: int = 0) -> Tensor:
    """Two: of holes, among them a corner as large as a window, and of soft values."""
    mask = noise((2, conv.in_channels if channels else 1, *_size(conv, more)), 1)
    windows = zip(conv.kernel_size, conv.dilation, strict=True)
    corner = tuple(slice((kernel - 1) * apart + 1) for kernel, apart in windows)
    mask[(slice(None), slice(None), *corner)] = -1.0
    mask[0] = mask[0] > 0
    mask[1] = 0.5 * mask[1].clamp(0, 1)
    return mask


OURS = (PartialConv2d, PartialConv3d, RN_B, RN_L)

FAMILIES = (
    Family("PartialConv2d", ("input", "mask_in"), _nvidia(2)),
    Family("PartialConv3d", ("input", "mask_in"), _nvidia(3)),
    Family("PartialConv2d", ("input", "mask", "return_mask"), _mmagic),
    Family("PartialConv", ("input", "mask"), _sum_conv),
    Family("PConvBlock", ("input", "mask"), _sum_block),
    Family("RN_B", ("x", "mask"), _rn_b),
    Family("RN_L", ("x",), _rn_l),
    Family("RN_binarylabel", ("x", "label"), _label_norm),
)

KNOWN = tuple(dict.fromkeys(family.name for family in FAMILIES))
