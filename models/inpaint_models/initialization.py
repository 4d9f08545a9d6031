"""How weights start, where it differs from PyTorch's defaults."""

from __future__ import annotations

from torch import nn

from inpaint_ops import PartialConv2d


def init_kaiming(network: nn.Module) -> None:
    """Partial convolutions: weights N(0, 2 / fan_in) (Kaiming, a = 0), biases 0.

    As public re-implementations of Liu et al. (2018) do. All other modules stay as they are.
    """
    for module in network.modules():
        if isinstance(module, PartialConv2d):
            nn.init.kaiming_normal_(module.weight, a=0.0, mode="fan_in")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_normal(network: nn.Module, std: float = 0.02) -> None:
    """Convolutions: weights N(0, std^2), biases 0; batch norm: weights N(1, std^2), biases 0.

    Isola et al. (2017), section 6.2: std = 0.02; batch norm as in the authors' code.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, std)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, std)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
