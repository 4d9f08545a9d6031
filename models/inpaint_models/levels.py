"""Filling a canvas: in windows where the network allows it, from coarse to fine where holes are
deep.

The deeper inside a hole, the worse a prediction: a network knows holes such as it was trained on,
and a U-Net of partial convolutions predicts 0 where it sees nothing that is known. So a picture
with a deep hole is halved and filled first, in the same way; its prediction, enlarged, is mixed in
the deeper the more, and takes over in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .canvas import Canvas, enlarged
from .composite import composite
from .hole_boxes import Box
from .hole_decoding import fill_holes
from .windows import plan_windows, reach_of, runs_in_windows

_STEPS = 8
"""In so many steps depth is measured. The network alone predicts the first _ALONE of them; in the
last one it has no share."""
_ALONE = 3


@dataclass(frozen=True)
class Limits:
    """What a network is given.

    Attributes:
        window: side, in pixels, of the largest part that it sees at once.
        depth: so far from what is known, in pixels, it has no share in a prediction any more.
        shrink: whether a network that has to see a picture whole may see a smaller copy, if the
            picture has more pixels than a window.
    """

    window: int = 1536
    depth: int = 32
    shrink: bool = False


@torch.no_grad()
def fill_canvas(net: nn.Module, canvas: Canvas, limits: Limits) -> None:
    """Write a prediction wherever the canvas is not known.

    Args:
        net: in evaluation mode.
        canvas: some of it is known.
        limits: of what it is given.

    Raises:
        ValueError: the picture is too large for a network that has to see it whole, or windows are
            too small for one that does not.
    """
    hole = ~canvas.known
    if not hole.any():
        return
    reach = reach_of(net)
    height, width = canvas.size
    windows: list[tuple[Box, Box]] = []
    if reach is not None and runs_in_windows(net):
        windows = plan_windows(hole, reach, limits.window)
    elif height * width <= limits.window**2:
        windows = [(canvas.whole, canvas.whole)]
    elif not limits.shrink:
        raise ValueError(
            f"{type(net).__name__} has to see a picture whole, and {height} x {width} pixels are "
            f"more than window={limits.window} squared: give a larger window (memory grows with "
            f"it), shrink=True, which predicts from a smaller copy, or a network that works in "
            f"windows, such as pconv_unet"
        )
    depth = None if reach is None else _Depth(canvas.known, min(limits.depth, reach.sure))
    coarse = None
    if not windows or (depth is not None and depth.fades):
        coarse = canvas.halved()
        fill_canvas(net, coarse, limits)
    for box, window in windows or [(box, box) for box in _bands(canvas)]:
        _fill_box(net, canvas, box, window if windows else None, coarse, depth)


def _fill_box(
    net: nn.Module,
    canvas: Canvas,
    box: Box,
    window: Box | None,
    coarse: Canvas | None,
    depth: _Depth | None,
) -> None:
    """Write the prediction of one box: the network's on a window, the coarser one, or a mixture."""
    below = None if coarse is None else enlarged(coarse.values, 2, box)
    share = None if depth is None else depth.share(box)
    if window is None or (below is not None and share is not None and not bool(share.any())):
        assert below is not None
        canvas.write(box, below)
        return
    parameter = next(net.parameters(), torch.empty(0))
    image, mask = (x.to(parameter.device) for x in canvas.read(window, parameter.dtype))
    if len(canvas.values) == 1:
        image = image.expand(-1, getattr(net, "in_channels", 1), -1, -1)
    part = box.within(window)
    if runs_in_windows(net):
        prediction = fill_holes(net, image, mask, only=part)
    else:
        prediction = composite(net(image, mask), image, mask)
    prediction = prediction[part.slices].cpu()
    if len(canvas.values) == 1:
        prediction = prediction.mean(1, keepdim=True)
    if below is not None and share is not None:
        prediction = torch.where(
            share == 1, prediction, torch.lerp(below, prediction.float(), share)
        )
    canvas.write(box, prediction)


def _bands(canvas: Canvas) -> list[Box]:
    """All of a canvas, in parts."""
    height, width = canvas.size
    return [Box((0, top, 0), (1, min(height, top + 256), width)) for top in range(0, height, 256)]


class _Depth:
    """How deep inside a hole pixels lie, and what share the network has in their prediction."""

    def __init__(self, known: NDArray[np.bool_], depth: int) -> None:
        # Squares of this side, without a known pixel, are counted from the nearest with one.
        self.side = max(1, depth // _STEPS)
        rows, columns = (-size % self.side for size in known.shape)
        padded = np.pad(known, ((0, rows), (0, columns)))
        squares = padded.reshape(padded.shape[0] // self.side, self.side, -1, self.side)
        reached = torch.from_numpy(squares.any((1, 3))).float()[None]
        steps = torch.zeros_like(reached)
        for _ in range(_STEPS - 1):
            steps += 1 - reached
            reached = F.max_pool2d(reached, 3, stride=1, padding=1)
        self.shares = ((_STEPS - 1 - steps) / (_STEPS - 1 - _ALONE)).clamp(max=1)

    @property
    def fades(self) -> bool:
        """Whether the network is not alone anywhere."""
        return bool((self.shares < 1).any())

    def share(self, box: Box) -> Tensor:
        """The network's share for each pixel of a box, (1, 1, h, w), in [0, 1]."""
        return enlarged(self.shares, self.side, box)
