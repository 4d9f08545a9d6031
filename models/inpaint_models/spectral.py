"""Convolutions under spectral normalization."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def spectral_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    bias: bool = False,
    std: float | None = None,
) -> nn.Conv2d:
    """A 2-D convolution whose weight is divided by its largest singular value (Miyato et al. 2018).

    The parameter counts once, as `parametrizations.weight.original`. Every forward in training
    refines the estimate of the singular value, so two of them differ a little.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, bias: as of `nn.Conv2d`.
        std: the weight starts as N(0, std^2) and the bias as 0; None: PyTorch's defaults. The
            output does not depend on it, but how far an optimizer's step reaches does.
    """
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        bias=bias,
    )
    if std is not None:
        nn.init.normal_(conv.weight, 0.0, std)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    # After the initialization, because it starts with an estimate for the weight it finds.
    spectral_norm(conv)
    return conv
