"""Which part of a picture a network has to see for a hole: all that its prediction depends on.

A U-Net of partial convolutions with fixed statistics computes each pixel from those within a known
distance. Run on a window that holds them, whose upper left corner is a multiple of the deepest
map's step, it gives the numbers that it gives on the whole picture, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from .hole_boxes import Box
from .hole_decoding import has_fixed_statistics
from .partial_unet import PartialUNet


class Reach(NamedTuple):
    """How far a U-Net of partial convolutions looks, in pixels.

    Attributes:
        before: up and to the left, at most.
        after: down and to the right, at most.
        sure: so far from a known pixel every pixel is still predicted, in any direction.
        step: what its corner has to be a multiple of for a window to halve as the picture does.
    """

    before: int
    after: int
    sure: int
    step: int

    @property
    def margin(self) -> int:
        """The most by which a window is longer than what is to be predicted in it."""
        return self.before + self.step - 1 + self.after

    def window(self, box: Box, height: int, width: int) -> Box:
        """What has to be seen for the pixels in `box`, of a picture of one size."""
        (n, top, left), (n_end, bottom, right) = box
        low = tuple(max(0, (x - self.before) // self.step * self.step) for x in (top, left))
        return Box(
            (n, low[0], low[1]),
            (n_end, min(height, bottom + self.after), min(width, right + self.after)),
        )


def reach_of(net: nn.Module) -> Reach | None:
    """The reach of a U-Net of partial convolutions; None for another network."""
    if not isinstance(net, PartialUNet):
        return None
    before = after = sure = 0
    for level in range(1, net.levels + 1):
        step = 2 ** (level - 1)
        encoder, decoder = (
            net.unit(f"{name}{level}").conv.kernel_size[0] // 2 for name in ("enc", "dec")
        )
        # Enlarged by nearest neighbour, a pixel may come from one that begins a step before it.
        before += step * (encoder + decoder + 1)
        after += step * (encoder + decoder)
        sure += step * encoder
    return Reach(before, after, sure, 2**net.levels)


def runs_in_windows(net: nn.Module) -> bool:
    """Whether a window gives the numbers of the whole picture."""
    return isinstance(net, PartialUNet) and all(
        has_fixed_statistics(net.unit(f"{name}{level}").norm)
        for name in ("enc", "dec")
        for level in range(1, net.levels + 1)
    )


def plan_windows(hole: NDArray[np.bool_], reach: Reach, side: int) -> list[tuple[Box, Box]]:
    """Boxes that hold all holes of a picture, each with the window to see for it.

    Args:
        hole: (H, W).
        reach: of the network.
        side: of the largest window, in pixels.

    Raises:
        ValueError: `side` leaves no room beside what the network has to see.
    """
    height, width = hole.shape
    if max(height, width) > side <= reach.margin:
        raise ValueError(
            f"window must be at least {reach.margin + 1} for this network, which looks up to "
            f"{reach.before} pixels far, got {side}"
        )
    waiting, kept = list(_cells(hole, side, reach.margin))[::-1], list[Box]()

    def window(box: Box) -> Box:
        return reach.window(box, height, width)

    while waiting:
        box = waiting.pop()
        for i, other in enumerate(kept):
            both = box.around(other)
            large = window(both)
            sides = (high - low for low, high in zip(*large, strict=True))
            if max(sides) <= side and large.volume <= window(box).volume + window(other).volume:
                del kept[i]
                waiting.append(both)
                break
        else:
            kept.append(box)
    return [(box, window(box)) for box in kept]


def _cells(hole: NDArray[np.bool_], side: int, margin: int) -> Iterator[Box]:
    """The smallest boxes around what is missing in each cell of a grid whose windows fit."""
    rows, columns = (size if size <= side else side - margin for size in hole.shape)
    for i in range(math.ceil(hole.shape[0] / rows)):
        for j in range(math.ceil(hole.shape[1] / columns)):
            top, left = i * rows, j * columns
            cell = hole[top : top + rows, left : left + columns]
            if cell.any():
                across, down = np.flatnonzero(cell.any(0)), np.flatnonzero(cell.any(1))
                yield Box(
                    (0, top + int(down[0]), left + int(across[0])),
                    (1, top + int(down[-1]) + 1, left + int(across[-1]) + 1),
                )
