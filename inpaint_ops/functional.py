"""The public functions: validation, shapes and errors, then the operators.

Mask polarity is 1 = valid, 0 = hole, everywhere in this module. A mask gets no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from . import synchronized
from .autograd import attention_region_norm as _attention
from .autograd import partial_conv as _partial_conv
from .autograd.common import differentiates
from .autograd.region_norm import RegionNorm, region_norm_forward
from .channel_mask import ChannelMask
from .masks import Mask, Planes, check_mask, check_plane, normalize_dtype, planes_for
from .padding import check_padding_mode, pad, wrap_planes, wrapped_axes
from .validation import (
    autocast,
    check_parameters,
    check_process_group,
    check_tensor,
    check_weight,
    check_x,
    constant,
    norm_parameter,
    numbers,
    window,
)

_mask_update = torch.ops.inpaint_ops.mask_update.default


def _partial_conv_nd(
    axes: int,
    x: Tensor,
    mask: Mask | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int] | str,
    dilation: int | Sequence[int],
    groups: int,
    multi_channel: bool,
    eps: float,
    padding_mode: str,
    mask_padding_mode: str | Sequence[str],
    masked_input: bool,
) -> tuple[Tensor, Mask]:
    check_x(x, axes)
    check_parameters(weight, bias)
    cast, cast_weight, bias = autocast(x, weight, bias)
    assert cast is not None
    assert cast_weight is not None
    x, weight = cast, cast_weight
    check_weight(x, weight, bias, groups)
    check_padding_mode(padding_mode)
    wrapped = wrapped_axes(mask_padding_mode, axes)
    form = planes_for(mask, x, multi_channel)
    strides, before, extra, dilations = window(
        "x", x.shape[2:], weight.shape[2:], stride, padding, dilation
    )
    batch = x.shape[0]
    x, planes, masked_input, conv_padding, mask_padding = pad(
        x, form, before, extra, padding_mode, wrapped, masked_input
    )
    geometry = _partial_conv.Geometry(
        form.channels, strides, conv_padding, mask_padding, dilations, groups, form.multi_channel,
        masked_input, constant("eps", eps),
    )  # fmt: skip
    if differentiates(x, weight, bias):
        y, new_mask, _ = _partial_conv.PartialConv.apply(x, planes, weight, bias, *geometry)
    else:
        y, new_mask, _ = _partial_conv.partial_conv_forward(x, planes, weight, bias, geometry)
    return y, _new_mask(new_mask, mask, form, batch, weight.shape[0])


def _new_mask(
    new_mask: Tensor, mask: Mask | None, form: Planes, batch: int, out_channels: int
) -> Mask:
    """The updated mask in the form and dtype of the one that came in."""
    if isinstance(mask, ChannelMask):
        return ChannelMask(_as_dtype_of(new_mask, mask.planes), (out_channels,))
    if mask is not None:
        new_mask = _as_dtype_of(new_mask, mask)
    if not form.multi_channel:
        return new_mask
    rows = batch if mask is None else new_mask.shape[0]
    return new_mask.expand(rows, out_channels, *new_mask.shape[2:])


def _as_dtype_of(new_mask: Tensor, mask: Tensor) -> Tensor:
    return new_mask if new_mask.dtype == mask.dtype else new_mask.to(mask.dtype)


def partial_conv2d(
    x: Tensor,
    mask: Mask | None,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    multi_channel: bool = False,
    eps: float = 1e-8,
    padding_mode: str = "zeros",
    mask_padding_mode: str | Sequence[str] = "zeros",
    masked_input: bool = False,
) -> tuple[Tensor, Mask]:
    """Partial convolution and the updated mask (Liu et al. 2018, equations 1 and 2).

    With S the sum of the mask over a window and K the number of its cells::

        new   = clamp(S, 0, 1)
        ratio = K / (S + eps) * new
        y     = (conv(x*mask) * ratio + bias) * new     (without bias: conv(x*mask) * ratio)

    Padded cells count as holes, whatever ``padding_mode`` pads the feature with, and K is constant,
    also at the border. With ``groups`` the window still counts all input channels. A hole is
    selected away, not multiplied: NaN or Inf under it reaches neither output nor gradient. Counts
    and ratios are float32 (float64 for float64).

    Args:
        x: (N, C_in, H, W), floating; contiguous and channels-last run without a copy.
        mask: None (all valid), (N or 1, 1, H, W), (N or 1, C_in, H, W) with ``multi_channel``, or
            a :class:`ChannelMask`. 1 = valid, 0 = hole; floating masks may be soft, in bool and
            integer masks everything but 0 is valid. Gets no gradient.
        weight: (C_out, C_in / groups, kh, kw), dtype of x.
        bias: (C_out,), dtype of x, or None.
        stride, padding, dilation, groups: as ``F.conv2d``; padding also 'same' or 'valid'.
        multi_channel: the window counts channels too (K = C_in * kh * kw). A ChannelMask always
            does.
        eps: added to S.
        padding_mode: "zeros", "reflect", "replicate" or "circular", for the feature.
        mask_padding_mode: "zeros", or "circular" for data that wraps, such as longitude: feature
            and mask both continue at the other end. One for all axes, or one for each.
        masked_input: x has been multiplied by the mask already, as the output of a
            :class:`PartialConvBlock` has; no gradient is masked either.

    Returns:
        y (N, C_out, H', W') and the new mask in the mask's dtype: (N or 1, 1, H', W'); with
        ``multi_channel`` expanded to C_out channels without a copy; a ChannelMask of one plane if
        ``mask`` is one.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or number; the message names the argument.
    """
    return _partial_conv_nd(
        2, x, mask, weight, bias, stride, padding, dilation, groups, multi_channel, eps,
        padding_mode, mask_padding_mode, masked_input,
    )  # fmt: skip


def partial_conv1d(
    x: Tensor,
    mask: Mask | None,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    multi_channel: bool = False,
    eps: float = 1e-8,
    padding_mode: str = "zeros",
    mask_padding_mode: str | Sequence[str] = "zeros",
    masked_input: bool = False,
) -> tuple[Tensor, Mask]:
    """:func:`partial_conv2d` over one spatial axis.

    Args:
        x: (N, C_in, L), floating.
        mask: None, (N or 1, 1, L), (N or 1, C_in, L) with ``multi_channel``, or a ChannelMask.
        weight: (C_out, C_in / groups, k).
        bias, stride, padding, dilation, groups, multi_channel, eps, padding_mode,
            mask_padding_mode, masked_input: as there.

    Returns:
        y (N, C_out, L') and the new mask, as there.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or number; the message names the argument.
    """
    return _partial_conv_nd(
        1, x, mask, weight, bias, stride, padding, dilation, groups, multi_channel, eps,
        padding_mode, mask_padding_mode, masked_input,
    )  # fmt: skip


def partial_conv3d(
    x: Tensor,
    mask: Mask | None,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    multi_channel: bool = False,
    eps: float = 1e-8,
    padding_mode: str = "zeros",
    mask_padding_mode: str | Sequence[str] = "zeros",
    masked_input: bool = False,
) -> tuple[Tensor, Mask]:
    """:func:`partial_conv2d` over three spatial axes.

    Args:
        x: (N, C_in, D, H, W), floating; contiguous and channels-last (3d) run without a copy.
        mask: None, (N or 1, 1, D, H, W), (N or 1, C_in, D, H, W) with ``multi_channel``, or a
            ChannelMask.
        weight: (C_out, C_in / groups, kd, kh, kw).
        bias, stride, padding, dilation, groups, multi_channel, eps, padding_mode,
            mask_padding_mode, masked_input: as there.

    Returns:
        y (N, C_out, D', H', W') and the new mask, as there.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or number; the message names the argument.
    """
    return _partial_conv_nd(
        3, x, mask, weight, bias, stride, padding, dilation, groups, multi_channel, eps,
        padding_mode, mask_padding_mode, masked_input,
    )  # fmt: skip


def update_mask(
    mask: Mask,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    mask_padding_mode: str | Sequence[str] = "zeros",
) -> Tensor:
    """The mask after a partial convolution of this window (Liu et al. 2018, equation 2).

    Args:
        mask: (N, C, ...) with one to three spatial axes, or a :class:`ChannelMask`; 1 = valid.
        kernel_size, stride, padding, dilation: of the convolution, a number or one for each axis.
        mask_padding_mode: as in :func:`partial_conv2d`.

    Returns:
        (N, 1, ...) in the mask's dtype: clamp(S, 0, 1), S the sum over window and channels.

    Raises:
        TypeError: ``mask`` is no mask.
        ValueError: a wrong shape or number; the message names the argument.
    """
    check_mask(mask)
    planes = mask.planes if isinstance(mask, ChannelMask) else mask
    axes = planes.dim() - 2
    if not 1 <= axes <= 3:
        raise ValueError(
            f"mask: expected (N, C, ...) with one to three spatial axes, got {tuple(planes.shape)}"
        )
    if planes.shape[1] < 1:
        raise ValueError(f"mask: expected at least one channel, got {tuple(planes.shape)}")
    channels = list(mask.channels) if isinstance(mask, ChannelMask) else [1] * planes.shape[1]
    dtype = torch.float64 if planes.dtype == torch.float64 else torch.float32
    kernel = numbers("kernel_size", kernel_size, axes, 1)
    strides, before, extra, dilations = window(
        "mask", planes.shape[2:], kernel, stride, padding, dilation
    )
    values = normalize_dtype(planes, planes.dtype if planes.is_floating_point() else dtype)
    values, before = wrap_planes(values, before, extra, wrapped_axes(mask_padding_mode, axes))
    new_mask, _ = _mask_update(values, channels, kernel, strides, before, dilations, 1e-8, dtype)
    return _as_dtype_of(new_mask, planes)


def region_norm(
    x: Tensor,
    mask: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    stats: str = "batch",
    scale_eps: bool = True,
    process_group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Region normalization (Yu et al. 2020): valid and hole pixels by statistics of their own.

    For region r with biased variance::

        y = (x - mean_r) / sqrt(var_r + eps_r) * weight_r + bias_r

    There are no running statistics: training equals evaluation. A region without pixels contributes
    nothing. Statistics are summed stably (means far from zero are no trouble) and kept in float64.

    Args:
        x: (N, C, ...) with one to three spatial axes, floating.
        mask: (N or 1, 1, ...), 1 = valid, bool, integer (not 0 is valid) or floating (soft labels
            weigh both regions). Gets no gradient.
        weight: (2, C), row 0 for valid pixels, row 1 for holes, or None for 1; dtype of x, or
            float32 where x is in half precision.
        bias: (2, C) likewise, or None for 0.
        eps: added to the variance.
        stats: "batch" (over N and space) or "instance" (over space).
        scale_eps: eps_r = eps * pixels / pixels of the region, as the published code computes it
            (it matters for small activations); False: plain eps.
        process_group: statistics over the batches of all processes of this group (see
            :mod:`synchronized`), only with ``stats="batch"``; None: of this process.

    Returns:
        y, shape, dtype and memory order of x.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device or option; the message names the argument.
    """
    if not isinstance(x, Tensor) or not 3 <= x.dim() <= 5:
        check_x(x, 2)
    check_x(x, x.dim() - 2)
    check_plane("mask", mask, x)
    if stats not in ("batch", "instance"):
        raise ValueError(f"stats: expected 'batch' or 'instance', got {stats!r}")
    check_process_group(process_group)
    if process_group is not None and stats == "instance":
        raise ValueError("process_group: expected None with stats='instance', got a group")
    for name, affine in (("weight", weight), ("bias", bias)):
        if affine is not None:
            check_tensor(name, affine)
            if affine.shape != (2, x.shape[1]):
                raise ValueError(
                    f"{name}: expected shape (2, {x.shape[1]}), got {tuple(affine.shape)}"
                )
    weight = None if weight is None else norm_parameter("weight", weight, x)
    bias = None if bias is None else norm_parameter("bias", bias, x)
    planes = normalize_dtype(mask, x.dtype)
    instance, eps = stats == "instance", constant("eps", eps)
    if process_group is not None:
        return synchronized.region_norm(x, planes, weight, bias, eps, scale_eps, process_group)
    if differentiates(x, weight, bias):
        y: Tensor = RegionNorm.apply(x, planes, weight, bias, eps, scale_eps, instance)[0]
    else:
        y = region_norm_forward(x, planes, weight, bias, eps, scale_eps, instance)[0]
    return y


def attention_region_norm(
    x: Tensor,
    attention_weight: Tensor,
    gamma_weight: Tensor,
    gamma_bias: Tensor,
    beta_weight: Tensor,
    beta_bias: Tensor,
    threshold: float = 0.8,
    eps: float = 1e-5,
    process_group: dist.ProcessGroup | None = None,
) -> Tensor:
    """The learned form of region normalization (RN_L; Yu et al. 2020, section 3.3).

    With a = sigmoid(conv(cat(mean over C, max over C))), pixels with a >= threshold are the valid
    region (no gradient through the threshold), and
    y = normalized * (1 + conv_gamma(a)) + conv_beta(a).

    Args:
        x: (N, C, H, W), floating.
        attention_weight: (1, 2, k, k), odd k; no bias.
        gamma_weight, beta_weight: (1, 1, k, k), odd k.
        gamma_bias, beta_bias: (1,). All five in the dtype of x, or float32 where x is in half
            precision; the maps are computed in float32 then.
        threshold: of the attention map, in (0, 1).
        eps: as in :func:`region_norm`, scaled by the regions' sizes.
        process_group: as in :func:`region_norm`.

    Returns:
        y, shape, dtype and memory order of x.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or device; the message names the argument.
    """
    check_x(x, 2)
    if x.shape[1] < 1:
        raise ValueError(f"x: expected at least one channel, got shape {tuple(x.shape)}")
    parameters = (attention_weight, gamma_weight, gamma_bias, beta_weight, beta_bias)
    names = ("attention_weight", "gamma_weight", "gamma_bias", "beta_weight", "beta_bias")
    for name, parameter in zip(names, parameters, strict=True):
        check_tensor(name, parameter)
    for name, weight, planes in (
        ("attention_weight", attention_weight, 2),
        ("gamma_weight", gamma_weight, 1),
        ("beta_weight", beta_weight, 1),
    ):
        if (
            weight.dim() != 4
            or weight.shape[:2] != (1, planes)
            or not all(k % 2 for k in weight.shape[2:])
        ):
            raise ValueError(
                f"{name}: expected (1, {planes}, k, k) with odd k, got {tuple(weight.shape)}"
            )
    for name, bias in (("gamma_bias", gamma_bias), ("beta_bias", beta_bias)):
        if bias.shape != (1,):
            raise ValueError(f"{name}: expected shape (1,), got {tuple(bias.shape)}")
    check_process_group(process_group)
    threshold, eps = constant("threshold", threshold), constant("eps", eps)
    wide = (norm_parameter(name, p, x) for name, p in zip(names, parameters, strict=True))
    tensors = (x, *wide)
    if process_group is not None:
        return synchronized.attention_region_norm(tensors, threshold, eps, process_group)
    if differentiates(*tensors):
        y: Tensor = _attention.AttentionRegionNorm.apply(*tensors, threshold, eps)[0]
    else:
        y = _attention.attention_region_norm_forward(*tensors, threshold, eps)[0]
    return y
