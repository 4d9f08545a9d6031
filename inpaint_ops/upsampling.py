"""Partial convolution of an enlarged map beside a skip: the decoder's step in U-Nets.

Where it pays, neither the enlarged map nor the concatenation is made. A 3x3 convolution of a map
that was enlarged by nearest neighbour is a transposed convolution of the small map, stride 2, whose
4x4 windows hold sums of the 3x3 weights::

    conv(up2(x), W, padding=1) = conv_transpose(x, K, stride=2, padding=1)
    K = S W S^T,   S = [[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]]

with 16 multiplications per small pixel instead of 36. Masks commute with the enlargement, so x is
masked while it is small.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .autograd.apply_mask import apply_mask
from .backends import dispatch
from .channel_mask import ChannelMask
from .functional import partial_conv2d
from .masks import check_plane, normalize_dtype
from .validation import autocast, check_parameters, check_skip, check_x, constant

_mask_update = torch.ops.inpaint_ops.mask_update.default

_SPREAD = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))

# Output pixels from which on the transposed convolution was the faster form, forward and backward,
# in both memory orders (two CPU cores, oneDNN): 0.7 of the time at 32x32, 0.15 at 256x256 with 3
# outputs; at 16x16 it was 0.9 to 1.3, below up to 3.
_LEAST_PIXELS = 32 * 32


def partial_conv2d_upsampled(
    x: Tensor,
    mask: Tensor,
    skip: Tensor,
    skip_mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    padding: int = 1,
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor]:
    """Partial convolution of x, enlarged to the skip's size, beside the skip.

    The same as this, mostly without making the enlarged map and the concatenation::

        size = skip.shape[2:]
        joined = torch.cat([F.interpolate(x, size, mode="nearest"), skip], 1)
        planes = torch.cat([F.interpolate(mask, size, mode="nearest"), skip_mask], 1)
        mask = ChannelMask(planes, (x.shape[1], skip.shape[1]))
        y, new_mask = partial_conv2d(joined, mask, weight, bias, padding=padding)

    (Liu et al. 2018, section 3.2: "concatenating two feature maps and two masks").

    Args:
        x: (N, C1, h, w), floating.
        mask: (N or 1, 1, h, w), 1 = valid, bool, integer or floating. Gets no gradient.
        skip: (N, C2, H, W), dtype of x.
        skip_mask: (N or 1, 1, H, W), dtype of mask.
        weight: (C_out, C1 + C2, kh, kw), dtype of x; the first C1 channels belong to x.
        bias: (C_out,) or None.
        padding: on all sides.
        eps: added to the window's sum.

    Returns:
        y (N, C_out, H', W') and the new mask (N or 1, 1, H', W') in the mask's dtype.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or device; the message names the argument.
    """
    check_x(x, 2)
    check_x(skip, 2, "skip")
    check_parameters(weight, bias)
    x, skip, weight, bias = autocast(x, skip, weight, bias)  # type: ignore[assignment]
    check_skip(x, skip, weight, bias)
    check_plane("mask", mask, x)
    check_plane("skip_mask", skip_mask, skip, "skip")
    if skip_mask.dtype != mask.dtype:
        raise TypeError(f"skip_mask: expected {mask.dtype} (as mask), got {skip_mask.dtype}")
    planes = _join_masks(mask, skip_mask, skip)
    channels = (x.shape[1], skip.shape[1])
    if not _as_transposed(x, skip, weight, padding):
        joined = torch.cat([F.interpolate(x, size=skip.shape[2:], mode="nearest"), skip], 1)
        y, new = partial_conv2d(
            joined, ChannelMask(planes, channels), weight, bias, padding=padding, eps=eps
        )
        assert isinstance(new, ChannelMask)
        return y, new.planes

    deep, beside = weight[:, : x.shape[1]], weight[:, x.shape[1] :]
    small = apply_mask(x, normalize_dtype(mask, x.dtype), [x.shape[1]])
    large = apply_mask(skip, normalize_dtype(skip_mask, x.dtype), [skip.shape[1]])
    raw = F.conv_transpose2d(small, _spread(deep), None, 2, 1)
    raw = raw + F.conv2d(large, beside, None, 1, 1)
    new_mask, ratio = _mask_update(
        normalize_dtype(planes, x.dtype), channels, (3, 3), (1, 1), (1, 1), (1, 1),
        constant("eps", eps), x.dtype,
    )  # fmt: skip
    y = raw * ratio
    if bias is not None:
        y = (y + bias.view(1, -1, 1, 1)) * new_mask
    return y, new_mask if new_mask.dtype == mask.dtype else new_mask.to(mask.dtype)


def _join_masks(mask: Tensor, skip_mask: Tensor, skip: Tensor) -> Tensor:
    """Both masks as planes of the skip's size, enlarged as the features are."""
    values = mask if mask.is_floating_point() else (mask != 0).to(torch.uint8)
    large = F.interpolate(values, size=skip.shape[2:], mode="nearest").to(mask.dtype)
    batch = skip_mask.shape[0] if mask.shape[0] == 1 else mask.shape[0]
    pair = [m.expand(batch, *m.shape[1:]) for m in (large, skip_mask)]
    return torch.cat(pair, 1)


def _as_transposed(x: Tensor, skip: Tensor, weight: Tensor, padding: int) -> bool:
    """Whether the identity holds and was measured to pay.

    Not in an exported program, which would be bound to one side of the threshold, nor on a backend
    that was asked for by name and is not the one measured.
    """
    if torch.compiler.is_exporting():
        return False
    if not torch.compiler.is_compiling() and dispatch.current() not in (dispatch.AUTO, "cpu"):
        return False
    height, width = skip.shape[2:]
    return (
        weight.shape[2:] == (3, 3)
        and padding == 1
        and height == 2 * x.shape[2]
        and width == 2 * x.shape[3]
        and height * width >= _LEAST_PIXELS
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
    )


def _spread(weight: Tensor) -> Tensor:
    """The 3x3 windows (C_out, C, 3, 3) as those of the transposed convolution, (C, C_out, 4, 4)."""
    out, inputs = weight.shape[:2]
    spread = weight.new_tensor(_SPREAD)
    windows = weight.reshape(out * inputs, 9) @ torch.kron(spread, spread).t()
    return windows.view(out, inputs, 4, 4).transpose(0, 1).contiguous()
