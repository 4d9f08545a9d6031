"""Masks whose channels come in groups that share one plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ChannelMask:
    """A C-channel mask held as one plane for each group of equal channels.

    After a U-Net skip the mask is an up-sampled one concatenated with the skip's: C1 channels that
    share one plane, C2 that share another. The result of a partial convolution equals that of
    the full (N, C, ...) mask, at the cost of G planes.

    Args:
        planes: (N or 1, G, ...) mask planes, 1 = valid; bool, integer or floating.
        channels: how many channels each plane stands for; G positive numbers.

    Raises:
        TypeError: planes is not a tensor, or channels are not whole numbers.
        ValueError: the count of planes and channels differ, or a channel count is not positive.
    """

    planes: Tensor
    channels: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that planes and channels belong together."""
        if not isinstance(self.planes, Tensor):
            raise TypeError(f"planes: expected a tensor, got {type(self.planes).__name__}")
        if not isinstance(self.channels, Sequence) or not all(
            isinstance(count, (int, torch.SymInt)) for count in self.channels
        ):
            raise TypeError(f"channels: expected whole numbers, got {self.channels!r}")
        object.__setattr__(self, "channels", tuple(self.channels))
        if self.planes.dim() < 3:
            raise ValueError(f"planes: expected (N, G, ...), got shape {tuple(self.planes.shape)}")
        if len(self.channels) != self.planes.shape[1]:
            raise ValueError(
                f"channels: expected {self.planes.shape[1]} counts, one for each plane, "
                f"got {len(self.channels)}"
            )
        if any(count <= 0 for count in self.channels):
            raise ValueError(f"channels: expected positive counts, got {self.channels}")

    def dense(self) -> Tensor:
        """The full (N, C, ...) mask, C the sum of ``channels``."""
        repeats = torch.tensor(self.channels, device=self.planes.device)
        return self.planes.repeat_interleave(repeats, dim=1, output_size=sum(self.channels))
