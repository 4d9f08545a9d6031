"""Filling a canvas: in windows where the network allows it, from coarse to fine where holes are
deep.

A pixel far inside a hole is out of the network's sight: a U-Net of partial convolutions predicts 0
there. So a picture with such a hole is halved and filled first, in the same way; its prediction,
enlarged, is mixed in the deeper the more, and takes over before the network loses sight.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .canvas import Canvas, enlarged
from .composite import composite
from .hole_boxes import Box
from .hole_decoding import fill_holes
from .windows import Reach, plan_windows, reach_of, runs_in_windows

_DEPTHS = 8
"""In so many steps depth is measured, up to where the network's sight is sure to end. The network
alone predicts the first _FINE of them; the last one is the coarser picture's alone."""
_FINE = 3


@torch.no_grad()
def fill_canvas(net: nn.Module, canvas: Canvas, side: int, shrink: bool) -> None:
    """Write a prediction wherever the canvas is not known.

    Args:
        net: in evaluation mode.
        canvas: some of it is known.
        side: of the largest window, in pixels.
        shrink: let a network that has to see the picture whole see a smaller copy, if the picture
            has more pixels than a window.

    Raises:
        ValueError: the picture is too large for a network that has to see it whole, and `shrink`
            is False; or `side` is too small.
    """
    hole = ~canvas.known
    if not hole.any():
        return
    reach = reach_of(net)
    height, width = canvas.size
    windows: list[tuple[Box, Box]] = []
    if reach is not None and runs_in_windows(net):
        windows = plan_windows(hole, reach, side)
    elif height * width <= side**2:
        windows = [(canvas.whole, canvas.whole)]
    elif not shrink:
        raise ValueError(
            f"{type(net).__name__} has to see a picture whole, and {height} x {width} pixels are "
            f"more than window={side} squared: give a larger window (memory grows with it), "
            f"shrink=True, which predicts from a smaller copy, or a network that works in windows, "
            f"such as pconv_unet"
        )
    depth = None if reach is None else _Depth(canvas.known, reach)
    coarse = None
    if not windows or (depth is not None and depth.fades):
        coarse = canvas.halved()
        fill_canvas(net, coarse, side, shrink)
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
    parameter = next(net.parameters())
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

    def __init__(self, known: NDArray[np.bool_], reach: Reach) -> None:
        # Squares of this side, without a known pixel, are counted from the nearest with one.
        self.side = max(1, reach.sure // _DEPTHS)
        rows, columns = (-size % self.side for size in known.shape)
        padded = np.pad(known, ((0, rows), (0, columns)))
        squares = padded.reshape(padded.shape[0] // self.side, self.side, -1, self.side)
        reached = torch.from_numpy(squares.any((1, 3))).float()[None]
        depth = torch.zeros_like(reached)
        for _ in range(_DEPTHS - 1):
            depth += 1 - reached
            reached = F.max_pool2d(reached, 3, stride=1, padding=1)
        self.shares = ((_DEPTHS - 1 - depth) / (_DEPTHS - 1 - _FINE)).clamp(max=1)

    @property
    def fades(self) -> bool:
        """Whether the network is not alone anywhere."""
        return bool((self.shares < 1).any())

    def share(self, box: Box) -> Tensor:
        """The network's share for each pixel of a box, (1, 1, h, w), in [0, 1]."""
        return enlarged(self.shares, self.side, box)
