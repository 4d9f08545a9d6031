"""Region normalization: the clean module, and drop-ins for the published ``RN_B`` and ``RN_L``."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from ..functional import attention_region_norm, region_norm
from ..masks import check_mask


def resized(mask: Tensor, x: Tensor) -> Tensor:
    """The mask at the spatial size of x, by nearest neighbour as the published code does."""
    check_mask(mask)
    if mask.dim() != x.dim():
        return mask
    # An exported program, made for any size, does not ask whether two of them are equal.
    if not torch.compiler.is_exporting() and mask.shape[2:] == x.shape[2:]:
        return mask
    if not mask.is_floating_point():
        return F.interpolate((mask != 0).to(torch.uint8), size=x.shape[2:], mode="nearest") != 0
    return F.interpolate(mask, size=x.shape[2:], mode="nearest")


class RegionNorm2d(nn.Module):
    """Region normalization with an affine map for each region, as the paper writes it.

    Yu et al. 2020, equations 2 to 7. Unlike the published ``RN_B``, ``weight`` and ``bias`` act on
    their own region only, the mask is 1 = valid, and its size must be that of the input.

    Args:
        num_features: C.
        eps: added to the variance.
        affine: learn ``weight`` and ``bias``, each (2, C): row 0 valid, row 1 hole.
        stats: "batch" or "instance".
        scale_eps: eps grows as the region shrinks, as the published code computes it.

    ``process_group`` (attribute, None): statistics over the batches of all its processes; set by
    :func:`convert_sync_norms`.
    """

    process_group: dist.ProcessGroup | None = None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        affine: bool = True,
        stats: str = "batch",
        scale_eps: bool = True,
    ) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(f"num_features: expected a positive number, got {num_features}")
        if stats not in ("batch", "instance"):
            raise ValueError(f"stats: expected 'batch' or 'instance', got {stats!r}")
        self.num_features = num_features
        self.eps = eps
        self.stats = stats
        self.scale_eps = scale_eps
        self.weight = nn.Parameter(torch.ones(2, num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(2, num_features)) if affine else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalize x (N, C, H, W) by the regions of mask (N or 1, 1, H, W), 1 = valid."""
        return region_norm(
            x, mask, self.weight, self.bias, self.eps, self.stats, self.scale_eps,
            self.process_group,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """The arguments."""
        return (
            f"{self.num_features}, eps={self.eps}, affine={self.weight is not None}, "
            f"stats={self.stats!r}"
        )


class RN_B(nn.Module):
    """Basic region normalization for encoders; drop-in for geekyutao/RN's ``RN_B``.

    Yu et al. 2020, section 3.2. Kept from the published module: **mask 1 = hole**, resized to x by
    nearest neighbour; gammas and betas start at zero; with n the normalized value::

        y = n * mask * (1 + foreground_gamma) + foreground_beta
          + n * (1 - mask) * (1 + background_gamma) + background_beta

    so both betas reach every pixel (:class:`RegionNorm2d` is the form without that). Different: no
    overflow of sums in half precision, no NaN from an empty region, and the affine map costs no
    pass of its own.

    Args:
        feature_channels: C.

    ``process_group``: as in :class:`RegionNorm2d`.
    """

    process_group: dist.ProcessGroup | None = None

    def __init__(self, feature_channels: int) -> None:
        super().__init__()
        self.foreground_gamma = nn.Parameter(torch.zeros(feature_channels))
        self.foreground_beta = nn.Parameter(torch.zeros(feature_channels))
        self.background_gamma = nn.Parameter(torch.zeros(feature_channels))
        self.background_beta = nn.Parameter(torch.zeros(feature_channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalize x (N, C, H, W); mask (N or 1, 1, h, w), 1 = hole."""
        # Row 0 belongs to the pixels where the mask is 1: here those are the holes.
        weight = 1 + torch.stack([self.foreground_gamma, self.background_gamma])
        bias = (self.foreground_beta + self.background_beta).expand(2, -1)
        return region_norm(x, resized(mask, x), weight, bias, process_group=self.process_group)

    def extra_repr(self) -> str:
        """C."""
        return str(self.foreground_gamma.shape[0])


class _SelfAwareAffine(nn.Module):
    """Holder of RN_L's parameters, under the names of the published module."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv1 = nn.Conv2d(2, 1, kernel_size, padding=padding, bias=False)
        self.gamma_conv = nn.Conv2d(1, 1, kernel_size, padding=padding)
        self.beta_conv = nn.Conv2d(1, 1, kernel_size, padding=padding)


class RN_L(nn.Module):
    """Learnable region normalization for decoders; drop-in for geekyutao/RN's ``RN_L``.

    Yu et al. 2020, section 3.3; semantics as in :func:`functional.attention_region_norm`. It finds
    its regions itself: no mask. state_dict keys as published: ``sa.conv1.weight``,
    ``sa.gamma_conv.*``, ``sa.beta_conv.*``.

    Args:
        feature_channels: C, kept for compatibility: the parameters do not depend on it.
        threshold: attention from which on a pixel counts as valid.

    ``process_group``: as in :class:`RegionNorm2d`.
    """

    process_group: dist.ProcessGroup | None = None

    def __init__(self, feature_channels: int, threshold: float = 0.8) -> None:
        super().__init__()
        self.feature_channels = feature_channels
        self.threshold = threshold
        self.sa = _SelfAwareAffine(7)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (N, C, H, W)."""
        gamma, beta = self.sa.gamma_conv, self.sa.beta_conv
        assert gamma.bias is not None
        assert beta.bias is not None
        return attention_region_norm(
            x, self.sa.conv1.weight, gamma.weight, gamma.bias, beta.weight, beta.bias,
            self.threshold, process_group=self.process_group,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.feature_channels}, threshold={self.threshold}"
