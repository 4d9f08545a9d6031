"""A picture while it is being filled: its values as they were given, and which are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from .hole_boxes import Box

Values = NDArray[Any]
_BAND = 256
"""So many rows are halved at once; an even number."""


class Canvas:
    """Values of any dtype; only what is read is converted to what networks take.

    Attributes:
        values: (C, H, W), integers or floats; written to.
        known: (H, W), bool.
        low, high: (C, 1, 1), what a network takes as 0 and as 1; float32 or float64.
        only_nan: what is written are NaN only, not all values of a pixel that is not known.
    """

    def __init__(
        self,
        values: Values,
        known: NDArray[np.bool_],
        low: Values,
        high: Values,
        only_nan: bool = False,
    ) -> None:
        self.values = values
        self.known = known
        self.low = low
        self.high = high
        self.only_nan = only_nan

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.known.shape[0], self.known.shape[1]

    @property
    def whole(self) -> Box:
        """All of it."""
        return Box((0, 0, 0), (1, *self.size))

    def read(self, box: Box, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """A part as networks take it, 0 in holes, and its mask: (1, C, h, w), (1, 1, h, w)."""
        _, _, rows, columns = box.slices
        known = self.known[rows, columns]
        span = self.high - self.low
        values = (self.values[:, rows, columns] - self.low) / np.where(span == 0, 1, span)
        # In one order of axes whatever the values are in: convolutions round by it.
        image = np.ascontiguousarray(np.where(known, values, 0))
        mask = torch.tensor(known)
        return torch.from_numpy(image)[None].to(dtype), mask[None, None].to(dtype)

    def write(self, box: Box, prediction: Tensor) -> None:
        """Put a prediction, (1, C, h, w), where the picture is not known.

        It is clamped to what networks know, [0, 1]; for integers it is rounded, and clipped to what
        they hold.
        """
        _, _, rows, columns = box.slices
        part = self.values[:, rows, columns]
        # In double precision `low` and `high` come out as they are.
        unit = prediction[0].clamp(0, 1).double().cpu().numpy()
        values = self.low * (1 - unit) + self.high * unit
        if not np.issubdtype(part.dtype, np.floating):
            # `low` and `high` may lie beyond what the dtype holds.
            values = np.rint(values).clip(np.iinfo(part.dtype).min, np.iinfo(part.dtype).max)
        hole = np.isnan(part) if self.only_nan else ~self.known[rows, columns]
        np.copyto(part, values.astype(part.dtype), where=hole)

    def halved(self) -> Canvas:
        """A copy of half the size, sides rounded up: means of what is known in 2 x 2 pixels."""
        height, width = self.size
        bands = []
        for top in range(0, height, _BAND):
            band = Box((0, top, 0), (1, min(height, top + _BAND), width))
            image, mask = (
                F.avg_pool2d(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)), 2)
                for x in self.read(band)
            )
            bands.append((image / mask.clamp(min=0.25), mask > 0))
        values, known = (torch.cat(parts, 2)[0].numpy() for parts in zip(*bands, strict=True))
        one = np.ones((len(values), 1, 1), np.float32)
        return Canvas(values, known[0], 0 * one, one)


def enlarged(small: Values | Tensor, factor: int, box: Box) -> Tensor:
    """A part of a map enlarged by bilinear interpolation.

    Args:
        small: (C, h, w), float32.
        factor: by how much.
        box: of the enlarged map.

    Returns:
        (1, C, height, width of the box).
    """
    x = torch.as_tensor(small)
    inside = []
    for axis in (1, 2):
        # One more on each side, so that the interpolation meets no border but the map's own.
        first, last = box.low[axis] // factor - 1, -(-box.high[axis] // factor) + 1
        x = x.index_select(axis, torch.arange(first, last).clamp(0, x.shape[axis] - 1))
        inside.append(slice(box.low[axis] - first * factor, box.high[axis] - first * factor))
    y = F.interpolate(x[None], scale_factor=factor, mode="bilinear", align_corners=False)
    return y[:, :, inside[0], inside[1]]
