"""Our modules behind the calls, and the scales, of the published ones.

A published module becomes one of these by :func:`adopt`: the object stays, and so do its
parameters, buffers, hooks and everything that refers to it; only its class changes. The new class
still derives from the published one, because networks ask ``isinstance`` which call a layer takes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from ..autograd.block_norm import Surround, block_activation
from ..functional import region_norm
from ..nn import PartialConv2d
from ..raw_conv import raw_partial_conv2d
from ..validation import norm_parameter


class Patched(nn.Module if TYPE_CHECKING else object):  # type: ignore[misc]
    """What all replacements share: they load the published state_dict, and can be copied."""

    _fused_class: type[nn.Module]
    _published_class: type[nn.Module]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool,
        missing: list[str], unexpected: list[str], errors: list[str],
    ) -> None:  # fmt: skip
        # Weights, all ones, by which the published module counts valid pixels. (NVIDIA's is a
        # buffer in some copies of its module.)
        for key in getattr(self, "counting", ("weight_maskUpdater",)):
            weight = state_dict.pop(prefix + key, None)
            if weight is not None and not is_ones(weight):
                errors.append(f"{prefix}{key}: expected ones, which only count valid pixels")
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, unexpected, errors
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made at run time: pickle finds it by what it is made of.
        _, _, *state = super().__reduce_ex__(protocol)
        return (_rebuild, (self._fused_class, self._published_class), *state)


def is_ones(weight: Tensor) -> bool:
    """Whether a weight counts, and does nothing else."""
    return bool((weight == 1).all())


_classes: dict[tuple[object, object], type[nn.Module]] = {}


def _patched_class(fused: type[nn.Module], published: type[nn.Module]) -> type[nn.Module]:
    """One class for each pair, as ``type(a) is type(b)`` expects and compilers watch for."""
    if (fused, published) not in _classes:
        members = {"_fused_class": fused, "_published_class": published, "__module__": __name__}
        name, bases = f"Patched{published.__name__}", (Patched, fused, published)
        _classes[fused, published] = type(name, bases, members)
    return _classes[fused, published]


def _rebuild(fused: type[nn.Module], published: type[nn.Module]) -> nn.Module:
    cls = _patched_class(fused, published)
    return cls.__new__(cls)


def published_class(module: nn.Module) -> type[nn.Module]:
    """The class as it was written: without the one that torch's parametrizations put before it."""
    cls = type(module)
    return cls.__bases__[0] if parametrize.is_parametrized(module) else cls


def adopt(module: nn.Module, fused: type[nn.Module]) -> None:
    """Make ``module`` an instance of ``fused`` as well, whose methods then come first."""
    cls = _patched_class(fused, published_class(module))
    if parametrize.is_parametrized(module):
        # Their class holds the properties that compute the parameters: its copy stands before ours.
        own = {k: v for k, v in vars(type(module)).items() if k not in ("__dict__", "__weakref__")}
        cls = type(f"Parametrized{cls.__name__}", (cls,), own)
    module.__class__ = cls


class MaskOrPlainConv2d(PartialConv2d):
    """mmagic's call: the mask is returned on request, and no mask means a plain convolution."""

    counting = ("weight_mask_updater",)

    def forward(  # type: ignore[override]
        self, input: Tensor, mask: Tensor | None = None, return_mask: bool = True
    ) -> Tensor | tuple[Tensor, Any]:
        """``y``, or ``(y, new_mask)`` if there is a mask and ``return_mask``."""
        if mask is None:
            y: Tensor = self._conv_forward(input, self.weight, self.bias)
            return y
        y, new_mask = super().forward(input, mask)
        return (y, new_mask) if return_mask else y


class SumConv2d(PartialConv2d):
    """Partial convolution divided by the sum of the mask, as naoto0804 and its descendants do it.

    With S the sum of the mask over a window and all channels, ``y = conv(x*mask) / S + bias`` and
    the new mask is 1 where S > 0; elsewhere both are 0. That is ours but for the number of cells in
    a window, and for soft masks. The parameters stay in the published scale: the number is taken
    out of the ratio, one plane, so that checkpoints fit, optimizers keep their step, and norms of
    the weight keep their meaning.
    """

    def forward(  # type: ignore[override]
        self, input: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """y and its mask, both (N, C_out, H', W'); mask (N, C_in, H, W), 1 = valid."""
        padding: Any = self.padding
        if self.mask_padding_mode != "zeros":
            along = (padding[1], padding[1], 0, 0)
            input = F.pad(input, along, "circular")
            planes = mask[:, :1] if mask.stride(1) == 0 else mask
            mask = F.pad(planes, along, "circular").expand(-1, mask.shape[1], -1, -1)
            padding = (padding[0], 0)
        raw = raw_partial_conv2d(
            input, mask, self.weight, self.stride, padding, self.dilation, self.groups,
            True, self.eps, False,
        )  # fmt: skip
        # ratio = cells / S * soft with soft = clamp(S, 0, 1).
        # (Not from the weight: reading a parametrized one again computes it again.)
        soft, cells = raw.new_mask, self.in_channels * math.prod(self.kernel_size)
        new_mask = (soft > 0).to(soft.dtype)
        ratio = torch.where(soft > 0, raw.ratio / (cells * soft), 0.0)
        bias = None
        if self.bias is not None:
            bias = norm_parameter("bias", self.bias, raw.x).unsqueeze(0)
        y = block_activation(raw.x, Surround(ratio, new_mask, 1.0), bias)
        return y, new_mask.to(y.dtype).expand(y.shape)


class SumConv(nn.Module):
    """naoto0804's ``PartialConv``: the convolution is a module within."""

    counting = ("mask_conv.weight",)
    input_conv: SumConv2d

    def forward(self, input: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`SumConv2d.forward`."""
        y, new_mask = self.input_conv(input, mask)
        return y, new_mask


class SumConvBlock(nn.Module):
    """climatereconstructionAI's ``PConvBlock``: with its norm and activation, if there are some."""

    counting = ("mask_conv.weight",)
    input_conv: SumConv2d
    bn: nn.Module
    activation: nn.Module
    norm_takes_mask: bool

    def forward(self, input: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`SumConv2d.forward`, then norm and activation."""
        y, new_mask = self.input_conv(input, mask)
        if hasattr(self, "bn"):
            y = self.bn(y, new_mask) if self.norm_takes_mask else self.bn(y)
        if hasattr(self, "activation"):
            y = self.activation(y)
        return y, new_mask


class LabelNorm(nn.Module):
    """geekyutao/RN's ``RN_binarylabel``: both regions of a label, without an affine map."""

    bn_norm: nn.BatchNorm2d

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """x (N, C, H, W) by the regions of label (N, 1, H, W), or the same expanded."""
        plane = label[:, :1] if label.dim() == 4 and label.stride(1) == 0 else label
        return region_norm(x, plane, eps=self.bn_norm.eps)
