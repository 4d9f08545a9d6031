"""Partial convolution as a drop-in for NVIDIA's modules and for torch's convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..functional import partial_conv1d, partial_conv2d, partial_conv3d
from ..masks import Mask
from ..padding import wrapped_axes
from ..upsampling import partial_conv2d_upsampled

if TYPE_CHECKING:
    from torch.nn.modules.conv import _ConvNd as _Base
else:
    _Base = object


class _PartialConv(_Base):
    """What the modules of one to three axes share; a convolution of torch stands behind it."""

    _function: Callable[..., tuple[Tensor, Mask]]

    def __init__(
        self,
        *args: Any,
        multi_channel: bool = False,
        return_mask: bool = False,
        eps: float = 1e-8,
        mask_padding_mode: str | Sequence[str] = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        wrapped_axes(mask_padding_mode, len(self.kernel_size))  # raises if it is none
        self.multi_channel = multi_channel
        self.return_mask = return_mask
        self.eps = eps
        self.mask_padding_mode = mask_padding_mode

    def forward(
        self, input: Tensor, mask_in: Mask | None = None, masked_input: bool = False
    ) -> Tensor | tuple[Tensor, Mask]:
        """Convolve the valid pixels.

        Args:
            input: (N, C_in, ...).
            mask_in: None, (N or 1, 1, ...), (N or 1, C_in, ...) with ``multi_channel``, or a
                ChannelMask; 1 = valid.
            masked_input: ``input`` has been multiplied by the mask already.

        Returns:
            y (N, C_out, ...), or ``(y, new_mask)`` with ``return_mask``.
        """
        y, new_mask = type(self)._function(
            input,
            mask_in,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.multi_channel,
            self.eps,
            self.padding_mode,
            self.mask_padding_mode,
            masked_input,
        )
        return (y, new_mask) if self.return_mask else y

    def extra_repr(self) -> str:
        """The arguments of torch's convolution and of this module."""
        text = (
            f"{super().extra_repr()}, multi_channel={self.multi_channel}, "
            f"return_mask={self.return_mask}"
        )
        if self.mask_padding_mode != "zeros":
            text += f", mask_padding_mode={self.mask_padding_mode!r}"
        return text


class PartialConv1d(_PartialConv, nn.Conv1d):  # type: ignore[misc]
    """:class:`PartialConv2d` over one spatial axis: ``nn.Conv1d`` with a mask (N, 1, L)."""

    _function = staticmethod(partial_conv1d)


class PartialConv2d(_PartialConv, nn.Conv2d):  # type: ignore[misc]
    """Partial convolution (Liu et al. 2018); drop-in for NVIDIA/partialconv's module.

    Takes the arguments of ``nn.Conv2d`` and four keyword-only ones, and has its state_dict: keys
    ``weight`` and ``bias``. Semantics as in :func:`inpaint_ops.partial_conv2d`.

    Kept from the published module: padded cells count as holes; without a mask this is
    "partial-convolution-based padding"; the window ignores ``groups``; ``padding_mode`` pads the
    feature, while the mask is padded by holes. Different, because the published module is wrong
    there: no mask of an earlier call is reused; half precision gives no NaN in empty windows; NaN
    under a hole stays there; a C-channel mask costs no C_in x C_out convolution.

    Args:
        multi_channel: the mask has one plane per input channel.
        return_mask: return ``(y, new_mask)`` instead of ``y``.
        eps: added to the window's sum.
        mask_padding_mode: "zeros", or "circular" where feature and mask wrap; one for all axes, or
            one for each.
    """

    _function = staticmethod(partial_conv2d)


class PartialConv3d(_PartialConv, nn.Conv3d):  # type: ignore[misc]
    """:class:`PartialConv2d` over three spatial axes; drop-in for NVIDIA's ``PartialConv3d``."""

    _function = staticmethod(partial_conv3d)


class UpsampledPartialConv2d(PartialConv2d):
    """Partial convolution of an enlarged map beside a skip: the decoder's step in U-Nets.

    Parameters and state_dict of a :class:`PartialConv2d` that takes the concatenation; semantics as
    in :func:`inpaint_ops.partial_conv2d_upsampled`, which avoids it.

    Args:
        deep_channels: C1, of the map to enlarge.
        skip_channels: C2, of the skip.
        out_channels: C_out.
        kernel_size: side of the window, odd; the padding is half of it.
        bias: whether there is one.
        eps: added to the window's sum.
    """

    def __init__(
        self,
        deep_channels: int,
        skip_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        bias: bool = True,
        eps: float = 1e-8,
    ) -> None:
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected a positive odd number, got {kernel_size}")
        super().__init__(
            deep_channels + skip_channels,
            out_channels,
            kernel_size,
            padding=kernel_size // 2,
            bias=bias,
            multi_channel=True,
            return_mask=True,
            eps=eps,
        )

    def forward(  # type: ignore[override]
        self,
        input: Tensor,
        mask_in: Tensor,
        skip: Tensor,
        skip_mask: Tensor,
        masked_input: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Enlarge, join and convolve.

        Args:
            input: (N, C1, h, w).
            mask_in: (N or 1, 1, h, w), 1 = valid.
            skip: (N, C2, H, W).
            skip_mask: (N or 1, 1, H, W).
            masked_input: ``input`` and ``skip`` have been multiplied by their masks already.

        Returns:
            y (N, C_out, H', W') and the new mask (N or 1, 1, H', W').
        """
        return partial_conv2d_upsampled(
            input,
            mask_in,
            skip,
            skip_mask,
            self.weight,
            self.bias,
            self.kernel_size[0] // 2,
            self.eps,
            masked_input,
        )
