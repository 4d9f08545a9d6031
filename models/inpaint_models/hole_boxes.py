"""Where holes are, as boxes, and which boxes of each level of a decoder fill them.

A level convolves the deeper map, enlarged twice by nearest neighbour to the size of the skip, by
3x3 windows. Pixel i of the deeper map becomes 2i and 2i + 1, of odd sizes too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

_CALL, _LEAST_CALL = 1000, 40
"""What another call of a block costs beyond its pixels, in pixels of the deeper map: in the finest
level, and in the deep ones, where it is the reading of the weights. In between a pixel has four
times the work of one of the level above. Measured with `pconv_unet` on a CPU, for holes all over
the picture: anything from 600 to 2000 and from 20 to 40 is within 5 %."""

_TILE = 32
_TILES = 16
"""Holes are looked for in squares of _TILE pixels a side, or more where that would be more squares
along a side than _TILES."""

Size = tuple[int, int, int]
"""Pictures, rows and columns of a map."""


class Box(NamedTuple):
    """Pictures, rows and columns from `low` up to, but not including, `high`."""

    low: Size
    high: Size

    @property
    def volume(self) -> int:
        """Pixels in it."""
        return math.prod(high - low for low, high in zip(*self, strict=True))

    @property
    def slices(self) -> tuple[slice, slice, slice, slice]:
        """Its part of a tensor (N, C, H, W)."""
        pictures, rows, columns = (slice(*ends) for ends in zip(*self, strict=True))
        return pictures, slice(None), rows, columns

    def around(self, other: Box) -> Box:
        """The smallest box that holds both."""
        low = tuple(map(min, self.low, other.low))
        high = tuple(map(max, self.high, other.high))
        return Box(low, high)  # type: ignore[arg-type]

    def holds(self, other: Box) -> bool:
        """Whether all of the other lies in this one."""
        return self.around(other) == self

    def within(self, other: Box) -> Box:
        """The same box, counted from the other's lower corner."""
        n, top, left = other.low
        return Box(
            (self.low[0] - n, self.low[1] - top, self.low[2] - left),
            (self.high[0] - n, self.high[1] - top, self.high[2] - left),
        )

    def below(self, deep: Size) -> Box:
        """What a level needs of the deeper map, of size `deep`, to compute this box."""
        (n, top, left), (n_end, bottom, right) = self
        return Box(
            (n, max(0, (top - 1) // 2), max(0, (left - 1) // 2)),
            (n_end, min(deep[1], bottom // 2 + 1), min(deep[2], right // 2 + 1)),
        )

    def enlarged(self, size: Size) -> Box:
        """This box of a deeper map in the map above, of size `size`."""
        (n, top, left), (n_end, bottom, right) = self
        return Box(
            (n, 2 * top, 2 * left), (n_end, min(size[1], 2 * bottom), min(size[2], 2 * right))
        )

    def grown(self, size: Size) -> Box:
        """This box and the pixels around it that a map of size `size` has."""
        (n, top, left), (n_end, bottom, right) = self
        return Box(
            (n, max(0, top - 1), max(0, left - 1)),
            (n_end, min(size[1], bottom + 1), min(size[2], right + 1)),
        )


def find_holes(hole: Tensor) -> list[Box]:
    """Boxes that hold all holes, few of them and little else.

    Args:
        hole: (N, H, W), bool, on any device.
    """
    hole = hole.cpu()
    side = max(_TILE, math.ceil(max(hole.shape[1:]) / _TILES))
    tiles = F.max_pool2d(hole.float().unsqueeze(1), side, ceil_mode=True).squeeze(1) > 0
    half = hole.shape[0], (hole.shape[1] + 1) // 2, (hole.shape[2] + 1) // 2
    found = []
    for n in tiles.flatten(1).any(1).nonzero().flatten().tolist():
        runs = (
            Box((n, side * row, side * first), (n + 1, side * (row + 1), side * last))
            for row, first, last in _runs(tiles[n].tolist())
        )
        found += [_shrunk(box, hole) for box in merged(runs, _CALL, half)]
    return found


def plan_levels(wanted: Iterable[Box], sizes: Sequence[Size]) -> list[list[Box]]:
    """The boxes that each level is to compute, the finest level's first.

    Each box of `wanted` lies in one of the finest level's. What a box needs of the deeper map
    (`Box.below`) lies in one of the next level's.

    Args:
        wanted: boxes of the finest map.
        sizes: of all maps, from the finest to the deepest.
    """
    plan = []
    for level, (size, deep) in enumerate(pairwise(sizes)):
        call = max(_LEAST_CALL, _CALL // 4**level)
        boxes = merged(wanted, call, deep)
        whole = Box((0, 0, 0), size)
        if _cost([whole], call, deep) <= _cost(boxes, call, deep):
            boxes = [whole]
        plan.append(boxes)
        wanted = [box.below(deep) for box in boxes]
    return plan


def merged(boxes: Iterable[Box], call: int, deep: Size) -> list[Box]:
    """Boxes that hold all of `boxes`: two become one where that costs no more.

    Args:
        boxes: of one level; they may overlap.
        call: what a box costs beyond the pixels that it needs of the deeper map, in such pixels.
        deep: size of that map.
    """
    waiting, kept = list(boxes)[::-1], list[Box]()
    while waiting:
        box = waiting.pop()
        for i, other in enumerate(kept):
            both = box.around(other)
            if _cost([both], call, deep) <= _cost([box, other], call, deep):
                del kept[i]
                waiting.append(both)
                break
        else:
            kept.append(box)
    return kept


def _cost(boxes: Iterable[Box], call: int, deep: Size) -> int:
    return sum(box.below(deep).volume + call for box in boxes)


def _runs(rows: list[list[bool]]) -> Iterator[tuple[int, int, int]]:
    """Row, first column and the column after the last of all runs of True."""
    for row, values in enumerate(rows):
        first = None
        for column, value in enumerate([*values, False]):
            if value and first is None:
                first = column
            elif not value and first is not None:
                yield row, first, column
                first = None


def _shrunk(box: Box, hole: Tensor) -> Box:
    """The smallest box around the holes in a box of one picture."""
    n, top, left = box.low
    part = hole[n, top : box.high[1], left : box.high[2]]
    rows, columns = (part.any(axis).nonzero().flatten() for axis in (1, 0))
    return Box(
        (n, top + int(rows[0]), left + int(columns[0])),
        (n + 1, top + int(rows[-1]) + 1, left + int(columns[-1]) + 1),
    )
