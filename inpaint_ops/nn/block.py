"""Partial convolution, norm, activation and the next layer's masking as one operator each way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _modules

from ..autograd.attention_block_norm import attention_block_norm
from ..autograd.block_norm import Surround, block_activation, block_norm, block_norm_fixed
from ..backends.precision import compute_dtype
from ..channel_mask import ChannelMask
from ..masks import Mask, check_plane, normalize_dtype
from ..raw_conv import Raw, raw_partial_conv2d
from ..upsampling import raw_partial_conv2d_upsampled
from ..validation import constant, norm_parameter
from .partial_conv import PartialConv2d, UpsampledPartialConv2d
from .region_norm import RN_B, RN_L, RegionNorm2d, resized


def _has_hooks(module: nn.Module) -> bool:
    """Whether somebody wants to see the module being called, this one or every one."""
    if not torch.compiler.is_compiling() and (
        _modules._global_forward_hooks
        or _modules._global_forward_pre_hooks
        or _modules._global_backward_hooks
        or _modules._global_backward_pre_hooks
        or "forward" in module.__dict__  # replaced on the instance
    ):
        return True
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _slope_of(activation: nn.Module | None) -> float | None:
    """An activation's slope below zero; None: it is none that the operators know."""
    if activation is None:
        return 1.0
    if type(activation) is nn.ReLU:
        return 0.0
    if type(activation) is nn.LeakyReLU and activation.negative_slope >= 0:
        return activation.negative_slope
    return None


def norm_activation(
    norm: RN_B | RN_L, activation: nn.Module | None, x: Tensor, region: Tensor | None = None
) -> Tensor:
    """A region norm behind any convolution, and its activation, in one operator each way.

    The modules are called one by one where they have hooks, span several processes, or are others
    than ``RN_B`` and ``RN_L``, ReLU and LeakyReLU.

    Args:
        norm, activation: the modules; no activation: None.
        x: (N, C, H, W).
        region: (N or 1, 1, H0, W0), 1 = valid, for an `RN_B`, which resizes it by nearest
            neighbour; None for an `RN_L`.

    Returns:
        activation(norm(x)), (N, C, H, W).

    Raises:
        TypeError: an `RN_B` without a region, or an `RN_L` with one.
    """
    if isinstance(norm, RN_B) == (region is None):
        expected = "a mask for an RN_B" if region is None else "None for an RN_L"
        raise TypeError(f"region: expected {expected}, got {type(region).__name__}")
    slope = _slope_of(activation)
    known = type(norm) in (RN_B, RN_L) and norm.process_group is None
    modules = (norm,) if activation is None else (norm, activation)
    if slope is None or not known or any(map(_has_hooks, modules)):
        y: Tensor = norm(x) if region is None else norm(x, _holes(region))
        return y if activation is None else activation(y)
    ratio = x.new_ones((1, 1, *x.shape[2:]), dtype=compute_dtype(x.dtype))
    raw = Raw(x, ratio, torch.ones_like(ratio))
    surround = Surround(raw.ratio, raw.new_mask, constant("negative_slope", slope))
    if isinstance(norm, RN_B):
        return _basic(norm, raw, surround, region)
    return _learned(norm, x, surround)


def _holes(valid: Tensor) -> Tensor:
    """RN_B keeps the polarity of its published code: 1 = hole."""
    return 1 - valid if valid.is_floating_point() else valid == 0


