"""Other people's packages for the same operators, measured where they are installed."""

from __future__ import annotations

import importlib.metadata

from torch import Tensor, nn

TORCH_PCONV = "torch-pconv"
PACKAGES = (TORCH_PCONV,)
"""What can be measured, by the name of its distribution."""


def version(name: str) -> str | None:
    """The installed version of a peer, None without one. It is not imported for that."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def torch_pconv(
    weight: Tensor, bias: Tensor, stride: int, padding: int
) -> tuple[nn.Module, Tensor, Tensor]:
    """torch-pconv's layer with these parameters, and the two leaves whose gradients are wanted.

    Its call is ``layer(x, mask)`` with the mask as (N, H, W): one plane for all channels.
    """
    from torch_pconv import PConv2d

    out_channels, in_channels, kernel, _ = weight.shape
    layer = PConv2d(in_channels, out_channels, kernel, stride, padding, bias=True)
    layer.to(weight.device, weight.dtype)
    kernels, shift = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    layer.regular_conv.weight = kernels
    # Its own parameter is (1, C, 1, 1). Seen through a view, the gradient has everyone's shape.
    del layer.bias
    layer.bias = shift.view(1, -1, 1, 1)
    return layer, kernels, shift