class _Block(nn.Module):
    """What follows the convolution in both kinds of block."""

    conv: PartialConv2d
    mask_output: bool = True

    def __init__(
        self,
        conv: PartialConv2d,
        norm: nn.Module | None,
        activation: nn.Module | None,
        mask_output: bool,
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.activation = activation
        self.mask_output = mask_output

    def _fuses(self) -> bool:
        """Whether the fused operators compute what the modules would; else they are called."""
        conv, norm = self.conv, self.norm
        if not self.mask_output or _slope_of(self.activation) is None:
            return False
        if type(conv) not in (PartialConv2d, UpsampledPartialConv2d):
            return False
        if conv.padding_mode != "zeros" or conv.mask_padding_mode != "zeros":
            return False
        if isinstance(conv.padding, str) or (conv.bias is not None and norm is not None):
            return False
        if any(_has_hooks(m) for m in (conv, norm, self.activation) if m is not None):
            return False
        if norm is None or type(norm) is nn.BatchNorm2d:
            return True
        return type(norm) in (RN_B, RN_L) and norm.process_group is None

    def _separate(
        self, y: Tensor, new_mask: Tensor, region: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Norm, activation and mask by their modules."""
        if isinstance(self.norm, RN_B):
            y = self.norm(y, _holes(new_mask if region is None else region))
        elif isinstance(self.norm, RegionNorm2d):
            y = self.norm(y, new_mask if region is None else resized(region, y))
        elif self.norm is not None:
            y = self.norm(y)
        if self.activation is not None:
            y = self.activation(y)
        # With a bias the convolution masks its result, and these activations keep that.
        masked = self.norm is None and self.conv.bias is not None
        if self.mask_output and not (masked and _slope_of(self.activation) is not None):
            y = y * normalize_dtype(new_mask, y.dtype).to(y.dtype)
        return y, new_mask

    def _fused(self, raw: Raw, mask: Tensor, region: Tensor | None) -> tuple[Tensor, Tensor]:
        """Norm, activation and mask in the operators that follow the convolution."""
        slope, norm = _slope_of(self.activation), self.norm
        assert slope is not None
        surround = Surround(raw.ratio, raw.new_mask, constant("negative_slope", slope))
        if norm is None:
            bias = self.conv.bias
            wide = None if bias is None else norm_parameter("bias", bias, raw.x).unsqueeze(0)
            y = block_activation(raw.x, surround, wide)
        elif isinstance(norm, RN_B):
            y = _basic(norm, raw, surround, region)
        elif isinstance(norm, RN_L):
            y = _learned(norm, raw.x, surround)
        else:
            assert isinstance(norm, nn.BatchNorm2d)
            y = _batch(norm, raw.x, surround)
        new_mask = raw.new_mask
        return y, new_mask if new_mask.dtype == mask.dtype else new_mask.to(mask.dtype)


def _basic(norm: RN_B, raw: Raw, surround: Surround, region: Tensor | None) -> Tensor:
    valid = raw.new_mask.detach()  # the compiler takes no tensor twice
    if region is not None:
        valid = resized(region, raw.x)
        check_plane("region", valid, raw.x)
        valid = normalize_dtype(valid, raw.x.dtype)
    weight = 1 + torch.stack([norm.background_gamma, norm.foreground_gamma])
    bias = (norm.foreground_beta + norm.background_beta).expand(2, -1)
    weight = norm_parameter("weight", weight, raw.x)
    bias = norm_parameter("bias", bias, raw.x)
    return block_norm(raw.x, surround, valid, weight, bias, 1e-5, True)[0]


def _learned(norm: RN_L, x: Tensor, surround: Surround) -> Tensor:
    gamma, beta = norm.sa.gamma_conv, norm.sa.beta_conv
    if TYPE_CHECKING:
        assert gamma.bias is not None
        assert beta.bias is not None
    parameters = (norm.sa.conv1.weight, gamma.weight, gamma.bias, beta.weight, beta.bias)
    wide = tuple(norm_parameter("sa", p, x) for p in parameters)
    return attention_block_norm(x, surround, wide, constant("threshold", norm.threshold), 1e-5)


def _batch(norm: nn.BatchNorm2d, x: Tensor, surround: Surround) -> Tensor:
    weight = None if norm.weight is None else norm_parameter("weight", norm.weight, x).unsqueeze(0)
    bias = None if norm.bias is None else norm_parameter("bias", norm.bias, x).unsqueeze(0)
    known = norm.running_mean is not None and norm.running_var is not None
    if known and not norm.training:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean = norm.running_mean.double().view(1, 1, -1)
        rstd = (norm.running_var.double() + norm.eps).rsqrt().view(1, 1, -1)
        return block_norm_fixed(x, surround, weight, bias, mean, rstd)
    count = x.shape[0] * x.shape[2] * x.shape[3]
    if count == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {x.shape}"
        )
    eps = constant("eps", norm.eps)
    y, mean, rstd = block_norm(x, surround, None, weight, bias, eps, False)
    if norm.training and norm.track_running_stats and known and count > 0:
        _update_running(norm, mean.view(-1), rstd.view(-1), count, eps)
    return y


@torch.no_grad()
def _update_running(
    norm: nn.BatchNorm2d, mean: Tensor, rstd: Tensor, count: int, eps: float
) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    batches = norm.num_batches_tracked
    if batches is not None:
        batches.add_(1)
    unbiased = (rstd.pow(-2) - eps).clamp_min(0) * (count / (count - 1))
    if norm.momentum is not None:
        step = mean.new_tensor(constant("momentum", norm.momentum))
    elif batches is not None:  # the cumulative average
        step = batches.to(torch.float64).reciprocal()
    else:
        step = mean.new_zeros(())
    for running, found in ((norm.running_mean, mean), (norm.running_var, unbiased)):
        running.copy_(torch.lerp(running.double(), found, step))


class PartialConvBlock(_Block):
    """Partial convolution, then normalization, then activation, then the new mask.

    The same as calling the modules one after the other and multiplying by the new mask (so that the
    next convolution need not mask its input; a bias without a norm has been masked already), in
    fewer passes over memory: the ratio of the partial
    convolution is applied where the norm reads, activation and mask where it writes, and only the
    raw result of the convolution is kept for the gradient. Liu et al. (2018), equations 1 and 2;
    Yu et al. (2020), equations 2 to 7 and section 3.3.

    The modules stay modules: state_dict keys are ``conv.*``, ``norm.*`` and ``activation.*``. They
    are called one by one where the fused form does not hold: with hooks on them or on all modules,
    a replaced ``forward``, parametrizations, another norm than ``nn.BatchNorm2d``, ``RN_B`` or
    ``RN_L`` (or one whose statistics span several processes), another activation than ReLU and
    LeakyReLU, another padding than zeros, a bias before a norm, ``mask_output=False``, or no mask.

    Args:
        conv: with ``return_mask=True``.
        norm: of one argument, or an `RN_B` or `RegionNorm2d`, which get the regions; or None.
        activation: or None.
        mask_output: False: no multiplication by the new mask at the end.
    """

    def __init__(
        self,
        conv: PartialConv2d,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
        mask_output: bool = True,
    ) -> None:
        if not isinstance(conv, PartialConv2d) or not conv.return_mask:
            raise TypeError(
                "conv: expected a PartialConv2d with return_mask=True, got "
                + (type(conv).__name__ if not isinstance(conv, PartialConv2d) else "one without")
            )
        super().__init__(conv, norm, activation, mask_output)

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        region: Tensor | None = None,
        masked_input: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Convolve, normalize, activate, mask.

        Args:
            x: (N, C_in, H, W). What lies under a hole is never read.
            mask: 1 = valid; (N or 1, 1, H, W), or a `ChannelMask` with one plane per group of
                channels.
            region: (N or 1, 1, H0, W0), 1 = valid: the regions of an `RN_B` or `RegionNorm2d`,
                resized to the output by nearest neighbour. None: the updated mask.
            masked_input: x has been multiplied by the mask already, as another block's output has.

        Returns:
            The output (N, C_out, H', W') and its updated mask (N or 1, 1, H', W').
        """
        given = mask.planes if isinstance(mask, ChannelMask) else mask
        conv = self.conv
        if not self._fuses() or given is None:
            y, updated = conv(x, mask, masked_input)
            new_mask: Tensor = updated.planes if isinstance(updated, ChannelMask) else updated
            return self._separate(y, new_mask[:, :1], region)
        raw = raw_partial_conv2d(
            x, mask, conv.weight, conv.stride, conv.padding, conv.dilation, conv.groups,
            conv.multi_channel, conv.eps, masked_input,
        )  # fmt: skip
        return self._fused(raw, given, region)


class UpsampledPartialConvBlock(_Block):
    """A decoder's block: enlarge to the skip's size, join, then as :class:`PartialConvBlock`.

    Args:
        conv: see :class:`UpsampledPartialConv2d`.
        norm, activation, mask_output: as there.
    """

    def __init__(
        self,
        conv: UpsampledPartialConv2d,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
        mask_output: bool = True,
    ) -> None:
        if not isinstance(conv, UpsampledPartialConv2d):
            raise TypeError(f"conv: expected UpsampledPartialConv2d, got {type(conv).__name__}")
        super().__init__(conv, norm, activation, mask_output)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        skip: Tensor,
        skip_mask: Tensor,
        region: Tensor | None = None,
        masked_input: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Enlarge, join, convolve, normalize, activate, mask.

        Args:
            x, mask: (N, C1, h, w) and (N or 1, 1, h, w), 1 = valid.
            skip, skip_mask: (N, C2, H, W) and (N or 1, 1, H, W).
            region, masked_input: as in :class:`PartialConvBlock`, the latter of x and skip.

        Returns:
            The output (N, C_out, H', W') and its updated mask (N or 1, 1, H', W').
        """
        conv = self.conv
        if not self._fuses():
            y, new_mask = conv(x, mask, skip, skip_mask, masked_input)
            return self._separate(y, new_mask, region)
        raw = raw_partial_conv2d_upsampled(
            x, mask, skip, skip_mask, conv.weight, conv.kernel_size[0] // 2, conv.eps, masked_input
        )
        return self._fused(raw, mask, region)
